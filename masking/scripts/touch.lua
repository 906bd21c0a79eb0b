-- Notes a session that has just changed, and forgets those that the archive has by now.
--
-- KEYS[1]  recent:<tenant>   zset: session id -> when it changed, ms
-- ARGV[1]  now, ms
-- ARGV[2]  session id
-- ARGV[3]  the time up to which changes are forgotten, ms
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
