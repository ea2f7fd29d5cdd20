-- Prepaid credits, and what tenants were told of their quotas. The tables and columns are those of the SQLite store.

CREATE TABLE sidecar.credit_grants (
    tenant     text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),                        -- micro-units
    currency   text COLLATE "C" NOT NULL,
    granted_ns bigint NOT NULL,
    priority   bigint NOT NULL,
    expires_ns bigint,
    revoked_ns bigint,
    note       text COLLATE "C" NOT NULL,
    burned     bigint NOT NULL CHECK (burned >= 0 AND burned <= amount),  -- up to the book's minute
    PRIMARY KEY (tenant, source)
);

-- All use of minutes before until_minute is settled.
CREATE TABLE sidecar.credit_books (
    tenant       text COLLATE "C" NOT NULL PRIMARY KEY,
    until_minute bigint NOT NULL,
    uncovered    bigint NOT NULL
);

-- Shares of quotas that were reached, each told once.
CREATE TABLE sidecar.crossings (
    tenant    text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    start_s   bigint NOT NULL,
    threshold bigint NOT NULL,     -- percent
    quantity  bigint NOT NULL,     -- of which it is a share
    end_s     bigint NOT NULL,
    used      bigint NOT NULL,
    at_ns     bigint NOT NULL,
    PRIMARY KEY (tenant, name, start_s, threshold, quantity)
);
CREATE INDEX crossings_by_end ON sidecar.crossings (end_s);

-- What a tenant has of its own: anchor, time zone and overrides, as JSON; NULL: nothing.
ALTER TABLE sidecar.tenants ADD COLUMN terms text COLLATE "C";

-- A tenant's reader sees its own credits and what it was told.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['credit_grants', 'credit_books', 'crossings'] LOOP
        EXECUTE format('ALTER TABLE sidecar.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON sidecar.%I TO sidecar_ingest', name);
        EXECUTE format('GRANT SELECT ON sidecar.%I TO sidecar_reader, sidecar_operator', name);
        EXECUTE format('CREATE POLICY ingest ON sidecar.%I TO sidecar_ingest USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY operator ON sidecar.%I FOR SELECT TO sidecar_operator USING (true)', name);
        EXECUTE format(
            'CREATE POLICY reader ON sidecar.%I FOR SELECT TO sidecar_reader'
            ' USING (tenant = NULLIF(current_setting(''sidecar.tenant'', true), ''''))', name
        );
    END LOOP;
END
$$;
