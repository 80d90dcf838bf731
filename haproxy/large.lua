-- Refuse a body that is too large, and read it to its end, as HAProxy does of a service's request. It
-- resets the connection after a `deny` instead: a client that still sends loses the answer (RFC 9112, 9.6).
local BODY = '{"error": {"message": "The request body is too large.", "type": "invalid_request_error", '
    .. '"param": null, "code": "body_too_large"}}'

core.register_service("refuse_large", "http", function(applet)
    applet:set_status(413, "Content Too Large")
    applet:add_header("content-type", "application/json")
    applet:add_header("cache-control", "no-store")
    applet:add_header("content-length", tostring(#BODY))
    applet:start_response()
    applet:send(BODY)
end)
