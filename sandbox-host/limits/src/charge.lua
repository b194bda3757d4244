-- Charges several limits: all of them or none.
-- KEYS: one different key per limit, then one key per reservation.
-- ARGV: nine words per limit:
--   bucket: 'b' or 't', rate (microseconds, units), cost and capacity (each in whole microseconds
--           and a fraction)
--   day:    'd', 0, 0, cost, 0, limit, 0
--   then, for both: the reserved units and how long to keep the reservation, in milliseconds.
--           These are 0, 0 for a final charge.
-- Returns 'passes now_us found...', where found is the state before the charge, two numbers per
-- limit. Returns '!n' if the n-th key has another format.
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
    -- A bucket may have become smaller, or the clock may have gone back. Then the used quota is
    -- capped at the capacity. The stored value is not reduced, because a gate with the previous,
    -- larger limit still needs it.
    if longer(s.was, s.part, room, room_part) then
      s.was, s.part, s.rebased = room, room_part, false
    end
    found[n] = string.format('%.0f %.0f', s.was, s.part)
    -- A refused charge stores only a change of rate, so that quota refills at the new rate from now.
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
  -- A reservation that exists is kept. A second one under the same name cannot be refunded.
  for _, one in ipairs(reserved) do set(one[1], one[2], one[3], 'NX') end
end
return passes .. ' ' .. string.format('%.0f', now) .. ' ' .. table.concat(found, ' ')
