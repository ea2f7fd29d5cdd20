-- What of a grant was paid, and when its money was earned. The table and columns are those of the SQLite store.

-- Of the amount, what was given away; the rest was paid. All that was granted before counts as paid.
ALTER TABLE sidecar.credit_grants ADD COLUMN bonus bigint NOT NULL DEFAULT 0 CHECK (bonus >= 0 AND bonus <= amount);

-- Settled: of the use of [begin_minute, end_minute), which cost due, the grant paid from above to above + amount, and
-- earned is the part of it for which money came in. Micro-units. What was burned before this table was there is written
-- down as if it had been used evenly up to the book's minute.
CREATE TABLE sidecar.credit_burns (
    tenant       text COLLATE "C" NOT NULL,
    source       text COLLATE "C" NOT NULL,
    begin_minute bigint NOT NULL,
    end_minute   bigint NOT NULL,
    due          bigint NOT NULL,
    above        bigint NOT NULL,
    amount       bigint NOT NULL,
    earned       bigint NOT NULL,
    currency     text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, source, begin_minute)
);

-- Forced row security would show the owner no rows to copy.
ALTER TABLE sidecar.credit_grants NO FORCE ROW LEVEL SECURITY;
ALTER TABLE sidecar.credit_books NO FORCE ROW LEVEL SECURITY;
INSERT INTO sidecar.credit_burns
SELECT tenant, source, granted_ns / 60000000000, greatest(until_minute, granted_ns / 60000000000 + 1), burned, 0,
    burned, burned, currency
FROM sidecar.credit_grants JOIN sidecar.credit_books USING (tenant) WHERE burned > 0;
ALTER TABLE sidecar.credit_grants FORCE ROW LEVEL SECURITY;
ALTER TABLE sidecar.credit_books FORCE ROW LEVEL SECURITY;

-- A tenant's reader sees its own.
ALTER TABLE sidecar.credit_burns ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON sidecar.credit_burns TO sidecar_ingest;
GRANT SELECT ON sidecar.credit_burns TO sidecar_reader, sidecar_operator;
CREATE POLICY ingest ON sidecar.credit_burns TO sidecar_ingest USING (true) WITH CHECK (true);
CREATE POLICY operator ON sidecar.credit_burns FOR SELECT TO sidecar_operator USING (true);
CREATE POLICY reader ON sidecar.credit_burns FOR SELECT TO sidecar_reader
    USING (tenant = NULLIF(current_setting('sidecar.tenant', true), ''));
