-- The request rate by GCRA, and the day's tokens; in front of admit.lua and hits.lua (shared.py).
-- A key holds its theoretical arrival time (tat), at which the full allowance of a minute is there
-- again, and when that was written. Each request moves it by the emission interval.
local MINUTE, DAY = 60000000, 86400
-- Hits are reported late (hits.lua), so more may have passed than the minute allows, and the tat lies
-- further ahead. Further than this only if the server's clock was set back.
local LONGEST_DEBT = 3600000000
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now = seconds * 1000000 + tonumber(time[2])

local function write_rate(key, tat)
  redis.call('SET', key, string.format('%.3f %.0f', tat, now),
    'PX', math.max(1, math.ceil((tat - now) / 1000) + 1))
end

local function read_rate(key)
  local at, written = string.match(redis.call('GET', key) or '', '^(%S+) ?(%S*)$')
  local stored = tonumber(at or '') or now
  local set_back = (tonumber(written or '') or now) - now
  if set_back > 0 then
    -- Written in the future: the server's clock was set back. What is used stays as it was.
    stored = stored - set_back
    write_rate(key, stored)
  end
  local tat = math.max(stored, now)
  if tat > now + MINUTE + LONGEST_DEBT then
    tat = now + MINUTE
    -- Stored also when this request is refused: the wait that its client gets must come to an end.
    write_rate(key, tat)
  end
  return tat
end

local function remaining_of(tat, emission_interval)
  return math.max(0, math.floor((MINUTE - (tat - now) + 1) / emission_interval))
end

-- Tokens used today, and the microseconds until tomorrow; zeros without a limit.
local function read_day(key, per_day)
  if per_day <= 0 then
    return 0, 0
  end
  return tonumber(redis.call('GET', key) or '') or 0, (DAY - seconds % DAY) * 1000000
end

