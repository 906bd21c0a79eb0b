-- Adds to a holder's journal, sets its fields, frees or updates a call's slot: one step, or nothing.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 rev expected, or ''  3 call that ends, or ''  4 call whose facts change, or ''  5 its owner  6 its facts
--         7 only while the call has this owner, or ''  then counted fields, then counted events
--   gives {'appended' or 'conflict' or 'ended' or 'kept', seq, rev} or {'gone'}
-- A call can outlive what Redis remembers of its holder. Its slot is all that is left of it then, and its end frees that.
local holder = ARGV[1]
local record = tag .. 's:' .. holder
local known = redis.call('HMGET', record, 'seq', 'rev', 'calls')

local call = ARGV[3] ~= '' and ARGV[3] or ARGV[4]
local whose, owner, since
if call ~= '' then
  whose, owner, since = string.match(redis.call('HGET', tag .. 'live', call) or '', '^([^|]*)|([^|]*)|(%d+)|')
end
local lost = ARGV[7] ~= '' and ARGV[7] ~= owner

if not known[1] then
  if ARGV[3] ~= '' and whose == holder and not lost then redis.call('HDEL', tag .. 'live', call) end
  return {'gone'}
end
local seq, rev, calls = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= rev then return {'conflict', seq, rev} end
if call ~= '' and whose ~= holder then return {'ended', seq, rev} end
if call ~= '' and lost then return {'kept', seq, rev} end

local row = {record}
local at = read_fields(8, row)
if #row > 1 then rev = rev + 1 end
local now = clock(redis.call('HGET', KEYS[1], 'clock'))
seq = append(holder, seq, at, now)
if ARGV[3] ~= '' then
  redis.call('HDEL', tag .. 'live', call)
  calls = calls - 1
elseif call ~= '' then
  redis.call('HSET', tag .. 'live', call, holder .. '|' .. ARGV[5] .. '|' .. since .. '|' .. ARGV[6])
end
for _, word in ipairs({'seq', seq, 'rev', rev, 'calls', calls}) do row[#row + 1] = word end
redis.call('HSET', unpack(row))
return {'appended', seq, rev}
