-- End one request: release its lease and count its tokens.
-- KEYS: tokens used today, leases of running requests. ARGV: the lease's name or '', tokens.
local DAY = 86400
if ARGV[1] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
end
if tonumber(ARGV[2]) > 0 then
  redis.call('INCRBY', KEYS[1], ARGV[2])
  -- The counter expires at midnight UTC, so an existing one is always today's.
  if redis.call('TTL', KEYS[1]) < 0 then
    local seconds = tonumber(redis.call('TIME')[1])
    redis.call('EXPIREAT', KEYS[1], seconds - seconds % DAY + DAY)
  end
end
return 1
