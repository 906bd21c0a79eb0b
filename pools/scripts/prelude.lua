-- What every script of a shard shares. KEYS[1] is the shard's head, `{<sh>}h`; every other key is made from its tag, so that a
-- script stays in one slot. A party's hash has one entry per X position, text of fixed columns, short enough (<= 64) for Redis
-- to keep the hash packed:
--   <expires, 13 digits>:<until, 13 digits>:<epoch>:<generation>:<holder without "ses_">:<ordinal of its target>
-- Times are milliseconds and have 13 digits until the year 2286. Each is turned into text once: that is what a script spends
-- most of its own time on.
local tag = string.sub(KEYS[1], 1, -2)

-- How long a key outlives what it says (ms). Redis' own expiry only collects garbage: it must neither cut a binding short when
-- the server's clock steps forward by hours, nor lose the holder of a call that outlives its binding (calls end within 4 h).
local PARTY_MARGIN = 3 * 3600000
local HOLDER_MARGIN = 6 * 3600000

local function ended(status) return status == 'closed' or status == 'failed' end

-- Now, never earlier than this shard has seen: a clock that is stepped back revives nothing.
local function clock(seen)
  local now = server_time()
  local last = seen and tonumber(seen) or 0
  if last > now then return last end
  return now
end

local function until_of(entry) return tonumber(string.sub(entry, 15, 27)) end

-- Appends events to the holder's journal (a list: the entry of seq n stands at place n - 1, so no seq can be missing) and, for the
-- courier, to the shard's outbox. ARGV has their count at `first`, then type, time ('': now) and data of each; `fill` has what stands
-- for the $words in the data. Gives the new last seq, which the caller writes to the holder.
local function append(holder, seq, first, now, fill)
  local journal, outbox, present = tag .. 'e:' .. holder, tag .. 'o', now .. ''
  for i = first + 1, first + 3 * tonumber(ARGV[first]), 3 do
    local kind, at, data = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if at == '' then at = present end
    if fill and string.find(data, '$', 1, true) then data = string.gsub(data, '%$(%l+%d*)', fill) end
    seq = redis.call('RPUSH', journal, kind .. ' ' .. at .. ' ' .. data)
    redis.call('XADD', outbox, '*', 'holder', holder, 'seq', seq, 'type', kind, 'at', at, 'data', data)
  end
  return seq
end

-- Adds the fields counted in ARGV at `first` to `row`; where the next list starts.
local function read_fields(first, row)
  local last = first + 2 * tonumber(ARGV[first])
  for i = first + 1, last do row[#row + 1] = ARGV[i] end
  return last + 1
end

-- Rewrites the end of every entry that is still this holder's; where `lapses` has come by `now`, it removes them. `grants` is the
-- holder's list of `position:ordinal:party`. `longer`: keeps the parties' keys alive for it.
local function move(holder, grants, expires, lapses, now, longer)
  local mine = ':' .. string.sub(holder, 5) .. ':'
  local ends = expires .. ':' .. lapses .. ':'
  for position, party in string.gmatch(grants, '(%d+):%d+:(%S+)') do
    local key = tag .. 'p:' .. party
    local entry = redis.call('HGET', key, position)
    if entry and string.find(entry, mine, 29, true) then
      if lapses <= now then
        redis.call('HDEL', key, position)
      else
        redis.call('HSET', key, position, ends .. string.sub(entry, 29))
        local span = lapses - now + PARTY_MARGIN
        -- PEXPIRE's own GT is younger than Redis 6.2.
        if longer and redis.call('PTTL', key) < span then redis.call('PEXPIRE', key, span) end
      end
    end
  end
end
