-- The gate's checks of a REST inference in a script for Envoy's Lua filter: key, grant, rate, and
-- every element of every tensor. It reads memory with LuaJIT's FFI, so compiled code checks bytes
-- and floats.
--
-- What it leaves out:
-- - Keys are compared as plain text (there is no SHA-256 here).
-- - Each worker has its own buckets.
-- - Nothing is signed for the upstream.
-- - A document with a repeated key, which two readers may read differently, is not rejected.
local ffi = require("ffi")

local clients = CLIENTS -- key → client
local contracts = CONTRACTS -- model → contract, as a policy says it
local QUOTA, WINDOW_MS, BURST = 1000000, 1000, 1000000
local MAX_DEPTH = 16

local tens = {}
for places = 0, 15 do tens[places] = 10 ^ places end

-- JSON. There is one document at a time, so the reader's position is kept here.
local text, bytes, at

local function refuse(status, why) error({status = status, why = why}, 0) end

local function malformed() refuse("400", "malformed") end

local function next_token()
  local byte = bytes[at]
  while byte == 32 or byte == 10 or byte == 13 or byte == 9 do
    at = at + 1
    byte = bytes[at]
  end
  return byte -- 0 at the end: Lua strings end with a zero byte
end

local function take(byte)
  if next_token() ~= byte then malformed() end
  at = at + 1
end

local function number()
  local start = at
  local negative = bytes[at] == 45
  if negative then at = at + 1 end
  local value, digits, places = 0, at, 0
  local byte = bytes[at]
  while byte >= 48 and byte <= 57 do
    value = value * 10 + (byte - 48)
    at = at + 1
    byte = bytes[at]
  end
  if at == digits or (at > digits + 1 and bytes[digits] == 48) then malformed() end
  digits = at - digits
  if byte == 46 then
    at = at + 1
    local point = at
    byte = bytes[at]
    while byte >= 48 and byte <= 57 do
      value = value * 10 + (byte - 48)
      at = at + 1
      byte = bytes[at]
    end
    places = at - point
    if places == 0 then malformed() end
  end
  if byte == 101 or byte == 69 or digits + places > 15 then
    -- Few have an exponent, or more digits than a double holds exactly.
    local match = text:match("^-?%d+%.?%d*[eE]?[+-]?%d*", start + 1)
    at = start + #match
    return tonumber(match) or malformed()
  end
  if places > 0 then value = value / tens[places] end
  if negative then return -value end
  return value
end

