-- Reserve tokens of the day for a model call that is about to be made.
-- KEYS: tokens used today, reservations of calls under way.
-- ARGV: tokens a day, the reservation's name, its tokens, its length in milliseconds,
--       1 if it is refused also for what others have reserved.
-- Returns: refused by (0 none, 1 reservations, 2 the day), wait in microseconds.
-- A call passes while no other is under way, or if all fit: so the day's limit is overshot by the
-- tokens that calls use beyond their reservations, and not by all that begin at once.
local DAY = 86400
local WAIT = 5000000
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now_ms = seconds * 1000 + math.floor(tonumber(time[2]) / 1000)
local per_day, tokens, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local used = tonumber(redis.call('GET', KEYS[1]) or '') or 0
if used >= per_day then
  return {2, (DAY - seconds % DAY) * 1000000}
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
local reserved = 0
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  reserved = reserved + (tonumber(string.match(name, ':(%d+)$') or '') or 0)
end
if ARGV[5] == '1' and reserved > 0 and used + reserved + tokens > per_day then
  return {1, WAIT}
end
redis.call('ZADD', KEYS[2], now_ms + lease_ms, ARGV[2])
redis.call('PEXPIRE', KEYS[2], lease_ms)
return {0, 0}
