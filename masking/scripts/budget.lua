-- Takes from what may be spent in a span of time that begins with the first spending, or gives back.
--
-- KEYS[1]  what is budgeted
-- ARGV[1]  1 takes, -1 gives back, 0 only asks
-- ARGV[2]  how much there is
-- ARGV[3]  the span, ms
-- gives 1, or 0 when all is spent
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if ARGV[1] == '-1' then
  if used > 0 then redis.call('DECR', KEYS[1]) end
  return 1
end
if used >= tonumber(ARGV[2]) then return 0 end
if ARGV[1] == '1' and redis.call('INCR', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
