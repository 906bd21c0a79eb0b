-- Moves the end of all a holder's leases in this shard.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 its new end in ms, or ''  3 or ms from now, or ''  4 '1' in the holder's own shard, else ''
--         then counted fields, then counted events
--   gives {'extended' or 'ended', expires, seq, other shards} or {'gone'}
-- A time that has passed ends the leases now. In a shard that is not the holder's own, entries that are tombstones by now are still its
-- own and are revived: the holder's own shard has decided.
local holder, home = ARGV[1], ARGV[4] == '1'
local record = tag .. 's:' .. holder
local known = redis.call('HMGET', record, 'status', 'expires', 'until', 'quarantine', 'grants', 'seq', 'rev', 'shards')
if not known[2] then return {'gone'} end
local now = clock(redis.call('HGET', KEYS[1], 'clock'))
local stands = tonumber(home and known[2] or known[3]) > now
if ended(known[1]) or not stands then return {'ended', known[2], known[6], known[8]} end

local expires = tonumber(ARGV[2]) or now + tonumber(ARGV[3])
if expires < now then expires = now end
local lapses = expires + tonumber(known[4])
move(holder, known[5], expires, lapses, now, true)

local row = {record, 'expires', expires, 'until', lapses}
local at = read_fields(5, row)
if at > 6 then
  row[#row + 1] = 'rev'
  row[#row + 1] = tonumber(known[7]) + 1
end
local seq = append(holder, tonumber(known[6]), at, now)
row[#row + 1] = 'seq'
row[#row + 1] = seq
redis.call('HSET', unpack(row))
redis.call('HSET', KEYS[1], 'clock', now)
if home then
  redis.call('ZADD', tag .. 'due', expires, holder)
else
  redis.call('ZADD', tag .. 'due', expires, '~' .. holder)
  redis.call('PEXPIRE', record, lapses - now + HOLDER_MARGIN)
end
return {'extended', expires, seq, known[8]}
