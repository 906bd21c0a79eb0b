-- Gives a holder one X for each of its asks, all or none: decides first, then writes.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 ttl ms  3 quarantine ms  4 policy  5 cap  6 '1' when this is the holder's own shard, else ''
--         7 targets, by ordinal, spaces between  8 the other shards it has leases in, spaces between  9 count of asks, then for each:
--           the X when another shard gave it, else '' · ordinal of its first entry · count of parties · the parties
--         then counted fields, then counted events
--   gives {'bound' or 'again', numbers, expires, status, seq, rev}, or {'exhausted', numbers needed, ms until one is free or -1}
-- Selection: a cursor rotates over the positions open to new leases; a position is free when no party of the ask has an entry there
-- whose `until` is still to come. Each party's whole hash is read once, so the cost follows what the parties hold, never the pool.
local holder, ttl, quarantine, policy, cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local home = ARGV[6] == '1'
local record = tag .. 's:' .. holder

local known = redis.call('HMGET', record, 'numbers', 'expires', 'status', 'seq', 'rev')
if known[2] then return {'again', known[1], known[2], known[3], known[4], known[5]} end

local head = redis.call('HMGET', KEYS[1], 'clock', 'epoch', 'cursor', 'open')
local now = clock(head[1])
local epoch = head[2] or '1'
local cursor = tonumber(head[3] or '0')
local open = head[4] or ''
local size = #open
local expires = now + ttl
local lapses = expires + quarantine

-- What a party holds or has in quarantine here, by position; `fields` counts lapsed entries too.
local parties = {}
local function party_of(name)
  local party = parties[name]
  if party then return party end
  party = {entries = {}, fields = 0, row = {tag .. 'p:' .. name}}
  local flat = redis.call('HGETALL', party.row[1])
  for i = 1, #flat, 2 do party.entries[flat[i]] = flat[i + 1] end
  party.fields = #flat / 2
  parties[name] = party
  return party
end

-- The positions whose entries have lapsed, how many have not, and when the first of those does.
local function standing(party)
  local lapsed, count, first = {}, 0, nil
  for position, entry in pairs(party.entries) do
    local till = until_of(entry)
    if till <= now then
      lapsed[#lapsed + 1] = position
    else
      count = count + 1
      if not first or till < first then first = till end
    end
  end
  return lapsed, count, first
end

-- When the position is free for all of the ask's parties: now, or later.
local function free_at(position, group)
  local at = now
  for _, party in ipairs(group) do
    local entry = party.entries[position]
    if entry then
      local till = until_of(entry)
      if till > at then at = till end
    end
  end
  return at
end

-- The X these parties had together before, where it is free and open again.
local function last_shared(group)
  local best, latest
  for position, entry in pairs(group[1].entries) do
    local shared = string.find(open, string.char(position), 1, true)
    for i = 2, #group do shared = shared and group[i].entries[position] end
    local till = until_of(entry)
    if shared and free_at(position, group) == now and (not best or till > latest) then best, latest = position, till end
  end
  return best
end

local function choose(group)
  for _, party in ipairs(group) do
    if party.fields >= cap then
      local _, count, first = standing(party)
      if count >= cap then return nil, first end
    end
  end
  if policy == 'prefer_sticky' then
    local position = last_shared(group)
    if position then return position end
  end
  local soonest
  for step = 0, size - 1 do
    local position = tostring(string.byte(open, (cursor + step) % size + 1))
    local at = free_at(position, group)
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
  local given, ordinal, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  if given ~= '' then
    numbers[ask] = given
  else
    local group, names = {}, {}
    for i = 1, count do
      names[i] = ARGV[at + i - 1]
      group[i] = party_of(names[i])
    end
    local position, soonest = choose(group)
    if position then
      places[#places + 1] = ask
      wanted[#wanted + 1] = position
      for i, party in ipairs(group) do
        local before = party.entries[position]
        local generation = before and tonumber(string.match(before, '^%d+:%d+:%d+:(%d+):')) + 1 or 1
        local entry = entry_of(expires, lapses, epoch, generation, holder, ordinal + i - 1)
        party.entries[position] = entry
        party.fields = before and party.fields or party.fields + 1
        party.row[#party.row + 1] = position
        party.row[#party.row + 1] = entry
        grants[#grants + 1] = position .. ':' .. (ordinal + i - 1) .. ':' .. names[i]
      end
    else
      needed = needed + 1
      if soonest and soonest - now > retry then retry = soonest - now end
    end
  end
  at = at + count
end
if needed > 0 then return {'exhausted', needed, retry} end

-- Write.
if #wanted > 0 then
  local found = redis.call('HMGET', tag .. 'm', unpack(wanted))
  for i, ask in ipairs(places) do numbers[ask] = found[i] end
end
for _, party in pairs(parties) do
  redis.call('HSET', unpack(party.row))
  keep(party.row[1], lapses - now + PARTY_MARGIN)
  if party.fields > 16 then
    local lapsed = standing(party)
    if #lapsed > 0 then redis.call('HDEL', party.row[1], unpack(lapsed)) end
  end
end
redis.call('HSET', KEYS[1], 'clock', now, 'cursor', cursor)

local listed = table.concat(numbers, ' ')
local row = {record, 'status', 'open', 'expires', expires, 'until', lapses, 'quarantine', quarantine, 'rev', 1, 'calls', 0,
  'numbers', listed, 'targets', ARGV[7], 'shards', ARGV[8], 'grants', table.concat(grants, ' ')}
at = read_fields(at, row)
local seq = 0
if home then
  local fill = {}
  for ask, number in ipairs(numbers) do fill['x' .. (ask - 1)] = number end
  seq = append(holder, 0, read_events(at), now, fill)
  redis.call('ZADD', tag .. 'due', expires, holder)
else
  -- A lease for a holder of another shard. Should that holder never come to be, the sweeper meets this mark in a minute.
  redis.call('ZADD', tag .. 'due', now + 60000, '~' .. holder)
end
row[#row + 1] = 'seq'
row[#row + 1] = seq
redis.call('HSET', unpack(row))
if not home then redis.call('PEXPIRE', record, lapses - now + HOLDER_MARGIN) end
return {'bound', listed, expires, 'open', seq, 1}
