-- Appends an event that belongs to no session to the outbox of such events, counted within its tenant.
--
-- KEYS[1]  {loose}o      stream: tenant, seq, type, at (ms), data (JSON)
-- KEYS[2]  {loose}seq    hash: tenant -> last seq
-- ARGV[1]  tenant
-- ARGV[2]  type
-- ARGV[3]  at
-- ARGV[4]  data
-- ARGV[5]  how many entries the stream may hold: with no courier to fetch them the oldest go
--
-- Returns the seq.
local seq = redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*',
  'tenant', ARGV[1], 'seq', seq, 'type', ARGV[2], 'at', ARGV[3], 'data', ARGV[4])
return seq
