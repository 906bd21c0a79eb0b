-- Gives a holder that has ended the same leases again, while its tombstones stand: until then nobody else has had them.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 its new end in ms  3 '1' in the holder's own shard, else ''  then counted fields, then counted events
--   gives {'reopened' or 'open' or 'rested' or 'crowded', expires, seq, other shards} or {'gone'}
-- In a shard that is not the holder's own, `open` is what an attempt before has left: it is done once more.
local holder, home = ARGV[1], ARGV[3] == '1'
local record = tag .. 's:' .. holder
local known = call('HMGET', record, 'status', 'expires', 'until', 'quarantine', 'grants', 'seq', 'rev', 'shards')
if not known[2] then return {'gone'} end
local now = clock(call('HGET', KEYS[1], 'clock'))
local function no(why) return {why, known[2], known[6], known[8]} end
local ended = known[1] == 'closed' or known[1] == 'failed'
if home and not ended and tonumber(known[2]) > now then return no('open') end
if tonumber(known[3]) <= now then return no('rested') end

-- All of them still its own, and room for its secrets beside those that came meanwhile?
local mine, present = ':' .. string.sub(holder, 5) .. ':', string.format('%d', now)
local more = {}
for position, party in string.gmatch(known[5], '(%d+):%d+:(%S+)') do
  local entry = call('HGET', tag .. 'p:' .. party, position)
  if not entry or not string.find(entry, mine, 29, true) then return no('rested') end
  local digits = digits_of(party)
  if digits then
    local key = secrets_key(position, digits)
    more[key] = more[key] or call('ZCOUNT', key, '(' .. present, '+inf')
    if not call('ZSCORE', key, party) then more[key] = more[key] + 1 end
    if more[key] > 10 ^ (digits - 4) then return no('crowded') end
  end
end

local expires = math.max(tonumber(ARGV[2]), now)
local lapses = expires + tonumber(known[4])
move(holder, known[5], expires, lapses, now, true)
local fields = 4 + 2 * tonumber(ARGV[4])
local seq = append(holder, tonumber(known[6]), fields + 1, present)
call('HSET', record, 'status', 'open', 'expires', expires, 'until', lapses, 'rev', known[7] + 1, 'seq', seq, unpack(ARGV, 5, fields))
call('HDEL', record, 'reason')
wake(holder, 5, fields)
call('HSET', KEYS[1], 'clock', present)
call('ZREM', tag .. 'q', holder)
if home then
  call('PERSIST', record)
  call('PERSIST', tag .. 'e:' .. holder)
  call('ZADD', tag .. 'due', expires, holder)
else
  -- Should the holder's own shard say no, and nobody live to take this back, the sweeper meets this mark in a minute.
  call('ZADD', tag .. 'due', now + 60000, '~' .. holder)
  call('PEXPIRE', record, lapses - now + HOLDER_MARGIN)
end
return {'reopened', expires, seq, known[8]}
