-- Of the minute $3 of the meter $2: its sum, what was assigned of it, what its single entries add up to, looked for from
-- $4 on (Unix microseconds), and those that ended within [$5[n], $6[n]). Live keys only. One statement, so that all of
-- them are of one moment.
SELECT
    (SELECT coalesce(sum(value), 0)::bigint FROM sidecar.meters_by_minute
        WHERE tenant = $1 AND meter = $2 AND minute = $3 AND sandbox = 0),
    (SELECT coalesce(sum(value), 0)::bigint FROM sidecar.assigned_minutes
        WHERE tenant = $1 AND meter = $2 AND minute = $3),
    coalesce(sum(value), 0)::bigint,
    coalesce(sum(value) FILTER (WHERE EXISTS (
        SELECT FROM unnest($5::bigint[], $6::bigint[]) AS span (since_us, until_us)
        WHERE ended_us >= since_us AND ended_us < until_us
    )), 0)::bigint
FROM (
    SELECT started_us + total_us AS ended_us, (meters::jsonb ->> $2)::bigint AS value
    FROM sidecar.entries
    WHERE tenant = $1 AND started_us >= $4 AND started_us < ($3::bigint + 1) * 60000000
        AND (started_us + total_us) / 60000000 = $3 AND sandbox = 0
) AS ended
