-- Tells a shard which numbers it has and which of them are open to new leases. Repeating it is harmless, and an older word about a
-- number never undoes a newer one: each carries the version that the inventory gave it.
--   KEYS  1 {<sh>}h    ARGV  for each number: position, X, state, version
local open = redis.call('HGET', KEYS[1], 'open') or ''
for i = 1, #ARGV, 4 do
  local position, state, version = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3])
  if version > tonumber(redis.call('HGET', tag .. 'v', position) or '0') then
    redis.call('HSET', tag .. 'm', position, ARGV[i + 1])
    redis.call('HSET', tag .. 'v', position, version)
    if state == 'active' then
      redis.call('HDEL', tag .. 't', position)
    else
      redis.call('HSET', tag .. 't', position, state)
    end
    local char = string.char(position)
    local at = string.find(open, char, 1, true)
    if at and state ~= 'active' then
      open = string.sub(open, 1, at - 1) .. string.sub(open, at + 1)
    elseif not at and state == 'active' then
      open = open .. char
    end
  end
end
redis.call('HSET', KEYS[1], 'open', open)
settle(open)
return #open
