-- Count hits that a process let pass by itself. They have passed, so none is refused.
-- KEYS: request rate, tokens used today. ARGV: requests a minute, tokens a day, hits.
-- Returns the same as admit.lua, with nothing refused.
local per_minute, per_day, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- The tat may come to lie more than a minute ahead: a debt, which time pays off before any request
-- passes again. Forgiving it would let N processes pass the limit N times over, for ever.
local remaining, tat = 0, now
if per_minute > 0 then
  local emission_interval = MINUTE / per_minute
  tat = read_rate(KEYS[1])
  if count > 0 then
    tat = tat + count * emission_interval
    write_rate(KEYS[1], tat)
  end
  remaining = remaining_of(tat, emission_interval)
end

local used, day_left = read_day(KEYS[2], per_day)
return {0, 0, remaining, math.ceil(tat - now), used, day_left}
