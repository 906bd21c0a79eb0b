-- Gives a holder one X for each of its asks, all or none: decides first, then writes.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 ttl ms  3 quarantine ms  4 policy  5 cap  6 '1' when this is the holder's own shard, else ''
--         7 targets, by ordinal, spaces between  8 the other shards it has leases in, spaces between  9 count of asks, then for each:
--           the X when another shard gave it, `~` and how its X is to begin, or '' · ordinal of its first entry · count of parties ·
--           the parties
--         then counted fields, then counted events
--   gives {'bound' or 'again', numbers, expires, status, seq, rev, and when bound: the most numbers that the parties of an ask hold or
--         have in quarantine here together, and how many are open}, or {'exhausted', numbers needed, ms until one is free or -1}
-- Selection: a cursor rotates over the positions open to new leases, first those that do well (`health`), then all. A position is free
-- when no party of the ask has an entry there whose `until` is still to come; one that none of them has had is taken before the one
-- they had longest ago, unless they are to have the last once more (`prefer_sticky`). Each party's whole hash is read once, so the cost
-- follows what the parties hold and held, never the pool.
local holder, quarantine, cap = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[5])
local home = ARGV[6] == '1'
local record = tag .. 's:' .. holder

if call('EXISTS', record) == 1 then
  return {'again', unpack(call('HMGET', record, 'numbers', 'expires', 'status', 'seq', 'rev'))}
end

local head = call('HMGET', KEYS[1], 'clock', 'epoch', 'cursor', 'open', 'well')
local now = clock(head[1])
local cursor, open = tonumber(head[3] or '0'), head[4] or ''
local first = head[5] or open  -- the positions that do well, where some do not
local size = #open
local lapses = now + tonumber(ARGV[2]) + quarantine
local present = string.format('%d', now)
local expires, ends = string.format('%d', lapses - quarantine), string.format('%d', lapses)
-- An entry is before .. generation .. after .. ordinal.
local before, after = expires .. ':' .. ends .. ':' .. (head[2] or '1') .. ':', ':' .. string.sub(holder, 5) .. ':'

