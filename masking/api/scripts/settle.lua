-- Ends a claim on an Idempotency-Key, if it still is whose it was.
-- KEYS[1]  the key's place
-- ARGV[1]  the claim that must stand there    ARGV[2]  what shall stand there
-- ARGV[3]  for how long, in ms; 0: nothing shall
-- Returns 1, or 0 when the claim was lost meanwhile: its process stood still for longer than a claim lasts.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