local escapes = {b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/"}

local function string_of()
  take(34)
  local start = at
  local plain = true
  while bytes[at] ~= 34 do
    if bytes[at] < 32 then malformed() end
    if bytes[at] == 92 then
      plain = false
      at = at + 1
      if bytes[at] < 32 then malformed() end
    end
    at = at + 1
  end
  local value = text:sub(start + 1, at)
  at = at + 1
  if plain then return value end
  -- Names and datatypes have no characters beyond ASCII.
  return (value:gsub("\\(.)", function(char) return escapes[char] or malformed() end))
end

local value

local function list(depth)
  take(91)
  local items, count = {}, 0
  if next_token() == 93 then
    at = at + 1
    return items
  end
  while true do
    count = count + 1
    local byte = next_token()
    if byte == 45 or (byte >= 48 and byte <= 57) then
      items[count] = number()
    else
      items[count] = value(depth + 1)
    end
    byte = next_token()
    at = at + 1
    if byte == 93 then return items end
    if byte ~= 44 then malformed() end
  end
end

local function object(depth)
  take(123)
  local members = {}
  if next_token() == 125 then
    at = at + 1
    return members
  end
  while true do
    local name = string_of()
    take(58)
    members[name] = value(depth + 1)
    local byte = next_token()
    at = at + 1
    if byte == 125 then return members end
    if byte ~= 44 then malformed() end
    next_token()
  end
end

local words = {t = {"true", true}, f = {"false", false}, n = {"null", nil}}

function value(depth)
  if depth > MAX_DEPTH then malformed() end
  local byte = next_token()
  if byte == 123 then return object(depth) end
  if byte == 91 then return list(depth) end
  if byte == 34 then return string_of() end
  if byte == 45 or (byte >= 48 and byte <= 57) then return number() end
  local word = words[string.char(byte)]
  if not word or text:sub(at + 1, at + #word[1]) ~= word[1] then malformed() end
  at = at + #word[1]
  return word[2]
end

local function document(json)
  text, at = json, 0
  bytes = ffi.cast("const uint8_t *", text)
  local read = value(0)
  if next_token() ~= 0 or at ~= #text then malformed() end
  if type(read) ~= "table" then malformed() end
  return read
end

-- The contract.

local function elements_of(shape, dims)
  if type(shape) ~= "table" or #shape ~= #dims then refuse("400", "shape") end
  local count = 1
  for place, dim in ipairs(shape) do
    local rule = dims[place]
    local low, high = rule, rule
    if type(rule) == "table" then low, high = rule.min or 0, rule.max end
    if type(dim) ~= "number" or dim % 1 ~= 0 or dim < low or dim > high then refuse("400", "shape") end
    count = count * dim
  end
  return count
end

local function check_numbers(data, count, low, high)
  if type(data) ~= "table" or #data ~= count then refuse("400", "size-mismatch") end
  for place = 1, count do
    local element = data[place]
    if type(element) ~= "number" then refuse("400", "datatype") end
    -- NaN compares false with every bound.
    if not (element >= low and element <= high) then refuse("400", "out-of-range") end
  end
end

local function check_floats(floats, count, low, high)
  for place = 0, count - 1 do
    local element = floats[place]
    if not (element >= low and element <= high) then refuse("400", "out-of-range") end
  end
end

local function check(contract, request, raw)
  local used = 0
  local seen = {}
  for _, tensor in ipairs(request.inputs or {}) do
    local rule
    for _, candidate in ipairs(contract.inputs) do
      if candidate.name == tensor.name then rule = candidate end
    end
    if not rule then refuse("400", "unknown-input") end
    if seen[tensor.name] then refuse("400", "duplicate-input") end
    seen[tensor.name] = true
    if tensor.datatype ~= rule.datatype then refuse("400", "datatype") end
    local count = elements_of(tensor.shape, rule.shape)
    local low, high = rule.range[1], rule.range[2]
    local size = tensor.parameters and tensor.parameters.binary_data_size
    if size then
      if size ~= 4 * count or not raw or used + size > raw.size then refuse("400", "size-mismatch") end
      check_floats(ffi.cast("const float *", raw.bytes + used), count, low, high)
      used = used + size
    else
      check_numbers(tensor.data, count, low, high)
    end
  end
  for _, rule in ipairs(contract.inputs) do
    if not seen[rule.name] then refuse("400", "missing-input") end
  end
  if used ~= (raw and raw.size or 0) then refuse("400", "size-mismatch") end
end

-- One bucket for each client: the time when it is full again, as in the gate.
local full_at_ms = {}

local function spend(client, now_ms)
  local cost_ms = WINDOW_MS / QUOTA
  local full = math.max(full_at_ms[client] or now_ms, now_ms) + cost_ms
  if full - now_ms > BURST * cost_ms then refuse("429", "rate-limited") end
  full_at_ms[client] = full
end

local function judge(handle)
  local headers = handle:headers()
  local client = clients[headers:get("x-api-key") or ""]
  if not client then refuse("401", "unauthenticated") end
  local model = headers:get(":path"):match("^/v2/models/([%w_-]+)/infer$")
  local contract = model and contracts[model]
  if not contract then refuse("403", "not-granted") end
  if headers:get(":method") ~= "POST" then refuse("405", "method-not-allowed") end
  spend(client, handle:timestamp())
  headers:remove("x-api-key")
  local length = headers:get("inference-header-content-length")
  local body = handle:body(true)
  local whole = body:getBytes(0, body:length())
  local json, raw = whole, nil
  if length then
    length = tonumber(length)
    if not length or length > #whole then refuse("400", "malformed") end
    json = whole:sub(1, length)
    raw = {bytes = ffi.cast("const uint8_t *", whole) + length, size = #whole - length}
  end
  check(contract, document(json), raw)
end

function envoy_on_request(handle)
  -- This waits for a body that has not arrived: no call that cannot yield may be in between.
  local good, fault = pcall(judge, handle)
  if not good then
    if type(fault) ~= "table" then fault = {status = "503", why = tostring(fault)} end
    handle:respond({[":status"] = fault.status}, fault.why)
  end
end
