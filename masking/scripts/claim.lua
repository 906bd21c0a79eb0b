-- Takes a name, if it still is as it was seen, and notes the session it is taken for.
--
-- KEYS[1]  u:{<tenant>}:<service>:<name's digest>
-- KEYS[2]  recent:{<tenant>}   zset: session id -> when it changed, ms
-- ARGV[1]  the value as it was read ("": absent)
-- ARGV[2]  the new value        ARGV[3]  milliseconds it lives
-- ARGV[4]  now, ms              ARGV[5]  the session that is about to be
-- ARGV[6]  the time up to which changes are forgotten, ms
--
-- Returns nothing when it is taken, else the value as it is by now ("": absent) and the milliseconds it has left.
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then
  return {held, redis.call('PTTL', KEYS[1])}
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[6])
return false
