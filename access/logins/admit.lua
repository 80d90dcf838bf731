-- Count one login before its password is checked, unless as many have failed as may.
-- KEYS: failures of the user, failures of the address, addresses the user has logged in from.
-- ARGV: most of the user from this address, most of the address, most of the user from addresses
--       that are not known (0: no such limit), the window in milliseconds, the address's digest,
--       the age in seconds at which an address is no longer known.
-- Returns: refused by (0 none, 1 pair, 2 address, 3 user), and milliseconds until the window ends;
--          or 0 and whether the address is known.
local pair, all = tonumber(ARGV[1]), tonumber(ARGV[3])
local address = tonumber(ARGV[2])
local now = tonumber(redis.call('TIME')[1])
local at = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[5]) or '')
local is_known = at ~= nil and now - at < tonumber(ARGV[6])

if pair > 0 and tonumber(redis.call('HGET', KEYS[1], ARGV[5]) or 0) >= pair then
  return {1, redis.call('PTTL', KEYS[1])}
end
-- From an address of earlier logins the user is not locked out by strangers' failures.
if not is_known then
  if address > 0 and tonumber(redis.call('GET', KEYS[2]) or 0) >= address then
    return {2, redis.call('PTTL', KEYS[2])}
  end
  if all > 0 and tonumber(redis.call('HGET', KEYS[1], 'all') or 0) >= all then
    return {3, redis.call('PTTL', KEYS[1])}
  end
end

redis.call('HINCRBY', KEYS[1], ARGV[5], 1)
if not is_known then
  redis.call('HINCRBY', KEYS[1], 'all', 1)
end
redis.call('INCR', KEYS[2])
for i = 1, 2 do
  -- The window begins with the first failure and is never prolonged.
  if redis.call('PTTL', KEYS[i]) < 0 then
    redis.call('PEXPIRE', KEYS[i], ARGV[4])
  end
end
return {0, is_known and 1 or 0}
