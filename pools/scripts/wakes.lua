-- A holder may ask to be looked at at some time: its field `wakes` (ms, or '' for never) stands in {<sh>}w, too. `first` and `last`
-- are the places in ARGV of the fields just written.
local function wake(holder, first, last)
  for i = first, last, 2 do
    if ARGV[i] == 'wakes' and ARGV[i + 1] == '' then
      call('ZREM', tag .. 'w', holder)
    elseif ARGV[i] == 'wakes' then
      call('ZADD', tag .. 'w', ARGV[i + 1], holder)
    end
  end
end
