-- How many calls of the grouped batch took how long.
INSERT INTO sidecar.latency_by_{period} AS old
SELECT tenant, {time}, plan, key_id, route, status_class, sandbox, bucket, sum(requests)
FROM pg_temp.grouped
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
ON CONFLICT (tenant, {period}, plan, key_id, route, status_class, sandbox, bucket) DO UPDATE SET
    calls = old.calls + excluded.calls
