-- Ends all a holder's leases in this shard: its entries become tombstones until the quarantine is over.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 status  3 reason  4 '1': only when its time is over  5.. counted events
--   gives {'released' or 'already' or 'live', seq, other shards} or {'gone'}
-- A holder that lapsed by itself keeps the end it had: its tombstones have been standing since then.
local holder = ARGV[1]
local record = tag .. 's:' .. holder
local known = call('HMGET', record, 'status', 'expires', 'quarantine', 'grants', 'seq', 'shards')
if not known[2] or known[1] == 'closed' or known[1] == 'failed' then
  call('ZREM', tag .. 'due', holder, '~' .. holder)
  if not known[2] then return {'gone'} end
  return {'already', known[5], known[6]}
end
local now = clock(call('HGET', KEYS[1], 'clock'))
local expires = tonumber(known[2])
if expires > now then
  if ARGV[4] == '1' then return {'live', known[5], known[6]} end
  expires = now
end
local lapses = expires + tonumber(known[3])
move(holder, known[4], expires, lapses, now)

local present = now .. ''
local seq = append(holder, tonumber(known[5]), 5, present)
call('HSET', record, 'status', ARGV[2], 'reason', ARGV[3], 'expires', expires, 'until', lapses, 'seq', seq)
call('HSET', KEYS[1], 'clock', present)
call('ZREM', tag .. 'due', holder, '~' .. holder)
call('ZADD', tag .. 'q', lapses, holder)
call('ZREMRANGEBYSCORE', tag .. 'q', '-inf', present)
-- From here on Redis forgets the holder by itself, when no redial and no call that is still up can ask for it.
local span = HOLDER_MARGIN
if lapses > now then span = span + lapses - now end
call('PEXPIRE', record, span)
call('PEXPIRE', tag .. 'e:' .. holder, span)
return {'released', seq, known[6]}
