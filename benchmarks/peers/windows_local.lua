-- Two sliding windows in nginx's shared memory: the count of this window plus the weighted count of the one before,
-- which is an estimate (it can let nearly twice the limit through).

local windows = ngx.shared.windows
local floor = math.floor

local function admitted_by(tenant, name, limit, seconds, now)
    local slot = floor(now / seconds)
    local prefix = tenant .. name
    local current = windows:incr(prefix .. slot, 1, 0, 2 * seconds)
    local previous = windows:get(prefix .. slot - 1) or 0
    local weight = 1 - (now / seconds - slot)
    if current + previous * weight > limit then
        windows:incr(prefix .. slot, -1)
        return false
    end
    return true
end

return function()
    return function(row)
        local now = ngx.now()
        return admitted_by(row.tenant, ":s:", row.per_second, 1, now)
            and admitted_by(row.tenant, ":m:", row.per_minute, 60, now)
    end
end
