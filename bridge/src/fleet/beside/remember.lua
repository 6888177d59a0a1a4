-- Keeps or ends a session, unless it has become another host's.
-- KEYS: the session. ARGV: how this host's sessions begin, the session or '' to end it, its TTL in
-- milliseconds; then, if only a session of certain sockets is to end, their ids as JSON.
-- Returns 1, 0 if it is another host's, or 2 if it is another socket's of this host.
local old = redis.call('GET', KEYS[1])
if old and string.sub(old, 1, #ARGV[1]) ~= ARGV[1] then
  if string.sub(old, -13) == '"taken":true}' then
    -- It has changed since it was taken over: it must not be put back as it was.
    redis.pcall('SET', KEYS[1], string.sub(old, 1, -2) .. ',"late":true}', 'KEEPTTL')
  end
  return 0
end
if ARGV[2] ~= '' then
  local done = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  if done.err then
    -- For want of memory: what is out of date is worse than nothing.
    redis.call('DEL', KEYS[1])
    return done
  end
  return 1
end
local is_its = #ARGV < 4 or not old
for i = 4, #ARGV do
  -- Quotes within a session's texts are escaped: this is its own field.
  is_its = is_its or string.find(old, '"sid":' .. ARGV[i], 1, true)
end
if not is_its then
  return 2
end
redis.call('DEL', KEYS[1])
return 1
