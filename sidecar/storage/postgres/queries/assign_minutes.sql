-- What the ledger holds of the meter $2 in the minutes [$3, $4) beyond what was assigned of them or is excused counts
-- as assigned now; the sum of it. Live keys only.
WITH used AS (
    SELECT minute, sum(value)::bigint AS value FROM sidecar.meters_by_minute
    WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4 AND sandbox = 0
    GROUP BY minute
),
beyond AS (
    SELECT minute, used.value - coalesce(taken.value, 0) AS value
    FROM used LEFT JOIN (
        SELECT minute, sum(value)::bigint AS value FROM (
            SELECT minute, value FROM sidecar.assigned_minutes
            WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4
            UNION ALL
            SELECT minute, value FROM sidecar.excused_minutes
            WHERE tenant = $1 AND meter = $2 AND minute >= $3 AND minute < $4
        ) AS either GROUP BY minute
    ) AS taken USING (minute)
    WHERE used.value > coalesce(taken.value, 0)
),
assigned AS (
    INSERT INTO sidecar.assigned_minutes AS old
    SELECT $1, $2, minute, value FROM beyond
    ON CONFLICT (tenant, meter, minute) DO UPDATE SET value = old.value + excluded.value
)
SELECT coalesce(sum(value), 0)::bigint FROM beyond
