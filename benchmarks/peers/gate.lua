-- The gate of the nginx + Lua peers: who calls (a digest of the key, looked up in shared memory), may they (two
-- sliding windows), and how often they did (a counter per tenant and status class).

local keys, usage = ngx.shared.keys, ngx.shared.usage
local hmac_sha1 = ngx.hmac_sha1
local PEPPER = "a pepper of the benchmark"

local gate = {}
local tenants, admitted = {}, nil

-- rows: key text to {tenant, per_second, per_minute}; windows: "local" or "redis"; redis_port: 0 without Redis.
function gate.load(windows, rows, redis_port)
    for key, row in pairs(rows) do
        keys:set(hmac_sha1(PEPPER, key), row.tenant)
        tenants[row.tenant] = row
    end
    admitted = require("windows_" .. windows)(redis_port)
end

function gate.check()
    local key = ngx.var.http_x_api_key
    local tenant = key and keys:get(hmac_sha1(PEPPER, key))
    if not tenant then
        return ngx.exit(401)
    end
    ngx.ctx.tenant = tenant
    local yes, failure = admitted(tenants[tenant])
    if failure then
        ngx.log(ngx.ERR, "windows: ", failure)
        return ngx.exit(503)
    end
    if not yes then
        return ngx.exit(429)
    end
end

function gate.count()
    local tenant = ngx.ctx.tenant
    if tenant then
        usage:incr(tenant .. ":" .. math.floor(ngx.status / 100), 1, 0)
    end
end

return gate
