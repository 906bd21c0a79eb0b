-- What every script of a shard shares. KEYS[1] is the shard's head, `{<sh>}h`; every other key is made from its tag, so that a
-- script stays in one slot. A party's hash has one entry per X position, text of fixed columns, short enough (<= 64) for Redis
-- to keep the hash packed:
--   <expires, 13>:<until, 13>:<epoch>:<generation>:<holder without "ses_">:<ordinal of its target>
local tag = string.sub(KEYS[1], 1, -2)

-- How long a key outlives what it says (ms). Redis' own expiry only collects garbage: it must neither cut a binding short when
-- the server's clock steps forward by hours, nor lose the holder of a call that outlives its binding (calls end within 4 h).
local PARTY_MARGIN = 3 * 3600000
local HOLDER_MARGIN = 6 * 3600000

local ENDED = {closed = true, failed = true}

-- Now, never earlier than this shard has seen: a clock that is stepped back revives nothing.
local function clock(seen)
  local now = server_time()
  local last = tonumber(seen or '0')
  if last > now then return last end
  return now
end

local function entry_of(expires, lapses, epoch, generation, holder, ordinal)
  return string.format('%013.0f:%013.0f:%s:%s:%s:%s', expires, lapses, epoch, generation, string.sub(holder, 5), ordinal)
end

local function until_of(entry) return tonumber(string.sub(entry, 15, 27)) end

-- Keeps a key for at least `span` ms from now, and never shortens it (PEXPIRE's own GT is younger than Redis 6.2).
local function keep(key, span)
  if redis.call('PTTL', key) < span then redis.call('PEXPIRE', key, span) end
end

-- Appends events to the holder's journal (a list: the entry of seq n stands at place n - 1, so no seq can be missing) and, for the
-- courier, to the shard's outbox. `events` is a list of {type, time ('': now), data}; `fill` has what stands for the $words in the
-- data. Gives the new last seq, which the caller writes to the holder.
local function append(holder, seq, events, now, fill)
  for _, event in ipairs(events) do
    local kind, at, data = event[1], event[2], event[3]
    if at == '' then at = now end
    if fill then data = string.gsub(data, '%$(%l+%d*)', fill) end
    seq = redis.call('RPUSH', tag .. 'e:' .. holder, kind .. ' ' .. at .. ' ' .. data)
    redis.call('XADD', tag .. 'o', '*', 'holder', holder, 'seq', seq, 'type', kind, 'at', at, 'data', data)
  end
  return seq
end

-- Counted lists in ARGV from `first` on: names and values of fields, added to `row`; events. Each gives where the next one starts.
local function read_fields(first, row)
  local last = first + 2 * tonumber(ARGV[first])
  for i = first + 1, last do row[#row + 1] = ARGV[i] end
  return last + 1
end

local function read_events(first)
  local events, at = {}, first + 1
  for i = 1, tonumber(ARGV[first]) do
    events[i] = {ARGV[at], ARGV[at + 1], ARGV[at + 2]}
    at = at + 3
  end
  return events, at
end

-- Rewrites the end of every entry that is still this holder's. `grants` is the holder's list of `position:ordinal:party`.
-- Entries that would be free at once (`lapses` has come) are removed.
local function move(holder, grants, expires, lapses, now)
  local mine = string.sub(holder, 5)
  for position, ordinal, party in string.gmatch(grants, '(%d+):(%d+):(%S+)') do
    local key = tag .. 'p:' .. party
    local entry = redis.call('HGET', key, position)
    if entry then
      local epoch, generation, whose = string.match(entry, '^%d+:%d+:(%d+):(%d+):(%w+):')
      if whose == mine and lapses <= now then
        redis.call('HDEL', key, position)
      elseif whose == mine then
        redis.call('HSET', key, position, entry_of(expires, lapses, epoch, generation, holder, ordinal))
        keep(key, lapses - now + PARTY_MARGIN)
      end
    end
  end
end
