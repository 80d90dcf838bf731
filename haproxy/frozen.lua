-- End the requests that a node will not answer, as nothing else would.
--
-- A process that is stopped (SIGSTOP, a frozen container, a virtual machine that is moved, a disk
-- that hangs) holds its connections open, and the kernel accepts new ones for it. HAProxy's checks
-- time out and take the node out; the requests it has would wait for `timeout server`, minutes for
-- a POST. A node of which one half hangs serves the connections that it has, and no new ones.
--
-- A node that drains answers its checks (503), one that died refuses them; neither times out. A node
-- that is merely busy answers something now and then. So when checks time out, and have done so for
-- PROXY_FROZEN_SECONDS:
--   - of a node that has sent nothing in that time, not even the beginning of an answer, all ends;
--   - of a node that sends, what came since its last good check and has no answer ends. For that
--     the list of requests is needed, which the Runtime API alone has (PROXY_SOCKET).
local BACKEND = "web"
local PAUSE_MS = 500
-- The last good check is at most so much older than the first late one is seen: `inter` and
-- `timeout check` of haproxy.cfg, PAUSE_MS, and a second by which ages are rounded.
local LAST_CHECK_SECONDS = 4.5
-- HAProxy's AN_RES_WAIT_HTTP: the head of an answer is waited for.
local WAITS_FOR_HEAD = 0x400000
local SOCKET_SECONDS = 5
-- In one line of the Runtime API, which has to fit a buffer.
local MOST_COMMANDS = 200
local UNIT_SECONDS = { d = 86400, h = 3600, m = 60, s = 1 }
local patience_seconds = tonumber(os.getenv("PROXY_FROZEN_SECONDS"))
local socket_path = os.getenv("PROXY_SOCKET") or ""

-- By the node's name: what it had sent when last looked at, since when it sends nothing, since when
-- its checks time out, and when requests of it were last ended.
local seen = {}

local function now()
    local at = core.now()
    return at.sec + at.usec / 1e6
end

local function sent(stats)
    local answers = 0
    for class = 1, 5 do
        answers = answers + (tonumber(stats["hrsp_" .. class .. "xx"]) or 0)
    end
    return (tonumber(stats.bout) or 0) + answers
end

local function runtime_api(command)
    local socket = core.tcp()
    socket:settimeout(SOCKET_SECONDS)
    if not socket:connect(socket_path) then
        core.Warning("PROXY_SOCKET does not answer; requests of a node that hangs wait")
        return ""
    end
    socket:send(command .. "\n")
    local answer = socket:receive("*a")
    socket:close()
    return answer or ""
end

-- Return the seconds of an age such as "10m58s".
local function seconds(age)
    local sum = 0
    for number, unit in string.gmatch(age, "(%d+)([dhms])") do
        sum = sum + tonumber(number) * UNIT_SECONDS[unit]
    end
    return sum
end

local function end_unanswered(name, most_seconds)
    local commands = {}
    local of_node = "^(0x%x+): .* be=" .. BACKEND .. " srv=" .. name .. " .* age=(%w+) .* rp%[[^%]]*an=(%x+)h"
    for line in string.gmatch(runtime_api("show sess"), "[^\n]+") do
        local id, age, analysers = string.match(line, of_node)
        if id and tonumber(analysers, 16) & WAITS_FOR_HEAD ~= 0 and seconds(age) <= most_seconds then
            table.insert(commands, "shutdown session " .. id)
        end
    end
    if #commands > 0 then
        core.Warning("node " .. name .. " hangs; " .. #commands .. " requests without an answer end")
    end
    for first = 1, #commands, MOST_COMMANDS do
        local last = math.min(first + MOST_COMMANDS - 1, #commands)
        runtime_api(table.concat(commands, ";", first, last))
    end
end

local function look(name, server)
    local stats = server:get_stats()
    local is_timeout = string.find(stats.check_status or "", "TOUT", 1, true) ~= nil
    local is_down = string.sub(stats.status or "", 1, 4) == "DOWN"
    local bytes, at = sent(stats), now()
    local node = seen[name]
    if not node or not is_timeout then
        seen[name] = { bytes = bytes, silent_since = at, late_since = at, ended_at = at }
        return
    end
    if node.bytes ~= bytes then
        node.bytes, node.silent_since = bytes, at
    end
    if not is_down or (tonumber(stats.scur) or 0) == 0 then
        return
    end
    if at - node.silent_since >= patience_seconds then
        core.Warning("node " .. name .. " is frozen; its " .. stats.scur .. " requests end")
        server:shut_sess()
        node.silent_since, node.ended_at = at, at
    elseif socket_path ~= "" and at - node.ended_at >= patience_seconds then
        node.ended_at = at
        end_unanswered(name, at - node.late_since + LAST_CHECK_SECONDS)
    end
end

core.register_task(function()
    while true do
        core.msleep(PAUSE_MS)
        for name, server in pairs(core.backends[BACKEND].servers) do
            look(name, server)
        end
    end
end)
