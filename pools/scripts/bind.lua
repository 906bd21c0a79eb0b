-- Gives a holder one X for each of its asks, all or none: decides first, then writes.
--   KEYS  1 {<sh>}h
--   ARGV  1 holder  2 ttl ms  3 quarantine ms  4 policy  5 cap  6 '1' when this is the holder's own shard, else ''
--         7 targets, by ordinal, spaces between  8 the other shards it has leases in, spaces between  9 count of asks, then for each:
--           the X when another shard gave it, else '' · ordinal of its first entry · count of parties · the parties
--         then counted fields, then counted events
--   gives {'bound' or 'again', numbers, expires, status, seq, rev}, or {'exhausted', numbers needed, ms until one is free or -1}
-- Selection: a cursor rotates over the positions open to new leases; a position is free when no party of the ask has an entry there
-- whose `until` is still to come. Each party's whole hash is read once, so the cost follows what the parties hold, never the pool.
local holder, quarantine, policy, cap = ARGV[1], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local home = ARGV[6] == '1'
local record = tag .. 's:' .. holder

local known = redis.call('HMGET', record, 'numbers', 'expires', 'status', 'seq', 'rev')
if known[2] then return {'again', unpack(known)} end

local head = redis.call('HMGET', KEYS[1], 'clock', 'epoch', 'cursor', 'open')
local now = clock(head[1])
local cursor, open = tonumber(head[3] or '0'), head[4] or ''
local size = #open
local lapses = now + tonumber(ARGV[2]) + quarantine
local expires, ends = now + tonumber(ARGV[2]) .. '', lapses .. ''
-- An entry is before .. generation .. after .. ordinal.
local before, after = expires .. ':' .. ends .. ':' .. (head[2] or '1') .. ':', ':' .. string.sub(holder, 5) .. ':'

-- What a party holds or has in quarantine here: entries by position; `fields` counts lapsed ones too; `row` will be its HSET.
local parties = {}
local function party_of(name)
  local party = parties[name]
  if party then return party end
  local key = tag .. 'p:' .. name
  local flat = redis.call('HGETALL', key)
  local entries = {}
  for i = 1, #flat, 2 do entries[flat[i]] = flat[i + 1] end
  party = {entries = entries, fields = #flat / 2, row = {'HSET', key}}
  parties[name] = party
  return party
end

-- The positions whose entries have lapsed, how many have not, and when the first and the last of those do.
local function standing(party)
  local lapsed, count, first, last = {}, 0, nil, 0
  for position, entry in pairs(party.entries) do
    local till = until_of(entry)
    if till <= now then
      lapsed[#lapsed + 1] = position
    else
      count = count + 1
      if not first or till < first then first = till end
      if till > last then last = till end
    end
  end
  return lapsed, count, first, last
end

-- When the position is free for all of the ask's parties: now, or later.
local function free_at(position, group)
  local at = now
  for i = 1, #group do
    local entry = group[i].entries[position]
    if entry then
      local till = until_of(entry)
      if till > at then at = till end
    end
  end
  return at
end

-- The X these parties had together last, where it is free and open.
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

-- A position free for the group, or nothing and when there will be one.
local function choose(group)
  for i = 1, #group do
    if group[i].fields >= cap then
      local _, count, first = standing(group[i])
      if count >= cap then return nil, first end
    end
  end
  local position = policy == 'prefer_sticky' and last_shared(group)
  if position then return position end
  local soonest
  for step = 0, size - 1 do
    position = string.byte(open, (cursor + step) % size + 1) .. ''
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
  local given, ordinal, last = ARGV[at], tonumber(ARGV[at + 1]), at + 2 + tonumber(ARGV[at + 2])
  if given ~= '' then
    numbers[ask] = given
  else
    local group = {}
    for i = at + 3, last do group[#group + 1] = party_of(ARGV[i]) end
    local position, soonest = choose(group)
    if position then
      places[#places + 1] = ask
      wanted[#wanted + 1] = position
      for i = 1, #group do
        local entries, row = group[i].entries, group[i].row
        local older = entries[position]
        local generation = older and string.match(older, '^%d+:%d+:%d+:(%d+):') + 1 or '1'
        local which = ordinal + i - 1
        local entry = before .. generation .. after .. which
        if not older then group[i].fields = group[i].fields + 1 end
        entries[position] = entry
        row[#row + 1] = position
        row[#row + 1] = entry
        grants[#grants + 1] = position .. ':' .. which .. ':' .. ARGV[at + 2 + i]
      end
    else
      needed = needed + 1
      if soonest and soonest - now > retry then retry = soonest - now end
    end
  end
  at = last + 1
end
if needed > 0 then return {'exhausted', needed, retry} end

-- Write.
if #wanted > 0 then
  local found = redis.call('HMGET', tag .. 'm', unpack(wanted))
  for i = 1, #places do numbers[places[i]] = found[i] end
end
for _, party in pairs(parties) do
  local key = party.row[2]
  local lapsed, _, _, last = standing(party)
  redis.call(unpack(party.row))
  redis.call('PEXPIRE', key, last - now + PARTY_MARGIN)
  if #lapsed > 8 then redis.call('HDEL', key, unpack(lapsed)) end
end
redis.call('HSET', KEYS[1], 'clock', now .. '', 'cursor', cursor .. '')

local listed = table.concat(numbers, ' ')
local seq = 0
local row = {'HSET', record, 'status', 'open', 'expires', expires, 'until', ends, 'quarantine', ARGV[3], 'rev', '1', 'calls', '0',
  'numbers', listed, 'targets', ARGV[7], 'shards', ARGV[8], 'grants', table.concat(grants, ' ')}
at = read_fields(at, row)
if home then
  local fill = {}
  for ask = 1, #numbers do fill['x' .. (ask - 1)] = numbers[ask] end
  seq = append(holder, 0, at, now, fill)
  redis.call('ZADD', tag .. 'due', expires, holder)
else
  -- A lease for a holder of another shard. Should that holder never come to be, the sweeper meets this mark in a minute.
  redis.call('ZADD', tag .. 'due', now + 60000, '~' .. holder)
end
row[#row + 1] = 'seq'
row[#row + 1] = seq
redis.call(unpack(row))
if not home then redis.call('PEXPIRE', record, lapses - now + HOLDER_MARGIN) end
return {'bound', listed, expires, 'open', seq, 1}
