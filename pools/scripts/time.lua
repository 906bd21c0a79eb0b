-- The clock that every script reads: the server's own, in milliseconds.
local function server_time()
  local t = redis.call('TIME')
  return t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
end
