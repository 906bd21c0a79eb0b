-- Gives a holder one X for each of its asks, all or none: decides first, then writes.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 ttl ms  3 quarantine ms  4 policy  5 cap  6 '1' when this is the holder's own shard, else ''
--         7 targets, by ordinal, spaces between  8 the other shards it has leases in, spaces between  9 count of asks, then for each:
--           the X when another shard gave it, else '' · ordinal of its first entry · count of parties · the parties
--         then counted fields, then counted events
--   gives {'bound' or 'again', numbers, expires, status, seq, rev}, or {'exhausted', numbers needed, ms until one is free or -1}
-- Selection: a cursor rotates over the positions open to new leases; a position is free when no party of the ask has an entry there
-- whose `until` is still to come. Each party's whole hash is read once, so the cost follows what the parties hold, never the pool.
local holder, quarantine, cap = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[5])
local home = ARGV[6] == '1'
local record = tag .. 's:' .. holder

local known = call('HMGET', record, 'expires', 'numbers', 'status', 'seq', 'rev')
if known[1] then return {'again', known[2], known[1], known[3], known[4], known[5]} end

local head = call('HMGET', KEYS[1], 'clock', 'epoch', 'cursor', 'open')
local now = clock(head[1])
local cursor, open = tonumber(head[3] or '0'), head[4] or ''
local size = #open
local lapses = now + tonumber(ARGV[2]) + quarantine
local expires, ends = now + tonumber(ARGV[2]) .. '', lapses .. ''
-- An entry is before .. generation .. after .. ordinal.
local before, after = expires .. ':' .. ends .. ':' .. (head[2] or '1') .. ':', ':' .. string.sub(holder, 5) .. ':'

-- What the parties hold or have in quarantine here. Of each: its entries and when they lapse by position (a number), how many have not
-- lapsed, when the first and the last of those do, the positions that have; `row` will be its HSET.
local parties, byname = {}, {}
local function party_of(name)
  local party = byname[name]
  if party then return party end
  local key = tag .. 'p:' .. name
  local flat = call('HGETALL', key)
  local entries, untils, lapsed = {}, {}, {}
  local count, first, last = 0, nil, 0
  for i = 1, #flat, 2 do
    local position, entry = tonumber(flat[i]), flat[i + 1]
    local till = tonumber(string.sub(entry, 15, 27))
    entries[position], untils[position] = entry, till
    if till <= now then
      lapsed[#lapsed + 1] = position
    else
      count = count + 1
      if not first or till < first then first = till end
      if till > last then last = till end
    end
  end
  party = {entries = entries, untils = untils, lapsed = lapsed, count = count, first = first, last = last, row = {key}}
  parties[#parties + 1], byname[name] = party, party
  return party
end

-- The X these parties had together last, where it is free and open.
local function last_shared(group)
  local best, latest
  for position, till in pairs(group[1].untils) do
    local shared = till <= now and string.find(open, string.char(position), 1, true)
    for i = 2, #group do
      local other = group[i].untils[position]
      shared = shared and other and other <= now
    end
    if shared and (not best or till > latest) then best, latest = position, till end
  end
  return best
end

-- A position free for the group, or nothing and when there will be one.
local function choose(group)
  local members = #group
  for i = 1, members do
    if group[i].count >= cap then return nil, group[i].first end
  end
  local sticky = ARGV[4] == 'prefer_sticky' and last_shared(group)
  if sticky then return sticky end
  local soonest
  for step = 0, size - 1 do
    local position = string.byte(open, (cursor + step) % size + 1)
    local at = now
    for i = 1, members do
      local till = group[i].untils[position]
      if till and till > at then at = till end
    end
    if at == now then
      cursor = (cursor + step + 1) % size
      return position
    end
    if not soonest or at < soonest then soonest = at end
  end
  return nil, soonest
end

-- Decide.
local numbers, places, wanted, grants = {}, {}, {}, {}
local needed, retry = 0, -1
local at = 10
for ask = 1, tonumber(ARGV[9]) do
  local given, members = ARGV[at], tonumber(ARGV[at + 2])
  if given ~= '' then
    numbers[ask] = given
  else
    local group = {}
    for i = 1, members do group[i] = party_of(ARGV[at + 2 + i]) end
    local position, soonest = choose(group)
    if position then
      places[#places + 1] = ask
      local ordinal, place = ARGV[at + 1], position .. ''
      wanted[#wanted + 1] = place
      for i = 1, members do
        local party = group[i]
        local older, row = party.entries[position], party.row
        local generation = older and string.match(older, '^%d+:(%d+):', 29) + 1 or '1'
        if i > 1 then ordinal = ordinal + 1 end
        local entry = before .. generation .. after .. ordinal
        party.entries[position], party.untils[position] = entry, lapses
        if lapses > now then
          party.count = party.count + 1
          if not party.first or lapses < party.first then party.first = lapses end
          if lapses > party.last then party.last = lapses end
        end
        row[#row + 1] = place
        row[#row + 1] = entry
        grants[#grants + 1] = place .. ':' .. ordinal .. ':' .. ARGV[at + 2 + i]
      end
    else
      needed = needed + 1
      if soonest and soonest - now > retry then retry = soonest - now end
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
for _, party in ipairs(parties) do
  local key, gone = party.row[1], {}
  call('HSET', unpack(party.row))
  call('PEXPIRE', key, party.last - now + PARTY_MARGIN)
  for _, position in ipairs(party.lapsed) do
    if party.untils[position] <= now then gone[#gone + 1] = position end
  end
  if #gone > 8 then call('HDEL', key, unpack(gone)) end
end
local present = now .. ''
call('HSET', KEYS[1], 'clock', present, 'cursor', cursor)

local listed = table.concat(numbers, ' ')
local fields = at + 2 * tonumber(ARGV[at])
local seq = 0
if home then
  local fill = {}
  for ask = 1, #numbers do fill['x' .. (ask - 1)] = numbers[ask] end
  seq = append(holder, 0, fields + 1, present, fill)
  call('ZADD', tag .. 'due', expires, holder)
else
  -- A lease for a holder of another shard. Should that holder never come to be, the sweeper meets this mark in a minute.
  call('ZADD', tag .. 'due', now + 60000, '~' .. holder)
end
call('HSET', record, 'status', 'open', 'expires', expires, 'until', ends, 'quarantine', ARGV[3], 'rev', '1', 'calls', '0',
  'numbers', listed, 'targets', ARGV[7], 'shards', ARGV[8], 'grants', table.concat(grants, ' '), 'seq', seq, unpack(ARGV, at + 1, fields))
if not home then call('PEXPIRE', record, lapses - now + HOLDER_MARGIN) end
return {'bound', listed, expires, 'open', seq, 1}
