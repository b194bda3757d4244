-- Charges several limits, all of them or none. One key a limit, no two the same, behind them one for each reservation, and nine words a limit:
--   bucket: 'b' or 't', pace (microseconds, for so many units), cost and room (whole microseconds and parts of one)
--   day:    'd', 0, 0, cost, 0, limit, 0
--   and of each the units that are reserved and for how long that is known, milliseconds: 0, 0 for what is spent for good.
-- Answers 'passes now_us found...': what was there before, two numbers a limit; or '!n' where the n-th key holds something else.
local WORDS = 9
local count = #ARGV / WORDS
local passes, found, states, rebased, reserved = 1, {}, {}, {}, {}
local next_reserved = count
for n = 1, count do
  local at = (n - 1) * WORDS
  local kind, interval, per = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local cost, cost_part = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local room, room_part = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local units, keep_ms = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  local stored = redis.pcall('GET', KEYS[n])
  if type(stored) == 'table' then return '!' .. n end
  local record
  if kind == 'd' then
    local day, spent = day_of(stored)
    if not day then return '!' .. n end
    if spent + cost > room then passes = 0 end
    found[n] = string.format('%.0f %.0f', day, spent)
    states[n] = { written_day(day, spent + cost) }
    record = string.format('d %.0f %.0f', units, day)
  else
    local s = bucket(kind, stored, interval, per)
    if not s then return '!' .. n end
    -- A smaller bucket, or a clock that went back: nobody owes more than all of it. What is owed to a larger one stays written down: a gate that
    -- still has the larger one goes by it, and must not find it forgotten.
    if longer(s.was, s.part, room, room_part) then
      s.was, s.part, s.rebased = room, room_part, false
    end
    found[n] = string.format('%.0f %.0f', s.was, s.part)
    -- Of a refused charge only a change of pace is kept, so that what is owed comes back at the new one from now on.
    if s.rebased then rebased[n] = { written(kind, s, interval, per, s.was, s.part) } end
    local whole, part = s.was + cost, s.part + cost_part
    if part >= per then whole, part = whole + 1, part - per end
    if longer(whole, part, room, room_part) then passes = 0 end
    grown(s, whole)
    states[n] = { written(kind, s, interval, per, whole, part) }
    record = string.format('t %.0f %.0f %.0f %.0f %.0f', units, now + whole, s.born, s.returned, s.period)
  end
  if keep_ms > 0 then
    next_reserved = next_reserved + 1
    reserved[#reserved + 1] = { KEYS[next_reserved], record, keep_ms }
  end
end
for n = 1, count do
  local state = passes == 1 and states[n] or rebased[n]
  if state then set(KEYS[n], state[1], state[2]) end
end
if passes == 1 then
  -- One that is known stays: whoever reserves under its name again has nothing to give back.
  for _, one in ipairs(reserved) do set(one[1], one[2], one[3], 'NX') end
end
return passes .. ' ' .. string.format('%.0f', now) .. ' ' .. table.concat(found, ' ')
