-- How far something was read that goes on elsewhere: Unix seconds. The table and columns are those of the SQLite store;
-- it is the operator's own.

CREATE TABLE sidecar.cursors (
    what text COLLATE "C" NOT NULL PRIMARY KEY,
    at_s bigint NOT NULL
);

ALTER TABLE sidecar.cursors ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON sidecar.cursors TO sidecar_ingest;
GRANT SELECT ON sidecar.cursors TO sidecar_operator;
CREATE POLICY ingest ON sidecar.cursors TO sidecar_ingest USING (true) WITH CHECK (true);
CREATE POLICY operator ON sidecar.cursors FOR SELECT TO sidecar_operator USING (true);
