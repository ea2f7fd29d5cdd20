-- Sums per minute, hour and day (UTC), by plan too, with latency. All nine tables have the same key: one tenant's time is
-- one range of it. A report takes whole days from the days, their edges from the hours and the edges of those from the
-- minutes, so that a month is some 30 rows per key, route and status. All are changed in the transaction that adds the
-- entries, from the really new ones only. minute, hour and day count from the Unix epoch. plan '' is usage from before
-- there was a plan in the sums.

CREATE TABLE calls_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    bytes_out     INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    upstream_us   INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    bytes_out     INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    upstream_us   INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    bytes_out     INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    upstream_us   INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

-- Pages of one tenant's events. With new entries it grows at one place per tenant.
CREATE INDEX entries_by_tenant ON entries (tenant, started_us);

-- The old sums know no plan: they count for the one that the tenant has now, or '' when it is declared in policies/ alone.
-- Then entries that are still there move to the plan that they were made under. One upsert per row needs no memory.
INSERT INTO calls_by_minute
SELECT
    r.tenant, r.minute, coalesce(t.plan, ''), r.key_id, r.route, r.status_class, r.sandbox,
    r.requests, r.units, r.cost, r.bytes_in, r.bytes_out, r.total_us, r.upstream_us, r.indeterminate
FROM rollups AS r LEFT JOIN tenants AS t ON t.name = r.tenant;

INSERT INTO meters_by_minute
SELECT r.tenant, r.minute, coalesce(t.plan, ''), r.key_id, r.route, r.status_class, r.sandbox, r.meter, r.value
FROM meter_rollups AS r LEFT JOIN tenants AS t ON t.name = r.tenant;

CREATE TEMP VIEW moves AS
SELECT e.*, e.started_us / 60000000 AS minute, e.status / 100 AS status_class, e.plan AS counts_for, 1 AS sign
FROM main.entries AS e LEFT JOIN main.tenants AS t ON t.name = e.tenant
WHERE e.plan <> coalesce(t.plan, '')
UNION ALL
SELECT e.*, e.started_us / 60000000, e.status / 100, coalesce(t.plan, ''), -1
FROM main.entries AS e LEFT JOIN main.tenants AS t ON t.name = e.tenant
WHERE e.plan <> coalesce(t.plan, '');

INSERT INTO calls_by_minute
SELECT
    tenant, minute, counts_for, key_id, route, status_class, sandbox,
    sign, sign * units, sign * cost, sign * bytes_in, sign * bytes_out, sign * total_us, sign * upstream_us,
    sign * (outcome = 'indeterminate')
FROM temp.moves
WHERE true
ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    units = units + excluded.units,
    cost = cost + excluded.cost,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out,
    total_us = total_us + excluded.total_us,
    upstream_us = upstream_us + excluded.upstream_us,
    indeterminate = indeterminate + excluded.indeterminate;

INSERT INTO meters_by_minute
SELECT tenant, minute, counts_for, key_id, route, status_class, sandbox, meter.key, sign * meter.value
FROM temp.moves, json_each(moves.meters) AS meter
WHERE true
ON CONFLICT DO UPDATE SET value = value + excluded.value;

-- What all went elsewhere leaves no row; a meter's zero that was written under the plan stays one.
DELETE FROM calls_by_minute WHERE requests = 0;
DELETE FROM meters_by_minute
WHERE value = 0 AND (tenant, minute, plan, key_id, route, status_class, sandbox, meter) IN (
    SELECT tenant, minute, counts_for, key_id, route, status_class, sandbox, meter.key
    FROM temp.moves, json_each(moves.meters) AS meter
    WHERE sign = -1
);
INSERT INTO meters_by_minute
SELECT tenant, started_us / 60000000, plan, key_id, route, status / 100, sandbox, meter.key, 0
FROM entries, json_each(entries.meters) AS meter
WHERE meter.value = 0
ON CONFLICT DO NOTHING;
DROP VIEW temp.moves;

