-- Changes the state of a number of this service.
--   KEYS  1 {n}x:<index>    ARGV  1 tenant  2 service  3 state
--   gives its version, or nothing when the number is not here
local known = redis.call('HMGET', KEYS[1], 'tenant', 'service', 'state', 'version')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return false end
if known[3] == ARGV[3] then return tonumber(known[4]) end
redis.call('HSET', KEYS[1], 'state', ARGV[3])
return redis.call('HINCRBY', KEYS[1], 'version', 1)
