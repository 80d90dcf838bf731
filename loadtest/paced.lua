-- wrk's request and report for a steady pace: POSTs of BODY with KEY at random moments, PER_SECOND of
-- them in the mean. Each answer is a line of ANSWERS: when it came (seconds of the monotonic clock), how
-- long it took (ms), and "good" (EXPECT stands in it), "refused" (429 or 503 with Retry-After), or what
-- else it was. EXTRA is the share of requests that only HAProxy hears of; these have no lines.
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } moment;
int clock_gettime(int clock, moment *into);
]]
local MONOTONIC = 1
local moment = ffi.new("moment")

local function now()
    ffi.C.clock_gettime(MONOTONIC, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local function before_id(path)
    return table.concat({
        "POST " .. path .. " HTTP/1.1",
        "Host: 127.0.0.1",
        "Authorization: Bearer " .. os.getenv("KEY"),
        "Content-Type: application/json",
        "Content-Length: " .. #os.getenv("BODY"),
        "x-request-id: ",
    }, "\r\n")
end

local head, head_extra = before_id(os.getenv("REQUEST_PATH")), before_id("/metrics")
local after_id = "\r\n\r\n" .. os.getenv("BODY")
local extra = tonumber(os.getenv("EXTRA"))
local expected = os.getenv("EXPECT")
local per_second = tonumber(os.getenv("PER_SECOND"))
local answers = assert(io.open(os.getenv("ANSWERS"), "w"))

-- An answer carries its request's id back; wrk itself does not say which of them it is to.
local sent, count = {}, 0

function request()
    count = count + 1
    local id = tostring(count)
    if math.random() < extra then
        return head_extra .. id .. after_id
    end
    sent[id] = now()
    return head .. id .. after_id
end

function response(status, headers, body)
    local came, id = now(), headers["x-request-id"]
    if not sent[id] and status == 404 then
        return
    end
    local kind = tostring(status)
    if status == 200 and body:find(expected, 1, true) then
        kind = "good"
    elseif (status == 429 or status == 503) and headers["retry-after"] then
        kind = "refused"
    end
    answers:write(string.format("%.6f %.3f %s\n", came, (came - sent[id]) * 1000, kind))
    sent[id] = nil
end

-- Whichever connection is free takes the next moment, so that the pace does not depend on answers.
local due = now()

function delay()
    due = due - math.log(1 - math.random()) / per_second
    return math.max(0, (due - now()) * 1000)
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(errors.connect + errors.read + errors.write + errors.timeout, "\n")
end