-- What the parties hold or have in quarantine here. Of each: when its entries lapse by position (a number), how many have not, when the
-- first and the last of those do, the positions that have; `row` will be its HSET, `longer` says that its key has to live longer.
local parties, known = {}, {}
local function party_of(name)
  if known[name] then return known[name] end
  local key = tag .. 'p:' .. name
  local flat = call('HGETALL', key)
  local party = {untils = {}, count = 0, last = 0, row = {key}}
  if string.byte(name) == 107 then party.digits = digits_of(name) end  -- a k, as of one person in 64
  if #flat > 0 then
    local untils, lapsed, count, first, last, sub = party.untils, {}, 0, math.huge, 0, string.sub
    for i = 1, #flat, 2 do
      local position, till = flat[i] + 0, sub(flat[i + 1], 15, 27) + 0  -- cheaper than tonumber, for hundreds of entries
      untils[position] = till
      if till <= now then
        lapsed[#lapsed + 1] = position
      else
        count = count + 1
        if till < first then first = till end
        if till > last then last = till end
      end
    end
    party.lapsed, party.count, party.first, party.last = lapsed, count, count > 0 and first, last
  end
  parties[#parties + 1], known[name] = party, party
  return party
end

-- The X these people had together last, where it is free and open; a secret is new each time, so it need only be free there.
local last_shared = ARGV[4] == 'prefer_sticky' and function(group)
  local best, latest
  for position, till in pairs(group[1].untils) do
    local shared = till <= now and string.find(first, string.char(position), 1, true)
    for i = 2, #group do
      local other = group[i].untils[position]
      if other then shared = shared and other <= now else shared = shared and group[i].digits end
    end
    if shared and (not best or till > latest) then best, latest = position, till end
  end
  return best
end

-- Have the secrets of the group room beside those of their length that live on a position already?
local kept = {}
local function room(group, digits, position)
  local key = secrets_key(position, digits)
  local more = kept[key] and #kept[key] / 2 or 0
  for i = 1, #group do
    if group[i].digits then more = more + 1 end
  end
  return call('ZCOUNT', key, '(' .. present, '+inf') + more <= 10 ^ (digits - 4)
end

-- Those positions of the line whose X begins so. Every X of the shard is read once, for binds that ask.
local xs
local function beginning(line, prefix)
  if not xs then
    local flat = call('HGETALL', tag .. 'm')
    xs = {}
    for i = 1, #flat, 2 do xs[flat[i] + 0] = flat[i + 1] end
  end
  return (string.gsub(line, '.', function(char)
    return string.sub(xs[string.byte(char)], 1, #prefix) == prefix and char or ''
  end))
end

-- A position free for the group, whose X begins as is wished, or nothing and when there will be one.
local function choose(group, prefix)
  local members = #group
  for i = 1, members do
    if group[i].count >= cap then return nil, group[i].first end
  end
  local digits = group[members].digits  -- secrets stand last
  local byte, line, open = string.byte, first, open
  if prefix ~= '' then line, open = beginning(first, prefix), beginning(open, prefix) end
  local sticky = last_shared and last_shared(group)
  if sticky and string.find(open, string.char(sticky), 1, true) and (not digits or room(group, digits, sticky)) then return sticky end
  repeat
    local count, had, oldest = #line, nil, nil  -- the step to the position that they had longest ago
    for step = 0, count - 1 do
      local position, last = byte(line, (cursor + step) % count + 1), nil
      for i = 1, members do
        local till = group[i].untils[position]
        if till and not (last and last > till) then
          last = till
          if till > now then break end
        end
      end
      if (not last or last <= now) and (not digits or room(group, digits, position)) then
        if not last or last_shared then
          cursor = (cursor + step + 1) % count
          return position
        elseif not oldest or last < oldest then
          had, oldest = step, last
        end
      end
    end
    if had then
      local position = byte(line, (cursor + had) % count + 1)
      cursor = (cursor + had + 1) % count
      return position
    end
    line = line ~= open and open
  until not line
  local soonest  -- when, of the positions that are not free for the group, the first will be
  for place = 1, #open do
    local position, at = byte(open, place), now
    for i = 1, members do at = math.max(at, group[i].untils[position] or now) end
    if not soonest or at < soonest then soonest = at end
  end
  return nil, soonest
end

-- Decide.
local numbers, places, wanted, grants = {}, {}, {}, {}
local needed, retry, used = 0, -1, 0
local at = 10
for ask = 1, tonumber(ARGV[9]) do
  local given, members = ARGV[at], tonumber(ARGV[at + 2])
  if string.byte(given) == 43 then  -- a +
    numbers[ask] = given
  else
    local group, together = {}, 1
    for i = 1, members do
      group[i] = party_of(ARGV[at + 2 + i])
      together = together + group[i].count
    end
    if together > used then used = together end
    local position, later = choose(group, string.sub(given, 2))
    if position then
      places[#places + 1] = ask
      local ordinal, place = ARGV[at + 1], position .. ''
      wanted[#wanted + 1] = place
      for i = 1, members do
        local party = group[i]
        local row, generation = party.row, '1'
        if party.untils[position] then
          generation = (string.match(call('HGET', row[1], place) or '', '^%d+:(%d+):', 29) or 0) + 1
        end
        if i > 1 then ordinal = ordinal + 1 end
        party.untils[position] = lapses
        if lapses > now then
          party.count = party.count + 1
          if not party.first or lapses < party.first then party.first = lapses end
        end
        if lapses > party.last then party.last, party.longer = lapses, true end
        row[#row + 1] = place
        row[#row + 1] = before .. generation .. after .. ordinal
        if party.digits then
          local key = secrets_key(place, party.digits)
          local secrets = kept[key] or {}
          kept[key], secrets[#secrets + 1], secrets[#secrets + 2] = secrets, expires, ARGV[at + 2 + i]
        end
        grants[#grants + 1] = place .. ':' .. ordinal .. ':' .. ARGV[at + 2 + i]
      end
    else
      needed = needed + 1
      if later and later - now > retry then retry = later - now end
    end
  end
  at = at + 3 + members
end
if needed > 0 then return {'exhausted', needed, retry} end

-- Write.
if #wanted > 0 then
  local found = call('HMGET', tag .. 'm', unpack(wanted))
  for i = 1, #places do numbers[places[i]] = found[i] end
end
local span = string.format('%d', lapses - now + PARTY_MARGIN)
for i = 1, #parties do
  local party = parties[i]
  local key = party.row[1]
  call('HSET', unpack(party.row))
  if party.longer then call('PEXPIRE', key, span) end
  if party.lapsed then
    local gone = {}
    for _, position in ipairs(party.lapsed) do
      if party.untils[position] <= now then gone[#gone + 1] = position end
    end
    if #gone > 8 then call('HDEL', key, unpack(gone)) end
  end
end
for key, secrets in pairs(kept) do
  call('ZREMRANGEBYSCORE', key, '-inf', present)
  call('ZADD', key, unpack(secrets))
  if call('PTTL', key) < span + 0 then call('PEXPIRE', key, span) end
end
call('HSET', KEYS[1], 'clock', present, 'cursor', cursor)

local listed = table.concat(numbers, ' ')
local fields = at + 2 * tonumber(ARGV[at])
local seq = 0
if home then
  seq = append(holder, 0, fields + 1, present, numbers)
  call('ZADD', tag .. 'due', expires, holder)
else
  -- A lease for a holder of another shard. Should that holder never come to be, the sweeper meets this mark in a minute.
  call('ZADD', tag .. 'due', now + 60000, '~' .. holder)
end
call('HSET', record, 'status', 'open', 'expires', expires, 'until', ends, 'quarantine', ARGV[3], 'rev', '1', 'calls', '0',
  'numbers', listed, 'targets', ARGV[7], 'shards', ARGV[8], 'grants', table.concat(grants, ' '), 'seq', seq, unpack(ARGV, at + 1, fields))
wake(holder, at + 1, fields)
if not home then call('PEXPIRE', record, lapses - now + HOLDER_MARGIN) end
return {'bound', listed, expires, 'open', seq, 1, used, size}
