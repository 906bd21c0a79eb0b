-- Which positions are open and not ailing: `well` in the shard's head, what new leases try first. Without it, and where there is
-- none, all that are open are as good. `open` as it is by now.
local function settle(open)
  local ailing = redis.call('HKEYS', tag .. 'ail')
  if #ailing > 0 then
    local bad = {}
    for _, position in ipairs(ailing) do bad[string.char(tonumber(string.match(position, '^%d+')))] = true end
    local well = string.gsub(open, '.', function(one) if bad[one] then return '' end end)
    if well ~= '' and #well < #open then
      redis.call('HSET', KEYS[1], 'well', well)
      return
    end
  end
  redis.call('HDEL', KEYS[1], 'well')
end
