-- Who is behind (X, caller), and may they talk now? A yes claims the call's slot and writes its first event; a no writes its own event.
--   KEYS  1 {<sh>}h, first of X, then (entries that point to another shard) of the holder
--   ARGV  1 position of X, or what the shard of X told: `holder ordinal 1` when live, else `holder ordinal `  2 caller, then ''
--         3 call  4 owner  5 facts  6 channel: `voice`, `message`, or of a call that is known to be late `forward` or `refuse`  7-9 type, time or '', data of the event  10-12 of a refusal's  13.. fields wanted
-- A call on a binding that has ended is `late` where the holder has a word for such calls: nothing is written, and the core decides.
-- So is one that is to be forwarded, and finds the binding live.
--   gives {decision, holder, from, to, expires, seq, '1' when claimed before else '', wanted fields …}, {'no_binding'},
--         or {'elsewhere', holder, what to tell the holder's shard}
local sub, find, match = string.sub, string.find, string.match
local now = clock(call('HGET', KEYS[1], 'clock'))
local holder, ordinal, expires, live
if ARGV[2] == '' then
  holder, ordinal, live = match(ARGV[1], '^(%S+) (%d+) (1?)$')
  live = live == '1'
else
  local entry = call('HGET', tag .. 'p:' .. ARGV[2], ARGV[1])
  if not entry then return {'no_binding'} end
  expires, holder, ordinal = match(entry, '^(%d+):%d+:%d+:%d+:(%w+):(%d+)$')
  live = expires + 0 > now
  if not live and sub(entry, 15, 27) + 0 <= now then return {'no_binding'} end
  local elsewhere = sub(holder, 1, 6) ~= sub(tag, 2, 7)
  holder = 'ses_' .. holder
  if elsewhere then return {'elsewhere', holder, holder .. ' ' .. ordinal .. ' ' .. (live and '1' or '')} end
end

local record = tag .. 's:' .. holder
local known = call('HMGET', record, 'targets', 'status', 'calls', 'max_calls', 'mode', 'denied', 'paused', 'late', 'stages', unpack(ARGV, 13))
local targets, status, calls, most, mode, denied, paused = known[1], known[2], known[3], known[4], known[5], known[6], known[7]
if not targets then return {'no_binding'} end
-- An entry of this shard ends when its holder does. One of another shard may be behind: there the holder has the last word.
if not expires then
  expires = call('HGET', record, 'expires')
  live = live and expires + 0 > now
end
-- Of stages, each `its beginning:from|to,from|to…`, the last that has begun says which ways are closed.
if known[9] and known[9] ~= '' then
  for begins, closed in string.gmatch(known[9], '(%d+):(%S*)') do
    if begins + 0 <= now then denied = string.gsub(closed, ',', ' ') end
  end
end
-- The targets stand one after the other with a space between: a pattern of as many words as come before finds the one.
local skip = ordinal == '0' and '' or string.rep('%S+ ', ordinal)
local from, to = match(targets, '^' .. skip .. '([^|]*)|(%S+)')
if from == 'nowhere' then return {'no_binding'} end  -- a place that an amendment over several shards keeps

local claimed, decision, present = false, 'routed', string.format('%d', now)
local ended = not live or status == 'closed' or status == 'failed'
local forward, message = ended and ARGV[6] == 'forward', ARGV[6] == 'message'
if ended and ARGV[6] == 'voice' and known[8] and known[8] ~= '' or not ended and ARGV[6] == 'forward' then
  return {'late', holder, from, to, expires, call('HGET', record, 'seq'), '', unpack(known, 10, 9 + #ARGV - 12)}
elseif ended and not forward then
  decision = 'ended'
elseif paused and paused ~= '' then
  decision = 'blocked'
elseif mode == 'voice_only' and message or mode == 'message_only' and not message then
  decision = 'mode'
elseif not forward and denied and find(' ' .. denied .. ' ', ' ' .. from .. '|' .. to .. ' ', 1, true) then
  decision = 'direction'
elseif most and most ~= '0' and calls + 0 >= most + 0 then
  claimed = call('HEXISTS', tag .. 'live', ARGV[3]) == 1
  if not claimed then decision = 'limit' end
else
  claimed = call('HSETNX', tag .. 'live', ARGV[3], holder .. '|' .. ARGV[4] .. '|' .. present .. '|' .. ARGV[5]) == 0
end

-- Plain searches, since a pattern looks at every character of the data.
local function filled(data, name, value)
  local at, upto = find(data, name, 1, true)
  while at do
    data = sub(data, 1, at - 1) .. value .. sub(data, upto + 1)
    at, upto = find(data, name, at + #value, true)
  end
  return data
end

local seq
if claimed then
  seq = call('HGET', record, 'seq')
else
  local first = decision == 'routed' and 7 or 10
  local kind, at, data = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  if at == '' then at = present end
  data = filled(filled(data, '$from', from), '$to', to)
  if first == 10 then data = filled(data, '$decision', decision) end
  seq = call('RPUSH', tag .. 'e:' .. holder, kind .. ' ' .. at .. ' ' .. data)
  call('XADD', tag .. 'o', '*', 'holder', holder, 'seq', seq, 'type', kind, 'at', at, 'data', data)
  if first == 7 then call('HSET', record, 'seq', seq, 'calls', calls + 1) else call('HSET', record, 'seq', seq) end
end
if forward and decision == 'routed' then decision = 'forward' end
return {decision, holder, from, to, expires, seq, claimed and '1' or '', unpack(known, 10, 9 + #ARGV - 12)}
