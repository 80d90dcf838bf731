-- Take back the count of a login that did not fail.
-- KEYS: as in admit.lua.
-- ARGV: the address's digest, whether the password was right (else it was not checked), how many
--       addresses are known of a user, for how many seconds, whether this one was known.
local function lower(value, remove)
  if value <= 0 then
    remove()
  end
end

if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[2] == '1' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  elseif redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
    lower(redis.call('HINCRBY', KEYS[1], ARGV[1], -1), function()
      redis.call('HDEL', KEYS[1], ARGV[1])
    end)
  end
  if ARGV[5] == '0' and redis.call('HEXISTS', KEYS[1], 'all') == 1 then
    lower(redis.call('HINCRBY', KEYS[1], 'all', -1), function()
      redis.call('HDEL', KEYS[1], 'all')
    end)
  end
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  lower(redis.call('DECR', KEYS[2]), function() redis.call('DEL', KEYS[2]) end)
end
if ARGV[2] == '1' and tonumber(ARGV[4]) > 0 then
  redis.call('ZADD', KEYS[3], redis.call('TIME')[1], ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[3]))
  redis.call('EXPIRE', KEYS[3], ARGV[4])
end
return 1
