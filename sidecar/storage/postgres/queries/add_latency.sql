-- How many calls of the grouped batch took how long. Of one whose end is not known (indeterminate) nobody knows that.
INSERT INTO sidecar.latency_by_{period} AS old
SELECT tenant, {time}, plan, key_id, route, status_class, sandbox, bucket, sum(requests - indeterminate)
FROM pg_temp.grouped
WHERE requests > indeterminate
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
ON CONFLICT (tenant, {period}, plan, key_id, route, status_class, sandbox, bucket) DO UPDATE SET
    calls = old.calls + excluded.calls
