-- Settles reservations, each once: what was not used of one comes back, as far as time has not given it back already, and what was used beyond it
-- is spent. One key a limit, behind them one for each reservation, and nine words a limit, as for a charge: the cost is the change; then what was
-- reserved, and '-' for what comes back or '+'.
-- Answers a word for each of them: 'u' for one that is not known (any more), 'd,day,units,after', 'b,owed,part,least,after,part'; or '!n' where the
-- n-th key holds something else. Nothing is written then.
local WORDS = 9
local count = #ARGV / WORDS
local told, writes = {}, {}
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
    told[n] = 'u'
  elseif kind == 'd' then
    local day, spent = day_of(stored)
    if not day then return '!' .. n end
    local after = spent
    if not back then
      after = spent + change
    elseif day == tonumber(rest) then
      after = math.max(spent - change, 0)
    else
      -- That day is over.
      change = 0
    end
    told[n] = string.format('d,%.0f,%.0f,%.0f', day, spent, after)
    writes[n] = after ~= spent and { written_day(day, after) }
  else
    local s = bucket(kind, stored, interval, per)
    local full, born, returned, period = string.match(rest, '^(%d+) (%d+) (%d+) (%d+)$')
    if not s or not born then return '!' .. n end
    local least, whole, part = 0, s.was, s.part
    if back then
      -- No more than the bucket has owed at any time since: `gcra::State::least_since`.
      if not s.rebased and s.born == tonumber(born) then
        local periods = s.period - tonumber(period)
        local by_period = periods == 0 and s.least or periods == 1 and s.before or 0
        local by_return = math.max(tonumber(full) - now, 0) - (s.returned - tonumber(returned))
        least = math.min(math.max(by_period, by_return, 0), s.was)
      end
      if longer(change, change_part, least, 0) then change, change_part = least, 0 end
      whole, part = whole - change, part - change_part
      if part < 0 then whole, part = whole - 1, part + per end
      -- Rounded so that nobody gets more by it.
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
    told[n] = string.format('b,%.0f,%.0f,%.0f,%.0f,%.0f', s.was, s.part, least, whole, part)
    if whole ~= s.was or part ~= s.part then
      writes[n] = { written(kind, s, interval, per, whole, part) }
    end
  end
end
for n = 1, count do
  if writes[n] then set(KEYS[n], writes[n][1], writes[n][2]) end
  if told[n] ~= 'u' then redis.call('DEL', KEYS[count + n]) end
end
return table.concat(told, ' ')
