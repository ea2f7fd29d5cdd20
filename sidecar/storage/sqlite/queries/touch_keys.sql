-- When each key of the grouped batch was used last. Ids that are no stored key (JWT subjects) match nothing.
UPDATE api_keys
SET last_used_ns = max(coalesce(last_used_ns, 0), used.at_us * 1000)
FROM (SELECT key_id, max(last_us) AS at_us FROM temp.batch GROUP BY key_id) AS used
WHERE api_keys.id = used.key_id
