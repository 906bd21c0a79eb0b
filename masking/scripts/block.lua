-- Puts a block in force, or takes it back.
--
-- KEYS[1]  blocks:{<tenant>}    hash: id -> the block
-- KEYS[2]  blocked:{<tenant>}   hash: what is blocked -> by how many blocks
-- ARGV[1]  1 puts, -1 takes back
-- ARGV[2]  its id    ARGV[3]  the block    ARGV[4..]  what it blocks
-- gives 1, or 0 when it was so already
if ARGV[1] == '1' then
  if redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3]) == 0 then return 0 end
elseif redis.call('HDEL', KEYS[1], ARGV[2]) == 0 then
  return 0
end
for i = 4, #ARGV do
  if redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[1]) <= 0 then redis.call('HDEL', KEYS[2], ARGV[i]) end
end
return 1