-- The latency of calls whose entries are gone is not known, nor that of calls without an end.
INSERT INTO latency_by_minute
SELECT
    tenant, started_us / 60000000, plan, key_id, route, status / 100, sandbox,
    CASE
        WHEN total_us < 8 THEN total_us
        WHEN total_us < 16 THEN 4 + (total_us >> 1)
        WHEN total_us < 32 THEN 8 + (total_us >> 2)
        WHEN total_us < 64 THEN 12 + (total_us >> 3)
        WHEN total_us < 128 THEN 16 + (total_us >> 4)
        WHEN total_us < 256 THEN 20 + (total_us >> 5)
        WHEN total_us < 512 THEN 24 + (total_us >> 6)
        WHEN total_us < 1024 THEN 28 + (total_us >> 7)
        WHEN total_us < 2048 THEN 32 + (total_us >> 8)
        WHEN total_us < 4096 THEN 36 + (total_us >> 9)
        WHEN total_us < 8192 THEN 40 + (total_us >> 10)
        WHEN total_us < 16384 THEN 44 + (total_us >> 11)
        WHEN total_us < 32768 THEN 48 + (total_us >> 12)
        WHEN total_us < 65536 THEN 52 + (total_us >> 13)
        WHEN total_us < 131072 THEN 56 + (total_us >> 14)
        WHEN total_us < 262144 THEN 60 + (total_us >> 15)
        WHEN total_us < 524288 THEN 64 + (total_us >> 16)
        WHEN total_us < 1048576 THEN 68 + (total_us >> 17)
        WHEN total_us < 2097152 THEN 72 + (total_us >> 18)
        WHEN total_us < 4194304 THEN 76 + (total_us >> 19)
        WHEN total_us < 8388608 THEN 80 + (total_us >> 20)
        WHEN total_us < 16777216 THEN 84 + (total_us >> 21)
        WHEN total_us < 33554432 THEN 88 + (total_us >> 22)
        WHEN total_us < 67108864 THEN 92 + (total_us >> 23)
        WHEN total_us < 134217728 THEN 96 + (total_us >> 24)
        WHEN total_us < 268435456 THEN 100 + (total_us >> 25)
        WHEN total_us < 536870912 THEN 104 + (total_us >> 26)
        WHEN total_us < 1073741824 THEN 108 + (total_us >> 27)
        WHEN total_us < 2147483648 THEN 112 + (total_us >> 28)
        WHEN total_us < 4294967296 THEN 116 + (total_us >> 29)
        ELSE 123
    END,
    1
FROM entries
WHERE outcome <> 'indeterminate'
ON CONFLICT DO UPDATE SET calls = calls + 1;

INSERT INTO calls_by_hour
SELECT
    tenant, minute / 60, plan, key_id, route, status_class, sandbox,
    requests, units, cost, bytes_in, bytes_out, total_us, upstream_us, indeterminate
FROM calls_by_minute
WHERE true
ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    units = units + excluded.units,
    cost = cost + excluded.cost,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out,
    total_us = total_us + excluded.total_us,
    upstream_us = upstream_us + excluded.upstream_us,
    indeterminate = indeterminate + excluded.indeterminate;

INSERT INTO meters_by_hour
SELECT tenant, minute / 60, plan, key_id, route, status_class, sandbox, meter, value
FROM meters_by_minute
WHERE true
ON CONFLICT DO UPDATE SET value = value + excluded.value;

INSERT INTO latency_by_hour
SELECT tenant, minute / 60, plan, key_id, route, status_class, sandbox, bucket, calls
FROM latency_by_minute
WHERE true
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls;

INSERT INTO calls_by_day
SELECT
    tenant, hour / 24, plan, key_id, route, status_class, sandbox,
    requests, units, cost, bytes_in, bytes_out, total_us, upstream_us, indeterminate
FROM calls_by_hour
WHERE true
ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    units = units + excluded.units,
    cost = cost + excluded.cost,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out,
    total_us = total_us + excluded.total_us,
    upstream_us = upstream_us + excluded.upstream_us,
    indeterminate = indeterminate + excluded.indeterminate;

INSERT INTO meters_by_day
SELECT tenant, hour / 24, plan, key_id, route, status_class, sandbox, meter, value
FROM meters_by_hour
WHERE true
ON CONFLICT DO UPDATE SET value = value + excluded.value;

INSERT INTO latency_by_day
SELECT tenant, hour / 24, plan, key_id, route, status_class, sandbox, bucket, calls
FROM latency_by_hour
WHERE true
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls;

DROP TABLE rollups;
DROP TABLE meter_rollups;
