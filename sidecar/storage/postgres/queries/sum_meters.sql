-- Each meter of the batch, summed once for minutes and hours. A meter that is no integer within bounds becomes a NULL,
-- which is refused; one that is written as a text, with a fraction or with an exponent is none, whatever its value.
INSERT INTO pg_temp.summed_meters
SELECT
    tenant, minute, plan, key_id, route, status_class, sandbox, meter.name,
    CASE
        WHEN bool_and(CASE WHEN meter.number ~ '^[0-9]{1,15}$' THEN meter.number::bigint <= 281474976710656 ELSE false END)
        THEN sum(CASE WHEN meter.number ~ '^[0-9]{1,15}$' THEN meter.number::numeric * requests END)
    END
FROM pg_temp.grouped_meters
CROSS JOIN LATERAL (SELECT key, value::text FROM jsonb_each(grouped_meters.meters::jsonb)) AS meter (name, number)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
