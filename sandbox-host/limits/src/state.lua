-- The prefix of each script: the stored format of a limit, and how to read and write it. Every
-- number is an integer below 2^53, so that doubles add and compare it exactly.
--   'b' rate full
--       A bucket. The rate is microseconds and units. `full` is when all quota is available again,
--       in microseconds and a fraction.
--   't' rate full born returned period least before
--       A bucket with reservations that can be refunded: `gcra::State`, in microseconds.
--       Reservations from before `born` cannot be refunded: the rate was another, or they expired.
--   'd' day units
--       The units used on a day.
local DAY_US = 86400000000
-- A bucket restarts after refunds of this amount, so that every number stays below 2^53.
local MOST_RETURNED_US = 4503599627370496
-- The growth of the used quota within one period, as a factor of its minimum: `gcra::GROWTH`.
local GROWTH = 8
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function begin(s)
  s.born, s.returned, s.period, s.least, s.before = now, 0, 0, 0, 0
end

-- Parses a stored bucket. Returns nil for another format.
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
    -- After a change of rate, the same units at the new rate, rounded up.
    if s.rebased then
      s.was, s.part = math.floor((s.was + 1) / (i / p) * (interval / per)) + 1, 0
    end
  end
  return s
end

-- Updates the periods after the used quota has grown to `whole`.
local function grown(s, whole)
  if s.returned > MOST_RETURNED_US then begin(s) end
  if whole > s.least * GROWTH then
    s.period, s.least, s.before = s.period + 1, whole, s.least
  end
end

-- Encodes a bucket with this used quota. Also returns its time to live in milliseconds.
local function written(kind, s, interval, per, whole, part)
  local text = string.format('%s %.0f %.0f %.0f %.0f', kind, interval, per, now + whole, part)
  if kind == 't' then
    text = text .. string.format(' %.0f %.0f %.0f %.0f %.0f', s.born, s.returned, s.period, s.least, s.before)
  end
  return text, math.floor(whole / 1000) + 1000
end

-- Parses a stored day. Returns nil for another format. If the clock went back over midnight, the
-- later day stays in use.
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
