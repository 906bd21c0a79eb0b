-- Some parties are no people but what a caller keys in: `k<digits>.<index>`. Which of them live on a position stands in a sorted set for
-- each length, `{<sh>}k:<position>:<digits>`, by the end of their binding: a guess of that length can open no others.
local function digits_of(party)
  return string.match(party, '^k(%d+)%.')
end

local function secrets_key(position, digits)
  return tag .. 'k:' .. position .. ':' .. digits
end
