-- Removes some of a dead host's members from a room.
-- KEYS: members, rooms, rooms of the host, events
-- ARGV: host, room, 'PUBLISH' or 'SPUBLISH', cursor, how many to look at, '1': name who was removed
-- Returns the next cursor ('0': it is done), how many were removed, how many members are left, and
-- of each who is to be named its id and the member.
local scan = redis.call('HSCAN', KEYS[1], ARGV[4], 'COUNT', ARGV[5])
local gone = 0
local named = {}
for i = 1, #scan[2], 2 do
  if string.sub(scan[2][i + 1], 10, 17) == ARGV[1] then
    if redis.call('HDEL', KEYS[1], scan[2][i]) == 1 then
      redis.call(ARGV[3], KEYS[4], 'L' .. ARGV[1] .. scan[2][i])
      gone = gone + 1
      if ARGV[6] == '1' then
        named[#named + 1] = scan[2][i]
        named[#named + 1] = scan[2][i + 1]
      end
    end
  end
end
if scan[1] == '0' then
  redis.call('HDEL', KEYS[3], ARGV[2])
elseif gone > 0 then
  redis.call('HINCRBY', KEYS[3], ARGV[2], -gone)
end
local all = redis.call('HLEN', KEYS[1])
if all == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
end
return { scan[1], gone, all, named }
