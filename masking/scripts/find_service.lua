-- A tenant's service by its id or its unique_name.
--
-- KEYS[1]  svc:<tenant>   hash: service id -> record (JSON), "name:<unique_name>" -> service id
-- ARGV[1]  id or unique_name
--
-- Returns the record, or nil.
local id = redis.call('HGET', KEYS[1], 'name:' .. ARGV[1])
return redis.call('HGET', KEYS[1], id or ARGV[1])
