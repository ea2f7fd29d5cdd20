-- The meters of the grouped batch. A meter that is no integer within bounds becomes a NULL, which is refused.
INSERT INTO meters_by_{period}
SELECT
    tenant, {time}, plan, key_id, route, status_class, sandbox, meter.key,
    CASE WHEN meter.type = 'integer' AND meter.value BETWEEN 0 AND 281474976710656 THEN meter.value * calls END
FROM (
    SELECT tenant, minute, plan, key_id, route, status_class, sandbox, meters, sum(requests) AS calls
    FROM temp.batch
    GROUP BY tenant, minute, plan, key_id, route, status_class, sandbox, meters
) AS grouped, json_each(grouped.meters) AS meter
WHERE true
ON CONFLICT DO UPDATE SET value = value + excluded.value
