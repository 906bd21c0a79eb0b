-- Takes an intent from those that stand on a virtual number.
--
-- KEYS[1]  {<sh>}i:<position>   zset: the party that is about to call -> until when, ms
-- ARGV[1]  now, ms
-- ARGV[2]  the party, or '' for whoever it is, when there is only one
-- gives the party, or nothing
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local party = ARGV[2]
if party == '' then
  local standing = redis.call('ZRANGE', KEYS[1], 0, 1)
  if #standing ~= 1 then return false end
  party = standing[1]
end
if redis.call('ZREM', KEYS[1], party) == 0 then return false end
return party
