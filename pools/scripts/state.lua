-- Changes the state of a number of this service.
--   KEYS  1 {n}x:<index>    ARGV  1 tenant  2 service  3 state  4 how many the tenant may hold, 0: any
--   gives its version, {how many it holds} when one more is too many, or nothing when the number is not here
local known = redis.call('HMGET', KEYS[1], 'tenant', 'service', 'state', 'version')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return false end
if known[3] == ARGV[3] then return tonumber(known[4]) end
-- A retired number is not held any more.
if known[3] == 'retired' then
  local held, most = tonumber(redis.call('HGET', '{n}held', ARGV[1]) or '0'), tonumber(ARGV[4])
  if most > 0 and held >= most then return {held} end
  redis.call('HINCRBY', '{n}held', ARGV[1], 1)
end
if ARGV[3] == 'retired' then redis.call('HINCRBY', '{n}held', ARGV[1], -1) end
redis.call('HSET', KEYS[1], 'state', ARGV[3])
return redis.call('HINCRBY', KEYS[1], 'version', 1)
