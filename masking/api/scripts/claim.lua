-- Claims an Idempotency-Key, if nobody holds it.
-- KEYS[1]  the key's place
-- ARGV[1]  the claim    ARGV[2]  for how long, in ms
-- Returns nil when it is ours now, else what stands there.
local held = redis.call('GET', KEYS[1])
if held then
  return held
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return nil
