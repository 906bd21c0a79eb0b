-- Who is behind (X, caller), and may they talk now? A yes claims the call's slot and writes its first event; a no writes its own event.
--   KEYS  1 {<sh>}h, first of X, then (entries that point to another shard) of the holder
--   ARGV  1 position of X, or what the shard of X told: `holder ordinal 1` when live, else `holder ordinal `  2 caller, then ''
--         3 call  4 owner  5 facts  6 channel  7-9 type, time or '', data of the event  10-12 of a refusal's  13.. fields wanted
--   gives {decision, holder, from, to, expires, seq, '1' when claimed before else '', wanted fields …}, {'no_binding'},
--         or {'elsewhere', holder, what to tell the holder's shard}
local now = clock(call('HGET', KEYS[1], 'clock'))
local holder, ordinal, live
if ARGV[2] == '' then
  holder, ordinal, live = string.match(ARGV[1], '^(%S+) (%d+) (1?)$')
  live = live == '1'
else
  local entry = call('HGET', tag .. 'p:' .. ARGV[2], ARGV[1])
  if not entry then return {'no_binding'} end
  local ends, till
  ends, till, holder, ordinal = string.match(entry, '^(%d+):(%d+):%d+:%d+:(%w+):(%d+)$')
  if till + 0 <= now then return {'no_binding'} end
  live = ends + 0 > now
  local elsewhere = string.find(tag, string.sub(holder, 1, 6), 2, true) ~= 2
  holder = 'ses_' .. holder
  if elsewhere then return {'elsewhere', holder, holder .. ' ' .. ordinal .. ' ' .. (live and '1' or '')} end
end

local record = tag .. 's:' .. holder
local known = call('HMGET', record, 'expires', 'targets', 'calls', 'status', 'max_calls', 'mode', 'denied', 'paused', unpack(ARGV, 13))
local expires, calls, status, most, mode, denied, paused = known[1], known[3], known[4], known[5], known[6], known[7], known[8]
if not expires then return {'no_binding'} end
-- The targets stand one after the other with a space between: a pattern of as many words as come before finds the one.
local from, to = string.match(known[2], '^' .. string.rep('%S+ ', ordinal) .. '([^|]*)|(%S+)')

local claimed, decision, present = false, 'routed', string.format('%d', now)
if status == 'closed' or status == 'failed' or not live or expires + 0 <= now then
  decision = 'ended'
elseif paused and paused ~= '' then
  decision = 'blocked'
elseif mode == 'voice_only' and ARGV[6] ~= 'voice' or mode == 'message_only' and ARGV[6] ~= 'message' then
  decision = 'mode'
elseif denied and string.find(' ' .. denied .. ' ', ' ' .. from .. '|' .. to .. ' ', 1, true) then
  decision = 'direction'
elseif most and tonumber(most) > 0 and tonumber(calls) >= tonumber(most) then
  claimed = call('HEXISTS', tag .. 'live', ARGV[3]) == 1
  if not claimed then decision = 'limit' end
else
  claimed = call('HSETNX', tag .. 'live', ARGV[3], holder .. '|' .. ARGV[4] .. '|' .. present .. '|' .. ARGV[5]) == 0
end

local seq
if claimed then
  seq = call('HGET', record, 'seq')
else
  local first = decision == 'routed' and 7 or 10
  local kind, at, data = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  if at == '' then at = present end
  data = string.gsub(data, '%$(%l+)', {from = from, to = to, decision = decision})
  seq = call('RPUSH', tag .. 'e:' .. holder, kind .. ' ' .. at .. ' ' .. data)
  call('XADD', tag .. 'o', '*', 'holder', holder, 'seq', seq, 'type', kind, 'at', at, 'data', data)
  if first == 7 then call('HSET', record, 'seq', seq, 'calls', calls + 1) else call('HSET', record, 'seq', seq) end
end
return {decision, holder, from, to, expires, seq, claimed and '1' or '', unpack(known, 9, 8 + #ARGV - 12)}
