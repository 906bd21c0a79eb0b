-- Says of positions whether the trunk they leave by is silent.
--   KEYS  1 {<sh>}h    ARGV  1 '1' when it is silent, else ''  then the positions
for i = 2, #ARGV do
  if ARGV[1] == '1' then
    redis.call('HSET', tag .. 'ail', ARGV[i] .. 't', 'trunk')
  else
    redis.call('HDEL', tag .. 'ail', ARGV[i] .. 't')
  end
end
settle(redis.call('HGET', KEYS[1], 'open') or '')
return #ARGV - 1
