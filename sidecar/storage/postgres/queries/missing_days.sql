-- Days of this batch, and today and tomorrow, that have no partition and no row in the default one, which would be in the
-- way of a partition. The bounds are those of sidecar.make_partitions.
WITH today AS (SELECT extract(epoch FROM now())::bigint / 86400 AS day),
span AS (
    SELECT min(started_us) / 86400000000 AS first, max(started_us) / 86400000000 AS last FROM pg_temp.staging
),
wanted AS MATERIALIZED (
    SELECT first AS day FROM span
    UNION
    SELECT started_us / 86400000000 FROM span, pg_temp.staging WHERE first <> last
    UNION
    SELECT day + ahead FROM today, generate_series(0, 1) AS ahead
)
SELECT coalesce(array_agg(wanted.day), '{}')
FROM wanted, today
WHERE wanted.day BETWEEN today.day - 366 AND today.day + 2
    AND to_regclass('sidecar.' || sidecar.partition_name(wanted.day)) IS NULL
    AND NOT EXISTS (
        SELECT FROM sidecar.entries_default
        WHERE started_us >= wanted.day * 86400000000 AND started_us < (wanted.day + 1) * 86400000000
    )
