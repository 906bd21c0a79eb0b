-- Changes the state of a number of this service.
--   KEYS  1 {n}x:<index>
--   ARGV  1 tenant  2 service  3 state  4 how many the tenant may hold, 0: any  5 for how long a retired number rests, ms
--   gives its version and its state, {how many it holds} when one more is too many, or nothing when the number is not here
local key, wish, now = KEYS[1], ARGV[3], server_time()
local known = redis.call('HMGET', key, 'tenant', 'service', 'state', 'version')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return false end
local before = known[3]
-- A retired number is not held any more.
if before == 'retired' and wish ~= 'retired' then
  local held, most = tonumber(redis.call('HGET', '{n}held', ARGV[1]) or '0'), tonumber(ARGV[4])
  if most > 0 and held >= most then return {held} end
  redis.call('HINCRBY', '{n}held', ARGV[1], 1)
elseif before ~= 'retired' and wish == 'retired' then
  redis.call('HINCRBY', '{n}held', ARGV[1], -1)
end
if before == 'retired' or before == 'resting' then
  local serves = wish == 'active' or wish == 'draining'
  wish = back(key, wish, serves and tonumber(ARGV[5]) or -now, now)
elseif wish == 'retired' then
  redis.call('HSET', key, 'retired_at', string.format('%.0f', now))
end
if wish == before then return {tonumber(known[4]), wish} end
redis.call('HSET', key, 'state', wish)
return {redis.call('HINCRBY', key, 'version', 1), wish}
