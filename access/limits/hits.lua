-- Count hits that a process let pass by itself. They have passed, so none is refused.
-- KEYS: request rate, tokens used today. ARGV: requests a minute, tokens a day, hits.
-- Answer: as of admit.lua, with nothing refused.
local MINUTE, DAY = 60000000, 86400
-- As in admit.lua.
local LONGEST_DEBT = 3600000000
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now = seconds * 1000000 + tonumber(time[2])
local per_minute, per_day, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- The time may come to lie more than a minute ahead: a debt, which time pays off before anything
-- passes again. Forgiving it would let N processes pass the limit N times over, for ever.
local remaining, full_at = 0, now
if per_minute > 0 then
  local share = MINUTE / per_minute
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
  end
  if count > 0 then
    full_at = full_at + count * share
    redis.call('SET', KEYS[1], string.format('%.3f %.0f', full_at, now),
      'PX', math.ceil((full_at - now) / 1000) + 1)
  end
  remaining = math.max(0, math.floor((MINUTE - (full_at - now) + 1) / share))
end

local used, day_left = 0, 0
if per_day > 0 then
  used = tonumber(redis.call('GET', KEYS[2]) or '') or 0
  day_left = (DAY - seconds % DAY) * 1000000
end
return {0, 0, remaining, math.ceil(full_at - now), used, day_left}
