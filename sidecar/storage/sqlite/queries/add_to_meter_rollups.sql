-- The meters of the entries after :before. A meter that is no integer within bounds becomes a NULL, which is refused.
INSERT INTO meter_rollups
SELECT
    tenant, meter.key, started_us / 60000000, key_id, route, status / 100, sandbox,
    CASE
        WHEN min(CASE WHEN meter.type = 'integer' THEN meter.value BETWEEN 0 AND 281474976710656 ELSE 0 END)
        THEN sum(CASE WHEN meter.type = 'integer' THEN meter.value END)
    END
FROM entries, json_each(entries.meters) AS meter
WHERE seq > :before
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT DO UPDATE SET value = value + excluded.value
