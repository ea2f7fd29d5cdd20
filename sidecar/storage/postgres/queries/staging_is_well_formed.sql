-- Whether what was copied as it stood in the journal is what a JSON parser would have read: every text stands in one pair
-- of quotes and holds none (the batch holds no backslash), so no comma inside a text has moved the columns after it.
SELECT bool_and(
    kind = '["d"'
    AND event_id = '"' || substr(event_id, 2, 36) || '"'
    AND tenant = '"' || replace(tenant, '"', '') || '"'
    AND key_id = '"' || replace(key_id, '"', '') || '"'
    AND plan = '"' || replace(plan, '"', '') || '"'
    AND route = '"' || replace(route, '"', '') || '"'
    AND method = '"' || replace(method, '"', '') || '"'
    AND outcome = '"' || replace(outcome, '"', '') || '"'
)
FROM pg_temp.staging
