-- Takes a session over if it is still what was read: of several who try, one succeeds. And back.
-- KEYS: the session. ARGV: what was read, what it is from now on, that one's TTL in milliseconds.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
