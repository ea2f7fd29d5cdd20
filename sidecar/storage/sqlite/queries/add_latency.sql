-- How many calls of the grouped batch took how long.
INSERT INTO latency_by_{period}
SELECT tenant, {time}, plan, key_id, route, status_class, sandbox, bucket, requests
FROM temp.batch
WHERE true
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls
