-- Changes who of a live holder dials what: all of it that is in this shard, or nothing. (In a shard that is not the holder's own, where
-- no number has a slot, `lease` counts from 0, and the numbers it gives are the first of the answer.)
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 rev expected  3 targets, by ordinal, spaces between: those it has, whose words may be others, then new ones
--         4 count of steps, then of each:
--           'end' ordinal ms                           the entry ends in so many ms, and rests as after a release
--           'take' ordinal new-ordinal party           the party dials the X of that entry, too
--           'drop' slot                                its number `slot` (from 0) is none of the holder's any more: those behind move up
--           'lease' slot wish count {ordinal party}…   the parties dial a free X, which becomes the holder's number `slot`: the next one,
--             with the wish 'sticky' the one they had last, or the one of the position that is wished for, whether or not it is open
--           'given' slot X                             another shard's X becomes the holder's number `slot`
--           'reach' shard                              the holder has leases in that shard, too
--         then counted fields, then counted events, in whose data $x<slot> stands for a number
--   gives {'amended', numbers, seq, rev, and as a bind does the most that the parties of a `lease` hold here, and how many are open}, {'conflict'}, {'ended'}, {'taken'} (a party has another lease or a tombstone on the
--         very X that it was to take or wished for), or {'exhausted', numbers needed, ms until one is free or -1}
local holder = ARGV[1]
local record = tag .. 's:' .. holder
local known = call('HMGET', record, 'status', 'expires', 'until', 'quarantine', 'grants', 'seq', 'rev', 'numbers')
if not known[2] then return {'ended'} end
local head = call('HMGET', KEYS[1], 'clock', 'epoch', 'cursor', 'open', 'well')
local now = clock(head[1])
local expires, lapses = tonumber(known[2]), tonumber(known[3])
if known[1] == 'closed' or known[1] == 'failed' or expires <= now then return {'ended'} end
if ARGV[2] ~= known[7] then return {'conflict'} end

local grants, numbers = {}, {}  -- ordinal -> {position, party}; in order
for position, ordinal, party in string.gmatch(known[5], '(%d+):(%d+):(%S+)') do grants[ordinal] = {position, party} end
for number in string.gmatch(known[8], '%S+') do numbers[#numbers + 1] = number end

-- Is the position free for the party? What this script has given counts.
local given = {}
local function free(party, position)
  if given[party .. ' ' .. position] then return false end
  local entry = call('HGET', tag .. 'p:' .. party, position)
  return not entry or tonumber(string.sub(entry, 15, 27)) <= now, entry
end

local present = string.format('%d', now)
local function room(party, position)
  local digits = digits_of(party)
  return not digits or call('ZCOUNT', secrets_key(position, digits), '(' .. present, '+inf') + 1 <= 10 ^ (digits - 4)
end

local cursor, open = tonumber(head[3] or '0'), head[4] or ''
local first = head[5] or open  -- the positions that do well, where some do not
local function choose_of(line, parties)
  local soonest = math.huge
  for step = 0, #line - 1 do
    local position, later, fits = string.byte(line, (cursor + step) % #line + 1) .. '', 0, true
    for _, party in ipairs(parties) do
      local is_free, entry = free(party, position)
      if not is_free then
        fits, later = false, math.max(later, entry and tonumber(string.sub(entry, 15, 27)) or lapses)
      elseif not room(party, position) then
        fits = false
      end
    end
    if fits then
      cursor = (cursor + step + 1) % #line
      return position
    end
    if later > 0 then soonest = math.min(soonest, later) end
  end
  return nil, soonest
end
local function choose(parties)
  local position = first ~= open and choose_of(first, parties)
  if position then return position end
  return choose_of(open, parties)
end

local function fits(parties, position)
  for _, party in ipairs(parties) do
    if not free(party, position) or not room(party, position) then return false end
  end
  return true
end

-- The X that the first of the parties had last, where it is open and free for all.
local function last(parties)
  local found, latest
  local flat = call('HGETALL', tag .. 'p:' .. parties[1])
  for i = 1, #flat, 2 do
    local till = string.sub(flat[i + 1], 15, 27)
    if string.find(first, string.char(flat[i]), 1, true) and (not latest or till > latest) and fits(parties, flat[i]) then
      found, latest = flat[i], till
    end
  end
  return found
end

-- Decide.
local puts, ends, dropped, reached = {}, {}, {}, {}
local needed, retry, at, used = 0, -1, 5, 0
local function put(party, position, ordinal)
  given[party .. ' ' .. position] = true
  puts[#puts + 1] = {party, position, ordinal}
end
for _ = 1, tonumber(ARGV[4]) do
  local kind, from = ARGV[at], grants[ARGV[at + 1]]
  if kind == 'end' then
    ends[ARGV[at + 1]] = now + tonumber(ARGV[at + 2])
    at = at + 3
  elseif kind == 'take' then
    if not free(ARGV[at + 3], from[1]) then return {'taken'} end
    put(ARGV[at + 3], from[1], ARGV[at + 2])
    at = at + 4
  elseif kind == 'given' then
    numbers[ARGV[at + 1] + 1] = ARGV[at + 2]
    at = at + 3
  elseif kind == 'reach' then
    reached[#reached + 1] = ARGV[at + 1]
    at = at + 2
  elseif kind == 'drop' then
    dropped[ARGV[at + 1] + 1] = true
    at = at + 2
  else
    local slot, wish, count, parties = tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3]), {}
    local together = 1
    for i = 1, count do
      parties[i] = ARGV[at + 3 + 2 * i]
      for _, entry in ipairs(call('HVALS', tag .. 'p:' .. parties[i])) do
        if tonumber(string.sub(entry, 15, 27)) > now then together = together + 1 end
      end
    end
    used = math.max(used, together)
    local position, later
    if tonumber(wish) then
      if not fits(parties, wish) then return {'taken'} end
      position = wish
    else
      position = wish == 'sticky' and last(parties)
      if not position then position, later = choose(parties) end
    end
    if position then
      for i = 1, count do put(parties[i], position, ARGV[at + 2 + 2 * i]) end
      numbers[slot + 1] = call('HGET', tag .. 'm', position)
    else
      needed = needed + 1
      if later < math.huge and later - now > retry then retry = later - now end
    end
    at = at + 4 + 2 * count
  end
end
if needed > 0 then return {'exhausted', needed, retry} end

-- Write.
local function entry_ends(before, ending, resting)
  return string.format('%d:%d', ending, resting) .. string.sub(before, 28)
end
local function secret(party, position, ending)
  local digits = digits_of(party)
  if not digits then return end
  local key = secrets_key(position, digits)
  if ending <= now then
    call('ZREM', key, party)
  else
    call('ZADD', key, string.format('%d', ending), party)
    local span = lapses - now + PARTY_MARGIN
    if call('PTTL', key) < span then call('PEXPIRE', key, span) end
  end
end
local kept = {}
for position, ordinal, party in string.gmatch(known[5], '(%d+):(%d+):(%S+)') do
  local key, ending = tag .. 'p:' .. party, ends[ordinal]
  local entry = call('HGET', key, position)
  if ending then
    ending = math.min(ending, expires)
    local resting = ending + tonumber(known[4])
    if resting <= now then
      call('HDEL', key, position)
    else
      call('HSET', key, position, entry_ends(entry, ending, resting))
    end
    secret(party, position, ending)
  else
    kept[#kept + 1] = position .. ':' .. ordinal .. ':' .. party
  end
end
for _, one in ipairs(puts) do
  local party, position, ordinal = one[1], one[2], one[3]
  local key = tag .. 'p:' .. party
  local before = call('HGET', key, position)
  local generation = before and string.match(before, '^%d+:(%d+):', 29) + 1 or 1
  call('HSET', key, position, string.format('%d:%d:%s:%d:%s:%s', expires, lapses, head[2] or '1', generation, string.sub(holder, 5), ordinal))
  local span = lapses - now + PARTY_MARGIN
  if call('PTTL', key) < span then call('PEXPIRE', key, span) end
  secret(party, position, expires)
  kept[#kept + 1] = position .. ':' .. ordinal .. ':' .. party
end
if #reached > 0 then
  call('HSET', record, 'shards', string.match(call('HGET', record, 'shards') .. ' ' .. table.concat(reached, ' '), '^ *(.*)$'))
end
local stay = {}
for slot, number in ipairs(numbers) do
  if not dropped[slot] then stay[#stay + 1] = number end
end
local listed, fields, rev = table.concat(stay, ' '), at + 2 * tonumber(ARGV[at]), known[7] + 1
local seq = append(holder, tonumber(known[6]), fields + 1, present, numbers)
call('HSET', record, 'grants', table.concat(kept, ' '), 'targets', ARGV[3], 'numbers', listed, 'rev', rev, 'seq', seq, unpack(ARGV, at + 1, fields))
call('HSET', KEYS[1], 'clock', present, 'cursor', cursor)
return {'amended', listed, seq, rev, used, #open}
