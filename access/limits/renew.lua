-- Prolong leases of one key's running requests.
-- KEYS: leases. ARGV: their length in milliseconds, their names.
-- Only leases that still exist (XX): one that was released must not come back.
local time = redis.call('TIME')
local lease_ms = tonumber(ARGV[1])
local until_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + lease_ms
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', until_ms, ARGV[index])
end
return redis.call('PEXPIRE', KEYS[1], lease_ms)
