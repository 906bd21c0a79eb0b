-- Registers phone numbers, all or none, and gives each its place: the first shard of its service and country with room, else a new one.
--   KEYS  1 {n}shards
--   ARGV  1 tenant  2 service  3 numbers per shard  4 names for new shards, spaces between  5 how many the tenant may hold, 0: any
--         6 for how long a retired number rests, ms  then for each number: index, X, country, trunk
--   gives {'taken', ordinals (from 0) …}, {'too many', how many it holds}, or 'added' and for each number: shard, position, state, version,
--         country, trunk, until when it rests or ''
local tenant, service, room = ARGV[1], ARGV[2], tonumber(ARGV[3])
local directory = '{n}d:' .. tenant .. '/' .. service
local taken, more, seen = {'taken'}, 0, {}
for i = 7, #ARGV, 4 do
  local known = redis.call('HMGET', '{n}x:' .. ARGV[i], 'tenant', 'service', 'state')
  if known[1] and (known[1] ~= tenant or known[2] ~= service) then taken[#taken + 1] = (i - 7) / 4 end
  if (not known[1] or known[3] == 'retired') and not seen[ARGV[i]] then more, seen[ARGV[i]] = more + 1, true end
end
if #taken > 1 then return taken end
local held, most = tonumber(redis.call('HGET', '{n}held', tenant) or '0'), tonumber(ARGV[5])
if most > 0 and more > 0 and held + more > most then return {'too many', held} end
if more > 0 then redis.call('HINCRBY', '{n}held', tenant, more) end

local sizes, last = {}, {}
local flat = redis.call('HGETALL', directory)
for i = 1, #flat, 2 do
  local country, size = string.match(flat[i + 1], '^(%a+):(%d+)$')
  sizes[flat[i]] = tonumber(size)
  if tonumber(size) < room then last[country] = flat[i] end
end
local fresh = string.gmatch(ARGV[4], '%S+')
local function shard_for(country)
  local shard = last[country]
  if shard and sizes[shard] < room then return shard end
  repeat shard = fresh() until redis.call('SADD', KEYS[1], shard) == 1
  redis.call('HSET', '{n}s', shard, tenant .. '/' .. service .. '/' .. country)
  last[country], sizes[shard] = shard, 0
  return shard
end

local reply = {'added'}
local now = server_time()
for i = 7, #ARGV, 4 do
  local key, country = '{n}x:' .. ARGV[i], ARGV[i + 2]
  local state = redis.call('HGET', key, 'state')
  if not state then
    local shard = shard_for(country)
    redis.call('HSET', key, 'x', ARGV[i + 1], 'tenant', tenant, 'service', service, 'country', country, 'trunk', ARGV[i + 3],
      'state', 'active', 'shard', shard, 'position', sizes[shard], 'version', 1)
    sizes[shard] = sizes[shard] + 1
    redis.call('HSET', directory, shard, country .. ':' .. sizes[shard])
    redis.call('ZADD', '{n}l:' .. tenant .. '/' .. service, 0, ARGV[i + 1])
  elseif state == 'retired' or state == 'resting' then
    local after = back(key, 'active', tonumber(ARGV[6]), now)
    if after ~= state then
      redis.call('HSET', key, 'state', after)
      redis.call('HINCRBY', key, 'version', 1)
    end
  end
  for _, value in ipairs(redis.call('HMGET', key, 'shard', 'position', 'state', 'version', 'country', 'trunk', 'rests')) do
    reply[#reply + 1] = value or ''
  end
end
return reply
