-- Charges several limits, all of them or none. One key a limit, no two the same, and seven numbers for each:
--   bucket: 'b', pace (microseconds, for so many units), cost and room (whole microseconds and parts of one)
--   day:    'd', 0, 0, cost, 0, limit, 0
-- Every number is whole and below 2^53, so that doubles add and compare them exactly.
-- Answers 'passes now_us found...': what was there before, two numbers a limit; or '!n' where the n-th key holds something else.
local DAY_US = 86400000000
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local passes, found, states, rebased = 1, {}, {}, {}
for n, key in ipairs(KEYS) do
  local at = (n - 1) * 7
  local kind, interval, per = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local cost, cost_part = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local room, room_part = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local stored = redis.pcall('GET', key)
  if type(stored) == 'table' then return '!' .. n end
  local was, was_part, after, ttl_ms
  if kind == 'b' then
    was, was_part = 0, 0
    if stored then
      local i, p, full, part = string.match(stored, '^b (%d+) (%d+) (%d+) (%d+)$')
      if not full then return '!' .. n end
      i, p, full, part = tonumber(i), tonumber(p), tonumber(full), tonumber(part)
      rebased[n] = i ~= interval or p ~= per
      if full >= now then
        was, was_part = full - now, part
        -- What is owed at another pace: the same units at this one, rounded up.
        if rebased[n] then
          was, was_part = math.floor((was + 1) / (i / p) * (interval / per)) + 1, 0
        end
      end
      -- A smaller bucket, or a clock that went back: nobody owes more than all of it. What is owed to a larger one stays written down: a gate that
      -- still has the larger one goes by it, and must not find it forgotten.
      if was > room or (was == room and was_part > room_part) then
        was, was_part = room, room_part
        rebased[n] = false
      end
    end
    local whole, part = was + cost, was_part + cost_part
    if part >= per then whole, part = whole + 1, part - per end
    if whole > room or (whole == room and part > room_part) then passes = 0 end
    after = string.format('b %.0f %.0f %.0f %.0f', interval, per, now + whole, part)
    ttl_ms = math.floor(whole / 1000) + 1000
  else
    local today = math.floor(now / DAY_US)
    was, was_part = today, 0
    if stored then
      local day, units = string.match(stored, '^d (%d+) (%d+)$')
      if not units then return '!' .. n end
      day, units = tonumber(day), tonumber(units)
      -- A clock that went back over midnight goes on in the day that it had reached.
      if day == today or day == today + 1 then was, was_part = day, units end
    end
    if was_part + cost > room then passes = 0 end
    after = string.format('d %.0f %.0f', was, was_part + cost)
    ttl_ms = math.floor(((was + 1) * DAY_US - now) / 1000) + 1000
  end
  found[n] = string.format('%.0f %.0f', was, was_part)
  -- Of a refused charge only a change of pace is kept, so that what is owed comes back at the new one from now on.
  if rebased[n] then
    rebased[n] = { string.format('b %.0f %.0f %.0f %.0f', interval, per, now + was, was_part), math.floor(was / 1000) + 1000 }
  end
  states[n] = { after, ttl_ms }
end
for n, key in ipairs(KEYS) do
  local state = passes == 1 and states[n] or rebased[n]
  if state then
    redis.call('SET', key, state[1], 'PX', string.format('%.0f', state[2]))
  end
end
return passes .. ' ' .. string.format('%.0f', now) .. ' ' .. table.concat(found, ' ')
