-- Rewrites the end of every entry that is still this holder's; where `lapses` has come by `now`, it removes them. `grants` is the
-- holder's list of `position:ordinal:party`. `longer`: keeps the parties' keys alive for it.
local function move(holder, grants, expires, lapses, now, longer)
  local mine = ':' .. string.sub(holder, 5) .. ':'
  local ends = expires .. ':' .. lapses .. ':'
  for position, party in string.gmatch(grants, '(%d+):%d+:(%S+)') do
    local key = tag .. 'p:' .. party
    local entry = call('HGET', key, position)
    if entry and string.find(entry, mine, 29, true) then
      if lapses <= now then
        call('HDEL', key, position)
      else
        call('HSET', key, position, ends .. string.sub(entry, 29))
        local span = lapses - now + PARTY_MARGIN
        -- PEXPIRE's own GT is younger than Redis 6.2.
        if longer and call('PTTL', key) < span then call('PEXPIRE', key, span) end
      end
      local digits = digits_of(party)
      if digits then
        local secrets = secrets_key(position, digits)
        if expires <= now then
          call('ZREM', secrets, party)
        else
          call('ZADD', secrets, expires, party)
          local span = lapses - now + PARTY_MARGIN
          if call('PTTL', secrets) < span then call('PEXPIRE', secrets, span) end
        end
      end
    end
  end
end
