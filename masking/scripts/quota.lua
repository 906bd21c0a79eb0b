-- Notes an open session of a tenant, unless it has as many as it may.
--
-- KEYS[1]  {quota:<tenant>}   zset: the letters of an open session -> its end, ms
-- ARGV[1]  now, ms      ARGV[2]  how many there may be
-- ARGV[3]  the letters  ARGV[4]  its end, ms
-- gives nothing, or when it may not: milliseconds until the first of the others ends
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
if redis.call('ZSCORE', KEYS[1], ARGV[3]) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3])
  return false
end
return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] - ARGV[1]
