-- Who is behind (X, caller), and may they talk now? A yes claims the call's slot and writes its first event; a no writes its own event.
--   KEYS  1 {<sh>}h, first of X, then (entries that point to another shard) of the holder
--   ARGV  1 position of X  2 caller  3 holder, 4 ordinal and 5 '1' when live, as the shard of X told, else ''
--         6 call  7 owner  8 facts  9 channel  10-13 one counted event  14-17 the one of a refusal  18.. fields wanted
--   gives {decision, holder, from, to, expires, seq, '1' when claimed before else '', wanted fields …}, {'no_binding'},
--         or {'elsewhere', holder, ordinal, '1' or ''}
local now = clock(redis.call('HGET', KEYS[1], 'clock'))
local holder, ordinal, live = ARGV[3], ARGV[4], ARGV[5] == '1'
if holder == '' then
  local entry = redis.call('HGET', tag .. 'p:' .. ARGV[2], ARGV[1])
  if not entry or until_of(entry) <= now then return {'no_binding'} end
  live = tonumber(string.sub(entry, 1, 13)) > now
  holder, ordinal = string.match(entry, '^%d+:%d+:%d+:%d+:(%w+):(%d+)$')
  local elsewhere = string.sub(holder, 1, 6) ~= string.sub(tag, 2, 7)
  holder = 'ses_' .. holder
  if elsewhere then return {'elsewhere', holder, ordinal, live and '1' or ''} end
end

local record = tag .. 's:' .. holder
local known = redis.call('HMGET', record, 'status', 'expires', 'seq', 'max_calls', 'mode', 'denied', 'paused', 'targets', 'calls',
  unpack(ARGV, 18))
if not known[2] then return {'no_binding'} end
local from, to
local count = 0
for target in string.gmatch(known[8], '%S+') do
  if count == tonumber(ordinal) then from, to = string.match(target, '^([^|]*)|(.*)$') end
  count = count + 1
end

local mode = known[5]
local calls, most = tonumber(known[9]), tonumber(known[4] or '0')
local claimed = false
local decision = 'routed'
if ended(known[1]) or not live or tonumber(known[2]) <= now then
  decision = 'ended'
elseif known[7] and known[7] ~= '' then
  decision = 'blocked'
elseif mode == 'voice_only' and ARGV[9] ~= 'voice' or mode == 'message_only' and ARGV[9] ~= 'message' then
  decision = 'mode'
elseif known[6] and string.find(' ' .. known[6] .. ' ', ' ' .. from .. '|' .. to .. ' ', 1, true) then
  decision = 'direction'
elseif most > 0 and calls >= most then
  claimed = redis.call('HEXISTS', tag .. 'live', ARGV[6]) == 1
  if not claimed then decision = 'limit' end
else
  local fact = holder .. '|' .. ARGV[7] .. '|' .. now .. '|' .. ARGV[8]
  claimed = redis.call('HSETNX', tag .. 'live', ARGV[6], fact) == 0
end

local seq = tonumber(known[3])
if decision == 'routed' and not claimed then
  seq = append(holder, seq, 10, now, {from = from, to = to, decision = decision})
  redis.call('HSET', record, 'seq', seq, 'calls', calls + 1)
elseif decision ~= 'routed' then
  seq = append(holder, seq, 14, now, {from = from, to = to, decision = decision})
  redis.call('HSET', record, 'seq', seq)
end
return {decision, holder, from, to, tonumber(known[2]), seq, claimed and '1' or '', unpack(known, 10, 9 + #ARGV - 17)}
