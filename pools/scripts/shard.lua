-- What every script of a shard begins with. KEYS[1] is the shard's head, `{<sh>}h`; every other key is made from its tag, so that a
-- script stays in one slot. A party's hash has one entry per X position, text of fixed columns, short enough (<= 64) for Redis
-- to keep the hash packed:
--   <expires, 13 digits>:<until, 13 digits>:<epoch>:<generation>:<holder without "ses_">:<ordinal of its target>
-- Times are milliseconds and have 13 digits until the year 2286. Each is turned into text once, and a script is given only the
-- functions it calls: making them anew for every run, and text of numbers, is much of what a script spends of its own.
local call, tag = redis.call, string.sub(KEYS[1], 1, -2)

-- How long a key outlives what it says (ms). Redis' own expiry only collects garbage: it must neither cut a binding short when
-- the server's clock steps forward by hours, nor lose the holder of a call that outlives its binding (calls end within 4 h).
local PARTY_MARGIN = 3 * 3600000
local HOLDER_MARGIN = 6 * 3600000

-- Now, never earlier than this shard has seen: a clock that is stepped back revives nothing.
local function clock(seen)
  local now = server_time()
  local last = seen and tonumber(seen) or 0
  if last > now then return last end
  return now
end
