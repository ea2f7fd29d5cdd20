-- The staged records, all of which were new, grouped once for all projections: calls of one key on one route within a
-- minute differ little, and meters that count calls or weights are the same text, so thousands of entries become a few
-- rows. How many they were. $1: the first microsecond beyond each latency bucket but the last (core/latency.py).
WITH grouped AS (
    INSERT INTO pg_temp.grouped
    SELECT
        tenant, (started_us + total_us) / 60000000, plan, key_id, route, status / 100, sandbox,
        width_bucket(least(total_us, 4294967295), $1::bigint[]),
        count(*), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
        count(*) FILTER (WHERE outcome = 'indeterminate'), max(started_us)
    FROM pg_temp.staging
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    RETURNING requests
),
grouped_meters AS (
    INSERT INTO pg_temp.grouped_meters
    SELECT tenant, (started_us + total_us) / 60000000, plan, key_id, route, status / 100, sandbox, meters, count(*)
    FROM pg_temp.staging
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
)
SELECT coalesce(sum(requests), 0)::bigint FROM grouped
