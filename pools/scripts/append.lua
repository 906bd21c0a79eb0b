-- Adds to a holder's journal, sets its fields, frees or updates a call's slot: one step, or nothing.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 rev expected, or ''  3 call that ends, or ''  4 call whose facts change, or ''  5 its owner  6 its facts
--         7 only while the call has this owner, or ''  then counted fields, then counted events
--   gives {'appended' or 'conflict' or 'ended' or 'kept', seq, rev} or {'gone'}
-- A call can outlive what Redis remembers of its holder. Its slot is all that is left of it then, and its end frees that.
local holder = ARGV[1]
local record = tag .. 's:' .. holder
local known = call('HMGET', record, 'seq', 'rev', 'calls')

local name = ARGV[3] ~= '' and ARGV[3] or ARGV[4]
local whose, owner, since
if name ~= '' then
  whose, owner, since = string.match(call('HGET', tag .. 'live', name) or '', '^([^|]*)|([^|]*)|(%d+)|')
end
local lost = ARGV[7] ~= '' and ARGV[7] ~= owner

if not known[1] then
  if ARGV[3] ~= '' and whose == holder and not lost then call('HDEL', tag .. 'live', name) end
  return {'gone'}
end
local seq, rev, calls = tonumber(known[1]), tonumber(known[2]), known[3]
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= rev then return {'conflict', seq, rev} end
if name ~= '' and whose ~= holder then return {'ended', seq, rev} end
if name ~= '' and lost then return {'kept', seq, rev} end

local fields = 8 + 2 * tonumber(ARGV[8])
if fields > 8 then rev = rev + 1 end
seq = append(holder, seq, fields + 1, clock(call('HGET', KEYS[1], 'clock')) .. '')
if ARGV[3] ~= '' then
  call('HDEL', tag .. 'live', name)
  calls = calls - 1
elseif name ~= '' then
  call('HSET', tag .. 'live', name, holder .. '|' .. ARGV[5] .. '|' .. since .. '|' .. ARGV[6])
end
call('HSET', record, 'seq', seq, 'rev', rev, 'calls', calls, unpack(ARGV, 9, fields))
wake(holder, 9, fields)
return {'appended', seq, rev}
