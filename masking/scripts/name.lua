-- Compare and set of one key that lives for a while.
--
-- KEYS[1]  u:<tenant>:<service>:<name's digest>
-- ARGV[1]  the value as it was read ("": absent)
-- ARGV[2]  the new value ("": delete)
-- ARGV[3]  milliseconds it lives
--
-- Returns {1, ""}, or {0, value} when the value is another one by now.
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then
  return {0, held}
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return {1, ''}
