-- Each meter's sum for one tenant over the minutes [:since, :until), without test keys. The meters' names come from
-- the front of each one's key range, so that no minute outside the question is read.
WITH RECURSIVE names (meter) AS (
    SELECT min(meter) FROM meter_rollups WHERE tenant = :tenant
    UNION ALL
    SELECT (SELECT min(meter) FROM meter_rollups WHERE tenant = :tenant AND meter > names.meter)
    FROM names
    WHERE names.meter IS NOT NULL
)
SELECT
    names.meter,
    (
        SELECT sum(value) FROM meter_rollups AS r
        WHERE r.tenant = :tenant AND r.meter = names.meter AND r.minute >= :since AND r.minute < :until AND r.sandbox = 0
    )
FROM names
WHERE names.meter IS NOT NULL
