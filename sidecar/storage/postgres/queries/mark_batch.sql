-- Marks of the batch: usage of live keys, tenants with an account, not before the floor. A mark that is there already is
-- locked and left as it is: who is taking it away to assign its minute waits until this batch can be seen (assigning.py).
-- In the order of the key, so that two nodes never wait for each other.
INSERT INTO sidecar.marks AS old
SELECT DISTINCT tenant, minute FROM pg_temp.summed_meters
WHERE sandbox = 0
    AND minute >= (SELECT floor FROM sidecar.books)
    AND tenant IN (SELECT tenant FROM sidecar.accounts)
ORDER BY tenant, minute
ON CONFLICT (tenant, minute) DO UPDATE SET minute = old.minute WHERE false
