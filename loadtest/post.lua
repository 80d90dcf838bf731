-- wrk's request and report: a POST of BODY_FILE (a GET without one) with KEY, and one JSON line at the
-- end. EXPECT must stand in every answer. PERIOD_MS is the pause of a connection between two
-- requests. ZIPF sends that many prompts, the n-th as often as 1/n; MISSES is the share of prompts
-- that are new. WRONG_KEYS sends wrong keys. BODY_LINES sends a file's lines by turns.
local body_file = os.getenv("BODY_FILE")
wrk.method = body_file and "POST" or "GET"
if body_file then
    local file = assert(io.open(body_file, "rb"))
    wrk.body = file:read("*a")
    file:close()
end
wrk.headers["Content-Type"] = "application/json"
if os.getenv("KEY") then
    wrk.headers["Authorization"] = "Bearer " .. os.getenv("KEY")
end

local expected = os.getenv("EXPECT")
wrong, hits = 0, 0

if expected then
    function response(status, headers, body)
        if not body:find(expected, 1, true) then
            wrong = wrong + 1
        end
        -- HAProxy writes names small.
        local cache = headers["cache-status"] or headers["Cache-Status"]
        if cache and cache:find("; hit", 1, true) then
            hits = hits + 1
        end
    end
end

local lines_file = os.getenv("BODY_LINES")
if lines_file then
    wrk.method = "POST"
    local requests, count = {}, 0
    function init()
        for line in io.lines(lines_file) do
            table.insert(requests, wrk.format(nil, nil, nil, line))
        end
    end
    function request()
        count = count + 1
        return requests[count % #requests + 1]
    end
end

-- Another key each time, with the length of a real one; all answers are to be 401.
if os.getenv("WRONG_KEYS") then
    local count = 0
    function request()
        count = count + 1
        wrk.headers["Authorization"] = string.format("Bearer hr_%049d", count)
        return wrk.format()
    end
    function response(status, headers, body)
        if status ~= 401 then
            wrong = wrong + 1
        end
    end
end

local period = tonumber(os.getenv("PERIOD_MS"))
if period then
    function delay()
        return math.random(0, 2 * period)
    end
end

local prompts = tonumber(os.getenv("ZIPF"))
if prompts then
    local misses = tonumber(os.getenv("MISSES"))
    local sums, total, new = {}, 0, 0
    for n = 1, prompts do
        total = total + 1 / n
        sums[n] = total
    end
    local function pick()
        local at, low, high = math.random() * total, 1, prompts
        while low < high do
            local middle = math.floor((low + high) / 2)
            if sums[middle] < at then low = middle + 1 else high = middle end
        end
        return "prompt " .. low
    end
    function request()
        local text
        if math.random() < misses then
            new = new + 1
            text = "new prompt " .. os.time() .. "." .. new
        else
            text = pick()
        end
        return wrk.format(nil, nil, nil, (wrk.body:gsub("PROMPT", text)))
    end
end

local threads = {}
function setup(thread)
    table.insert(threads, thread)
end

function done(summary, latency, requests)
    local errors, bad, hit = summary.errors, 0, 0
    for _, thread in ipairs(threads) do
        bad = bad + (thread:get("wrong") or 0)
        hit = hit + (thread:get("hits") or 0)
    end
    io.write(string.format(
        '{"requests": %d, "seconds": %.6f, "bad_statuses": %d, "failures": %d, "wrong": %d, ' ..
        '"hits": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout, bad, hit,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
