-- End what a frozen node has, as nothing else would.
--
-- A process that is stopped (SIGSTOP, a frozen container, a virtual machine that is moved, a disk
-- that hangs) holds its connections open, and the kernel accepts new ones for it. HAProxy's checks
-- time out and take the node out; the requests it has would wait for `timeout server`, minutes for
-- a POST.
--
-- A node that drains answers its checks (503), one that died refuses them; neither times out. A node
-- that is merely busy answers something now and then. So requests end when checks time out, and the
-- node has sent nothing, not even the beginning of an answer, for PROXY_FROZEN_SECONDS.
local BACKEND = "web"
local PAUSE_MS = 500
local patience_seconds = tonumber(os.getenv("PROXY_FROZEN_SECONDS"))

-- By the node's name: what it had sent when last looked at, and since when it sends nothing.
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

local function look(name, server)
    local stats = server:get_stats()
    local is_timeout = string.find(stats.check_status or "", "TOUT", 1, true) ~= nil
    local is_down = string.sub(stats.status or "", 1, 4) == "DOWN"
    local node = seen[name]
    local bytes = sent(stats)
    if not node or not is_timeout or node.bytes ~= bytes then
        seen[name] = { bytes = bytes, since = now() }
    elseif is_down and (tonumber(stats.scur) or 0) > 0 and now() - node.since >= patience_seconds then
        core.Warning("node " .. name .. " is frozen; its " .. stats.scur .. " requests end")
        server:shut_sess()
        node.since = now()
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
