-- The meters of the grouped batch. A meter that is no integer within bounds becomes a NULL, which is refused.
INSERT INTO meter_rollups
SELECT
    tenant, meter.key, minute, key_id, route, status_class, sandbox,
    CASE
        WHEN min(CASE WHEN meter.type = 'integer' THEN meter.value BETWEEN 0 AND 281474976710656 ELSE 0 END)
        THEN sum(CASE WHEN meter.type = 'integer' THEN meter.value * batch.requests END)
    END
FROM temp.batch, json_each(batch.meters) AS meter
WHERE true
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT DO UPDATE SET value = value + excluded.value
