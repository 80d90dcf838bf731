-- Decide about one request, and count it if it may pass.
-- KEYS: request rate, tokens used today, leases of running requests.
-- ARGV: requests a minute, tokens a day, most at once (0: no such limit, or not for this request),
--       the lease's name, its length in milliseconds.
-- Answer: refused by (0 none, 1 requests, 2 tokens, 3 concurrency), wait, requests remaining,
--         their reset, tokens used, their reset; all times in microseconds.
local MINUTE, DAY = 60000000, 86400
-- Hits are told late (hits.lua), so more may have passed than the minute allows, and the key's time
-- lies further ahead. Further than this only if the server's clock was set back.
local LONGEST_DEBT = 3600000000
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now = seconds * 1000000 + tonumber(time[2])
local per_minute, per_day, at_once = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local refused, wait = 0, 0

-- GCRA: the key holds the time at which the whole minute's allowance is there again, and when that
-- was written. Each request moves it by its share of the minute, and passes only if it then lies no more than a minute ahead.
local share, full_at = 0, now
if per_minute > 0 then
  share = MINUTE / per_minute
  local at, written = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) ?(%S*)$')
  local stored = tonumber(at or '') or now
  local set_back = (tonumber(written or '') or now) - now
  if set_back > 0 then
    -- Written in the future: the server's clock was set back. What is used stays as it was.
    stored = stored - set_back
    redis.call('SET', KEYS[1], string.format('%.3f %.0f', stored, now),
      'PX', math.max(1, math.ceil((stored - now) / 1000) + 1))
  end
  full_at = math.max(stored, now)
  if full_at > now + MINUTE + LONGEST_DEBT then
    full_at = now + MINUTE
    -- Stored also when this request is refused: the wait that it is told must come to an end.
    redis.call('SET', KEYS[1], string.format('%.3f %.0f', full_at, now), 'PX', MINUTE / 1000 + 1)
  end
  -- One microsecond forgives the rounding of shares that are no whole number.
  local early = full_at + share - now - MINUTE
  if early > 1 then
    refused, wait = 1, early
  end
end

local used, day_left = 0, 0
if per_day > 0 then
  used = tonumber(redis.call('GET', KEYS[2]) or '') or 0
  day_left = (DAY - seconds % DAY) * 1000000
  -- Comes last when it comes to the reason told: it is the longest wait.
  if used >= per_day then
    refused, wait = 2, day_left
  end
end

if at_once > 0 and refused == 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', math.floor(now / 1000))
  if redis.call('ZCARD', KEYS[3]) >= at_once then
    refused, wait = 3, 1000000
  else
    local lease_ms = tonumber(ARGV[5])
    redis.call('ZADD', KEYS[3], math.floor(now / 1000) + lease_ms, ARGV[4])
    redis.call('PEXPIRE', KEYS[3], lease_ms)
  end
end

if per_minute > 0 and refused == 0 then
  full_at = full_at + share
  redis.call('SET', KEYS[1], string.format('%.3f %.0f', full_at, now),
    'PX', math.ceil((full_at - now) / 1000) + 1)
end

local remaining = 0
if per_minute > 0 then
  remaining = math.max(0, math.floor((MINUTE - (full_at - now) + 1) / share))
end
return {refused, math.ceil(wait), remaining, math.ceil(full_at - now), used, day_left}
