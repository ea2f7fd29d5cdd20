-- How many calls of the grouped batch took how long. Of one whose end is not known (indeterminate) nobody knows that.
INSERT INTO latency_by_{period}
SELECT tenant, {time}, plan, key_id, route, status_class, sandbox, bucket, requests - indeterminate
FROM temp.batch
WHERE requests > indeterminate
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls
