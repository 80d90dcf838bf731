-- Decide about one request, and count it if it may pass.
-- KEYS: request rate, tokens used today, leases of running requests.
-- ARGV: requests a minute, tokens a day, most at once (0: no such limit, or not for this request),
--       the lease's name, its length in milliseconds.
-- Returns: refused by (0 none, 1 requests, 2 tokens, 3 concurrency), wait, requests remaining,
--          their reset, tokens used, their reset; all times in microseconds.
local per_minute, per_day, at_once = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local refused, wait = 0, 0

-- A request conforms if the theoretical arrival time (tat) then lies no more than a minute ahead.
local emission_interval, tat = 0, now
if per_minute > 0 then
  emission_interval = MINUTE / per_minute
  tat = read_rate(KEYS[1])
  -- One microsecond forgives the rounding of intervals that are no whole number.
  local early = tat + emission_interval - now - MINUTE
  if early > 1 then
    refused, wait = 1, early
  end
end

local used, day_left = read_day(KEYS[2], per_day)
-- Decides last which reason is reported: it is the longest wait.
if per_day > 0 and used >= per_day then
  refused, wait = 2, day_left
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

local remaining = 0
if per_minute > 0 then
  if refused == 0 then
    tat = tat + emission_interval
    write_rate(KEYS[1], tat)
  end
  remaining = remaining_of(tat, emission_interval)
end
return {refused, math.ceil(wait), remaining, math.ceil(tat - now), used, day_left}
