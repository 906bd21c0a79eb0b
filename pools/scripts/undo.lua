-- Takes back leases that nobody has been told of: the holder's own shard had no number, or never heard of it. No tombstones.
--   KEYS  1 {<sh>}h    ARGV  1 holder
local holder = ARGV[1]
local record = tag .. 's:' .. holder
local grants = call('HGET', record, 'grants')
if grants then move(holder, grants, 0, 0, 0) end
call('DEL', record)
call('ZREM', tag .. 'due', '~' .. holder)
return 1
