-- Settles reservations, each once. Unused quota is refunded, unless it has already refilled with
-- time. Use beyond the reservation is charged.
-- KEYS: one key per limit, then one key per reservation.
-- ARGV: nine words per limit, as for a charge. The cost is the difference. The last two words are
--   the reserved units, and '-' for a refund or '+' for a charge.
-- Returns one word per reservation: 'u' if it is unknown or expired, 'd,day,units,after' or
-- 'b,used,fraction,least,after,fraction'. Returns '!n' if the n-th key has another format; then
-- nothing is written.
local WORDS = 9
local count = #ARGV / WORDS
local results, writes = {}, {}
for n = 1, count do
  local at = (n - 1) * WORDS
  local kind, interval, per = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local change, change_part = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local room, room_part = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local units, back = ARGV[at + 8], ARGV[at + 9] == '-'
  local stored, record = redis.pcall('GET', KEYS[n]), redis.pcall('GET', KEYS[count + n])
  if type(stored) == 'table' or type(record) == 'table' then return '!' .. n end
  local reserved, rest = string.match(record or '', '^' .. kind .. ' (%d+) (.+)$')
  if reserved ~= units then
    results[n] = 'u'
  elseif kind == 'd' then
    local day, spent = day_of(stored)
    if not day then return '!' .. n end
    local after = spent
    if not back then
      after = spent + change
    elseif day == tonumber(rest) then
      after = math.max(spent - change, 0)
    else
      -- The day of the reservation is over.
      change = 0
    end
    results[n] = string.format('d,%.0f,%.0f,%.0f', day, spent, after)
    writes[n] = after ~= spent and { written_day(day, after) }
  else
    local s = bucket(kind, stored, interval, per)
    local full, born, returned, period = string.match(rest, '^(%d+) (%d+) (%d+) (%d+)$')
    if not s or not born then return '!' .. n end
    local least, whole, part = 0, s.was, s.part
    if back then
      -- The refund is at most the least used quota since the reservation:
      -- `gcra::State::least_since`.
      if not s.rebased and s.born == tonumber(born) then
        local periods = s.period - tonumber(period)
        local by_period = periods == 0 and s.least or periods == 1 and s.before or 0
        local by_return = math.max(tonumber(full) - now, 0) - (s.returned - tonumber(returned))
        least = math.min(math.max(by_period, by_return, 0), s.was)
      end
      if longer(change, change_part, least, 0) then change, change_part = least, 0 end
      whole, part = whole - change, part - change_part
      if part < 0 then whole, part = whole - 1, part + per end
      -- Round so that a refund is never too large.
      local set_back = change + (change_part > 0 and 1 or 0)
      s.returned = s.returned + set_back
      s.least, s.before = math.min(s.least, least - set_back), math.min(s.before, least - set_back)
    else
      whole, part = whole + change, part + change_part
      if part >= per then whole, part = whole + 1, part - per end
      if longer(whole, part, room, room_part) then whole, part = room, room_part end
      if longer(s.was, s.part, whole, part) then whole, part = s.was, s.part end
      grown(s, whole)
    end
    results[n] = string.format('b,%.0f,%.0f,%.0f,%.0f,%.0f', s.was, s.part, least, whole, part)
    if whole ~= s.was or part ~= s.part then
      writes[n] = { written(kind, s, interval, per, whole, part) }
    end
  end
end
for n = 1, count do
  if writes[n] then set(KEYS[n], writes[n][1], writes[n][2]) end
  if results[n] ~= 'u' then redis.call('DEL', KEYS[count + n]) end
end
return table.concat(results, ' ')
