-- The first minute from $3 on that no row of the event name $1 and the customer $2 is stamped in. The index is read up to
-- the first gap.
SELECT CASE
    WHEN NOT EXISTS (SELECT FROM sidecar.outbox WHERE event_name = $1 AND customer = $2 AND minute = $3) THEN $3
    ELSE (
        SELECT minute + 1 FROM sidecar.outbox AS taken
        WHERE event_name = $1 AND customer = $2 AND minute >= $3
            AND NOT EXISTS (
                SELECT FROM sidecar.outbox AS next
                WHERE next.event_name = $1 AND next.customer = $2 AND next.minute = taken.minute + 1
            )
        ORDER BY minute
        LIMIT 1
    )
END::bigint
