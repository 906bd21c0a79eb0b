-- What a number that was retired comes back as: the state wished for, or `resting` until it has been out of service long enough.
local function back(key, wish, ageing, now)
  local index, till = string.sub(key, 6), (tonumber(redis.call('HGET', key, 'retired_at')) or 0) + ageing
  if till > now then
    redis.call('HSET', key, 'rests', string.format('%.0f', till))
    redis.call('ZADD', '{n}resting', string.format('%.0f', till), index)
    return 'resting'
  end
  redis.call('HDEL', key, 'rests')
  redis.call('ZREM', '{n}resting', index)
  return wish
end
