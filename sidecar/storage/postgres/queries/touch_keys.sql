-- When each key of the grouped batch was used last. Ids that are no stored key (JWT subjects) match nothing. The rows are
-- locked in the order of their ids, so that two nodes never wait for each other.
WITH used AS (
    SELECT tenant, key_id, max(last_us) * 1000 AS at_ns FROM pg_temp.grouped GROUP BY 1, 2
),
locked AS (
    SELECT id, at_ns FROM sidecar.api_keys JOIN used ON id = key_id AND api_keys.tenant = used.tenant
    ORDER BY id
    FOR NO KEY UPDATE OF api_keys
)
UPDATE sidecar.api_keys
SET last_used_ns = greatest(last_used_ns, locked.at_ns)
FROM locked
WHERE api_keys.id = locked.id
