-- The same two sliding windows, counted in Redis on every request: one EVALSHA with the server's clock, both windows or
-- neither, over a pool of kept-alive connections. Counts are exact over any number of nginx nodes; the slide is the same
-- estimate. The command is short on purpose: the client's cost grows with the number of its arguments.

local SCRIPT = [[
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
for i, seconds in ipairs({1, 60}) do
    local slot = math.floor(now / seconds)
    local row = redis.call('HMGET', KEYS[i], 'slot', 'current', 'previous')
    local moved = slot - (row[1] or 0)
    if moved ~= 0 then
        row[3] = moved == 1 and row[2] or 0
        row[2] = 0
        redis.call('HSET', KEYS[i], 'slot', slot, 'current', 0, 'previous', row[3])
        redis.call('EXPIRE', KEYS[i], 2 * seconds)
    end
    if row[2] + 1 + row[3] * (1 - (now / seconds - slot)) > tonumber(ARGV[i]) then
        return 0
    end
end
redis.call('HINCRBY', KEYS[1], 'current', 1)
redis.call('HINCRBY', KEYS[2], 'current', 1)
return 1
]]

return function(port)
    local found, client = pcall(require, "resty.redis") -- OpenResty's name for it
    if not found then
        client = require("nginx.redis") -- Debian's
    end
    local sha = ngx.sha1_bin(SCRIPT):gsub(".", function(byte)
        return string.format("%02x", byte:byte())
    end)

    return function(row)
        local second, minute = "{" .. row.tenant .. "}s", "{" .. row.tenant .. "}m"
        local redis = client:new()
        redis:set_timeout(1000)
        local connected, failure = redis:connect("127.0.0.1", port)
        if not connected then
            return nil, failure
        end
        local answer, reason = redis:evalsha(sha, 2, second, minute, row.per_second, row.per_minute)
        if not answer and reason and reason:find("NOSCRIPT", 1, true) then
            answer, reason = redis:eval(SCRIPT, 2, second, minute, row.per_second, row.per_minute)
        end
        if not answer then
            redis:close()
            return nil, reason
        end
        redis:set_keepalive(60000, 64)
        return answer == 1
    end
end
