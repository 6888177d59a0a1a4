-- A user has so many connections to a host. What a host has not said again in time does not count.
-- KEYS: the user. ARGV: host, connections, TTL in milliseconds. Returns connections to all hosts.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)
if tonumber(ARGV[2]) > 0 then
  redis.call('HSET', KEYS[1], 'host:' .. ARGV[1], ARGV[2] .. ':' .. now_text)
else
  redis.call('HDEL', KEYS[1], 'host:' .. ARGV[1])
end
local online, hosts = 0, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 5) == 'host:' then
    local count, at = string.match(all[i + 1], '^(%d+):(%d+)$')
    if not at or now - tonumber(at) > tonumber(ARGV[3]) then
      redis.call('HDEL', KEYS[1], all[i])
    else
      online = online + tonumber(count)
      hosts[#hosts + 1] = string.sub(all[i], 6)
    end
  end
end
table.sort(hosts)
redis.call('HSET', KEYS[1], 'online', online, 'hosts', table.concat(hosts, ','),
  'lastSeen', now_text)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return online
