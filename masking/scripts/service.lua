-- Keeps a tenant's service, and the name that points to it, in one step.
--
-- KEYS[1]  svc:<tenant>   hash: service id -> record (JSON), "name:<unique_name>" -> service id
-- ARGV[1]  service id
-- ARGV[2]  the record as it was read ("": it must not be there yet)
-- ARGV[3]  the new record
-- ARGV[4]  the name that pointed to it so far ("": none)
-- ARGV[5]  the name that is to point to it ("": none)
--
-- Returns "ok"; "stale" when the record is not the one that was read; or the id of the service that has the name.
local held = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if held ~= ARGV[2] then
  return 'stale'
end
if ARGV[5] ~= '' then
  local owner = redis.call('HGET', KEYS[1], 'name:' .. ARGV[5])
  if owner and owner ~= ARGV[1] then
    return owner
  end
end
if ARGV[4] ~= '' and ARGV[4] ~= ARGV[5] then
  redis.call('HDEL', KEYS[1], 'name:' .. ARGV[4])
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'name:' .. ARGV[5], ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 'ok'
