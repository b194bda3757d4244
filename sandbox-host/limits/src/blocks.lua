-- Adds records to the list of blocked clients that gateways share, and returns the list.
-- KEYS: the list, a text with one record per line. It expires with its last record.
-- ARGV: the records. Each is 'made until kept client content': three times in Unix milliseconds,
--   the client's name in hex, and the content. Of two records about one client, the later one stays.
-- Returns the number of records for which the list had no room, then the list, one record per line.
-- Returns '!' if the key has another format.
local MOST = 40
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then return '!' end
stored = stored or ''
local clients, records, without_room = {}, {}, 0

local function parsed(record)
  local made, ends, kept, client = string.match(record, '^(%d+) (%d+) (%d+) (%x+) ')
  return tonumber(made), tonumber(ends), tonumber(kept), client
end

local function is_later(record, other)
  local times, others = { parsed(record) }, { parsed(other) }
  for n = 1, 3 do
    if times[n] ~= others[n] then return times[n] > others[n] end
  end
  return false
end

local function add(record)
  local _, _, kept, client = parsed(record)
  if not client or kept <= now then return end
  if records[client] then
    if is_later(record, records[client]) then records[client] = record end
  elseif #clients < MOST then
    clients[#clients + 1] = client
    records[client] = record
  else
    without_room = without_room + 1
  end
end

for record in string.gmatch(stored, '[^\n]+') do add(record) end
for _, record in ipairs(ARGV) do add(record) end
local lines, last = {}, now
for n, client in ipairs(clients) do
  lines[n] = records[client]
  local _, _, kept = parsed(lines[n])
  last = math.max(last, kept)
end
local text = table.concat(lines, '\n')
if text ~= stored then
  if text == '' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', last - now))
  end
end
return without_room .. '\n' .. text
