-- Moves the end of all a holder's leases in this shard.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 its new end in ms, or ''  3 or ms from now, or ''  4 '1' in the holder's own shard, else ''
--         then counted fields, then counted events
--   gives {'extended' or 'ended', expires, seq, other shards} or {'gone'}
-- A time that has passed ends the leases now. In a shard that is not the holder's own, entries that are tombstones by now are still its
-- own and are revived: the holder's own shard has decided.
local holder, home = ARGV[1], ARGV[4] == '1'
local record = tag .. 's:' .. holder
local known = call('HMGET', record, 'status', 'expires', 'until', 'quarantine', 'grants', 'seq', 'rev', 'shards')
if not known[2] then return {'gone'} end
local now = clock(call('HGET', KEYS[1], 'clock'))
local ended = known[1] == 'closed' or known[1] == 'failed'
local stands = tonumber(home and known[2] or known[3]) > now
if ended or not stands then return {'ended', known[2], known[6], known[8]} end

local expires = tonumber(ARGV[2]) or now + tonumber(ARGV[3])
if expires < now then expires = now end
local lapses = expires + tonumber(known[4])
move(holder, known[5], expires, lapses, now, true)

local present = now .. ''
local fields, rev = 5 + 2 * tonumber(ARGV[5]), tonumber(known[7])
if fields > 5 then rev = rev + 1 end
local seq = append(holder, tonumber(known[6]), fields + 1, present)
call('HSET', record, 'expires', expires, 'until', lapses, 'rev', rev, 'seq', seq, unpack(ARGV, 6, fields))
call('HSET', KEYS[1], 'clock', present)
if home then
  call('ZADD', tag .. 'due', expires, holder)
else
  call('ZADD', tag .. 'due', expires, '~' .. holder)
  call('PEXPIRE', record, lapses - now + HOLDER_MARGIN)
end
return {'extended', expires, seq, known[8]}
