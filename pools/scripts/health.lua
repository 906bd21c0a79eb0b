-- Counts what calls on numbers came to, and judges the numbers by the last span of time.
--   KEYS  1 {<sh>}h
--   ARGV  1 the span, ms  2 calls that say something  3 least part of them to be answered  4 most of the answered to be short
--         5 reports that are too many (0: none are)  then of each: position, calls, answered, short, reports (0 0 0 0: judged anew)
--   gives for each whose judgement changed: position, what ails it now (words; '' : nothing), calls, answered, short, reports
-- `{<sh>}fares` has of each position the counts of this span and of the one before, which counts by the part of it that is not yet past:
--   <begin of this span> <calls answered short reports> <the four before> <when the last call ended>
local span, enough, least, most, many = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = clock(redis.call('HGET', KEYS[1], 'clock'))
local told = {}
for i = 6, #ARGV, 5 do
  local position, row = ARGV[i], {}
  for word in string.gmatch(redis.call('HGET', tag .. 'fares', position) or '', '%S+') do row[#row + 1] = tonumber(word) end
  if #row == 0 or now >= row[1] + 2 * span then
    row = {now, 0, 0, 0, 0, 0, 0, 0, 0, row[10] or 0}
  elseif now >= row[1] + span then
    row = {row[1] + span, 0, 0, 0, 0, row[2], row[3], row[4], row[5], row[10]}
  end
  local part, sums = 1 - (now - row[1]) / span, {}
  for k = 1, 4 do
    row[k + 1] = row[k + 1] + ARGV[i + k]
    sums[k] = math.floor(row[k + 1] + row[k + 5] * part + 0.5)
  end
  if tonumber(ARGV[i + 1]) > 0 then row[10] = now end
  local calls, answered, short, reports = unpack(sums)
  local ails = {}
  if calls >= enough and answered < least * calls then ails[#ails + 1] = 'unanswered' end
  if answered >= enough and short > most * answered then ails[#ails + 1] = 'short_calls' end
  if many > 0 and reports >= many then ails[#ails + 1] = 'reports' end
  local words, before = table.concat(ails, ' '), redis.call('HGET', tag .. 'ail', position) or ''
  if calls == 0 and reports == 0 and row[10] + 2 * span <= now then
    redis.call('HDEL', tag .. 'fares', position)
  else
    for k = 1, 10 do row[k] = string.format('%.0f', row[k]) end
    redis.call('HSET', tag .. 'fares', position, table.concat(row, ' '))
  end
  if words ~= before then
    if words == '' then redis.call('HDEL', tag .. 'ail', position) else redis.call('HSET', tag .. 'ail', position, words) end
    for _, word in ipairs({position, words, calls, answered, short, reports}) do told[#told + 1] = word end
  end
end
if #told > 0 then settle(redis.call('HGET', KEYS[1], 'open') or '') end
return told
