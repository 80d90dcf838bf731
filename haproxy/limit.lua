-- Send a node no more requests at a time than it says it can take. An overloaded node has two
-- numbers in x-headrace-limit of each answer: how many requests to send it at a time, and how many
-- more may wait (docs/adr/0016). It must repeat them: after half a second without, the node has its
-- old limit again.
local BACKEND = "web"
local LEASE_SECONDS = 0.5
local usual_limit = os.getenv("PROXY_NODE_CONNECTIONS")

-- By the node's name: its server, the limit it has, and until when.
local limited = {}

local function now()
    local at = core.now()
    return at.sec + at.usec / 1e6
end

core.register_action("limit_node", { "http-res" }, function(txn)
    local limit, may_wait = txn.f:res_hdr("x-headrace-limit"):match("^(%d+) (%d+)$")
    local name = txn.f:srv_name()
    -- haproxy.cfg's own cached answers have no server.
    if not limit or not name then
        return
    end
    -- None at all is no limit to HAProxy.
    limit = tostring(math.min(math.max(1, tonumber(limit)), tonumber(usual_limit)))
    local node = limited[name]
    if not node then
        node = { server = core.backends[BACKEND].servers[name] }
        limited[name] = node
    end
    if node.limit ~= limit then
        node.server:set_maxconn(limit)
        node.limit = limit
    end
    node.ends_at = now() + LEASE_SECONDS
    txn:set_var("proc.may_wait", math.max(1, tonumber(may_wait)))
end)

core.register_task(function()
    while true do
        core.msleep(100)
        for name, node in pairs(limited) do
            if node.ends_at < now() then
                node.server:set_maxconn(usual_limit)
                limited[name] = nil
            end
        end
    end
end)
