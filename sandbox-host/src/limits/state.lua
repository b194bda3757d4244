-- Put before each of the scripts: what is stored of a limit, and what that owes. Every number is whole and below 2^53, so that doubles add and
-- compare them exactly.
--   'b' pace full                                         a bucket: microseconds for so many units; when it is full again, and parts of one
--   't' pace full born returned period least before       one of which reservations come back: `gcra::State`, in microseconds. What was
--                                                         reserved before it was `born` is none of its own: its pace was another, or it lapsed
--   'd' day units                                         what was spent of a day
local DAY_US = 86400000000
-- A bucket that has been set back by so much begins anew, so that all of it stays below 2^53.
local MOST_RETURNED_US = 4503599627370496
-- How many times what a bucket has owed at the least it may come to owe within one period: `gcra::GROWTH`.
local GROWTH = 8
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function begin(s)
  s.born, s.returned, s.period, s.least, s.before = now, 0, 0, 0, 0
end

-- What a key holds of a bucket; nil for something else.
local function bucket(kind, stored, interval, per)
  local s = { was = 0, part = 0 }
  begin(s)
  if not stored then return s end
  local i, p, full, part, rest = string.match(stored, '^' .. kind .. ' (%d+) (%d+) (%d+) (%d+)(.*)$')
  if not full then return nil end
  i, p, full, part = tonumber(i), tonumber(p), tonumber(full), tonumber(part)
  s.rebased = i ~= interval or p ~= per
  if kind == 't' then
    local born, returned, period, least, before = string.match(rest, '^ (%d+) (%d+) (%d+) (%d+) (%d+)$')
    if not born then return nil end
    if not s.rebased then
      local owed = math.max(full - now, 0)
      s.born, s.returned, s.period = tonumber(born), tonumber(returned), tonumber(period)
      s.least, s.before = math.min(tonumber(least), owed), math.min(tonumber(before), owed)
    end
  elseif rest ~= '' then
    return nil
  end
  if full >= now then
    s.was, s.part = full - now, part
    -- What is owed at another pace: the same units at this one, rounded up.
    if s.rebased then
      s.was, s.part = math.floor((s.was + 1) / (i / p) * (interval / per)) + 1, 0
    end
  end
  return s
end

-- A bucket has come to owe so much more.
local function grown(s, whole)
  if s.returned > MOST_RETURNED_US then begin(s) end
  if whole > s.least * GROWTH then
    s.period, s.least, s.before = s.period + 1, whole, s.least
  end
end

-- What is written of a bucket that owes so much, and for how long, milliseconds.
local function written(kind, s, interval, per, whole, part)
  local text = string.format('%s %.0f %.0f %.0f %.0f', kind, interval, per, now + whole, part)
  if kind == 't' then
    text = text .. string.format(' %.0f %.0f %.0f %.0f %.0f', s.born, s.returned, s.period, s.least, s.before)
  end
  return text, math.floor(whole / 1000) + 1000
end

-- What a key holds of a day; nil for something else. A clock that went back over midnight goes on in the day that it had reached.
local function day_of(stored)
  local today = math.floor(now / DAY_US)
  if not stored then return today, 0 end
  local day, units = string.match(stored, '^d (%d+) (%d+)$')
  if not units then return nil end
  day, units = tonumber(day), tonumber(units)
  if day == today or day == today + 1 then return day, units end
  return today, 0
end

local function written_day(day, units)
  return string.format('d %.0f %.0f', day, units), math.floor(((day + 1) * DAY_US - now) / 1000) + 1000
end

local function longer(whole, part, other, other_part)
  return whole > other or (whole == other and part > other_part)
end

local function set(key, text, ttl_ms, ...)
  redis.call('SET', key, text, 'PX', string.format('%.0f', ttl_ms), ...)
end
