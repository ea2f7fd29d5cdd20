-- The staged records into entries; {known}, filled in by entries.py, skips known ones, also within the batch, or is empty:
-- then a known one is an error. What was really new is grouped at once,
-- for all projections: calls of one key on one route within a minute differ little, and meters that count calls or
-- weights are the same text, so thousands of entries become a few rows. $1: the first microsecond beyond each latency
-- bucket but the last (core/latency.py).
WITH new AS (
    INSERT INTO sidecar.entries (
        event_id, started_us, units, cost, bytes_in, bytes_out, total_us, upstream_us, first_byte_us, status, sandbox,
        tenant, key_id, plan, route, method, outcome, meters
    )
    SELECT
        substr(event_id, 2, 36)::uuid,
        started_us, units, cost, bytes_in, bytes_out, total_us, upstream_us, first_byte_us, status, sandbox,
        substr(tenant, 2, length(tenant) - 2),
        substr(key_id, 2, length(key_id) - 2),
        substr(plan, 2, length(plan) - 2),
        substr(route, 2, length(route) - 2),
        substr(method, 2, length(method) - 2),
        substr(outcome, 2, length(outcome) - 2),
        meters
    FROM pg_temp.staging
    {known}
    RETURNING
        tenant, started_us, plan, key_id, route, status, sandbox, meters, units, cost, bytes_in, bytes_out, total_us,
        upstream_us, outcome
),
grouped AS (
    INSERT INTO pg_temp.grouped
    SELECT
        tenant, (started_us + total_us) / 60000000, plan, key_id, route, status / 100, sandbox,
        width_bucket(least(total_us, 4294967295), $1::bigint[]),
        count(*), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
        count(*) FILTER (WHERE outcome = 'indeterminate'), max(started_us)
    FROM new
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
)
INSERT INTO pg_temp.grouped_meters
SELECT tenant, (started_us + total_us) / 60000000, plan, key_id, route, status / 100, sandbox, meters, count(*)
FROM new
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
