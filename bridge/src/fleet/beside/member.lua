-- A member of a host enters or leaves a room.
-- KEYS: members, rooms, rooms of the host (which ends in its number), events
-- ARGV: 'E' or 'L', host, room, id, 'PUBLISH' or 'SPUBLISH', event, member with its host
-- Returns how many members the host has in the room, how many there are, and 0 if who should leave
-- was not there.
local old = redis.call('HGET', KEYS[1], ARGV[4])
local was = old and string.sub(old, 10, 17)
local done = 1
local function less(host)
  local counts = string.sub(KEYS[3], 1, -9) .. host
  if redis.call('HINCRBY', counts, ARGV[3], -1) < 1 then
    redis.call('HDEL', counts, ARGV[3])
  end
end
if ARGV[1] == 'E' then
  redis.call('HSET', KEYS[1], ARGV[4], ARGV[7])
  if was == ARGV[2] then
    redis.call('HSETNX', KEYS[3], ARGV[3], 1)
  else
    if was then less(was) end
    redis.call('HINCRBY', KEYS[3], ARGV[3], 1)
  end
  redis.call('ZADD', KEYS[2], 0, ARGV[3])
  redis.call(ARGV[5], KEYS[4], ARGV[6])
elseif was == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[4])
  less(was)
  redis.call(ARGV[5], KEYS[4], ARGV[6])
else
  done = 0
end
local own = tonumber(redis.call('HGET', KEYS[3], ARGV[3]) or 0)
local all = redis.call('HLEN', KEYS[1])
if all == 0 then
  redis.call('ZREM', KEYS[2], ARGV[3])
end
return { own, all, done }
