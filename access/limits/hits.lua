-- Count hits that a process let pass by itself. They have passed, so none is refused.
-- KEYS: request rate, tokens used today. ARGV: requests a minute, tokens a day, hits.
-- Answer: as of admit.lua, with nothing refused.
local per_minute, per_day, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- The time may come to lie more than a minute ahead: a debt, which time pays off before anything
-- passes again. Forgiving it would let N processes pass the limit N times over, for ever.
local remaining, full_at = 0, now
if per_minute > 0 then
  local share = MINUTE / per_minute
  full_at = read_rate(KEYS[1])
  if count > 0 then
    full_at = full_at + count * share
    write_rate(KEYS[1], full_at)
  end
  remaining = remaining_of(full_at, share)
end

local used, day_left = read_day(KEYS[2], per_day)
return {0, 0, remaining, math.ceil(full_at - now), used, day_left}
