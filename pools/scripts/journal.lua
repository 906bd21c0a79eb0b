-- Appends events to the holder's journal (a list: the entry of seq n stands at place n - 1, so no seq can be missing) and, for the
-- courier, to the shard's outbox. ARGV has their count at `first`, then type, time ('': `present`) and data of each; `numbers`
-- has what stands for $x0, $x1 … in the data. Gives the new last seq, `seq` when there is no event; the caller writes it to the holder.
local function append(holder, seq, first, present, numbers)
  local last = first + 3 * tonumber(ARGV[first])
  if last == first then return seq end
  local rows, times, bodies = {}, {}, {}
  for i = first + 1, last, 3 do
    local at, data = ARGV[i + 1], ARGV[i + 2]
    if at == '' then at = present end
    if numbers and string.find(data, '$x', 1, true) then
      data = string.gsub(data, '%$x(%d+)', function(ask) return numbers[ask + 1] end)
    end
    local n = #rows + 1
    rows[n], times[n], bodies[n] = ARGV[i] .. ' ' .. at .. ' ' .. data, at, data
  end
  seq = call('RPUSH', tag .. 'e:' .. holder, unpack(rows))
  local outbox, before = tag .. 'o', seq - #rows
  for n = 1, #rows do
    call('XADD', outbox, '*', 'holder', holder, 'seq', before + n, 'type', ARGV[first + 3 * n - 2], 'at', times[n], 'data', bodies[n])
  end
  return seq
end
