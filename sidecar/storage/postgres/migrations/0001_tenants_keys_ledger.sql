-- Who may call, and what they used. Times end in their unit: _ns and _us since the Unix epoch, minute = Unix minutes.
-- Everything stands in the schema "sidecar" and belongs to the owner, who runs migrations and nothing else.
--
-- Three roles do the work; the application's login is a member that inherits from none of them:
--   sidecar_ingest    writes; sees all tenants, because it decides whether an event or a key is known
--   sidecar_reader    sees the rows of the one tenant that "sidecar.tenant" names, and nothing when it names none
--   sidecar_operator  reads across tenants, for the operators' own reports
--
-- COLLATE "C" throughout: names are compared and sorted by their bytes, alike on every host, as in SQLite.

CREATE TABLE sidecar.tenants (
    tenant          text COLLATE "C" NOT NULL PRIMARY KEY,
    plan            text COLLATE "C" NOT NULL,
    state           text COLLATE "C" NOT NULL,
    stripe_customer text COLLATE "C",
    created_ns      bigint NOT NULL
);

-- No foreign key to tenants: a tenant may be declared in policies/ alone. The one unique key without the tenant: an id
-- is what a tenant is found by, so the same id for two tenants would put one's calls on the other's bill. No role that
-- is bound to a tenant may write here, so nobody can ask this key about others' ids.
CREATE TABLE sidecar.api_keys (
    id           text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    sandbox      boolean NOT NULL,
    digest       bytea NOT NULL,
    pepper       text COLLATE "C" NOT NULL,
    scopes       text[] COLLATE "C",     -- NULL: not narrowed
    created_ns   bigint NOT NULL,
    expires_ns   bigint,
    revoked_ns   bigint,
    last_used_ns bigint
) WITH (fillfactor = 70);                -- room for the next last use on the same page

CREATE INDEX api_keys_by_tenant ON sidecar.api_keys (tenant, id);

-- One row: grows with every change of a tenant or a key (not with their use), so that caches can poll it.
CREATE TABLE sidecar.keys_version (
    one   boolean NOT NULL PRIMARY KEY CHECK (one),
    value bigint  NOT NULL
);
INSERT INTO sidecar.keys_version VALUES (true, 0);

-- Who changed what, in the same transaction as the change. The newest million rows are kept.
CREATE TABLE sidecar.audit_log (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ns   bigint NOT NULL,
    actor   text COLLATE "C" NOT NULL,
    action  text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    detail  text COLLATE "C" NOT NULL    -- JSON object; never a digest
);

-- Single events, append-only but for retention, in a partition per day (UTC) of started_us.
-- Partitioning wants started_us in the unique key, and others' ids are nobody's business, so the tenant is in it too.
-- That lets no duplicate through: both are written at admission, with the id, into the intent that the done record
-- repeats, and whatever a crash sends a second time is the same bytes of the same journal.
-- The key's order is that of a tenant's events in time, so pages of events are read from the key's own index.
-- The bound of every number is 2^48: 281 TB, 281 million of the currency or 8.9 years in one call are not real, and
-- 32,767 such calls in one minute still add up within 64 bits.
CREATE TABLE sidecar.entries (
    event_id      uuid NOT NULL,
    started_us    bigint NOT NULL,
    units         bigint NOT NULL,
    cost          bigint NOT NULL,
    bytes_in      bigint NOT NULL,
    bytes_out     bigint NOT NULL,
    total_us      bigint NOT NULL,
    upstream_us   bigint NOT NULL,
    first_byte_us bigint NOT NULL,
    status        smallint NOT NULL,
    sandbox       smallint NOT NULL,
    tenant        text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    method        text COLLATE "C" NOT NULL,
    outcome       text COLLATE "C" NOT NULL,
    meters        text COLLATE "C" NOT NULL, -- JSON object of meter name to integer
    PRIMARY KEY (tenant, started_us, event_id),
    CHECK (started_us BETWEEN 0 AND 9223372036854775 AND status BETWEEN 0 AND 999 AND sandbox IN (0, 1)),
    CHECK (
        least(units, cost, bytes_in, bytes_out, total_us, upstream_us, first_byte_us) >= 0
        AND greatest(units, cost, bytes_in, bytes_out, total_us, upstream_us, first_byte_us) <= 281474976710656
    )
) PARTITION BY RANGE (started_us);

-- Events of days without a partition: clocks that are wrong, journals that waited for longer than a year.
CREATE TABLE sidecar.entries_default PARTITION OF sidecar.entries DEFAULT;
CREATE INDEX entries_default_by_time ON sidecar.entries_default (started_us); -- for retention, which drops the others

-- Sums per minute and per hour, both counted from the Unix epoch; the tables and columns are those of the SQLite store.
-- One tenant's time is one range of each primary key; the second index is for reports across tenants and for retention.
-- Rows are added to again and again while their minute or hour lasts: the free half of each page takes the new versions,
-- which so need no new entry in an index. A report takes whole hours from the hours and its edges from the minutes.

CREATE TABLE sidecar.calls_by_minute (
    tenant        text COLLATE "C" NOT NULL,
    minute        bigint NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    status_class  smallint NOT NULL,     -- 2 for 2xx; 0: there was no reply
    sandbox       smallint NOT NULL,
    requests      bigint NOT NULL,
    units         bigint NOT NULL,
    cost          bigint NOT NULL,
    bytes_in      bigint NOT NULL,
    bytes_out     bigint NOT NULL,
    total_us      bigint NOT NULL,
    upstream_us   bigint NOT NULL,
    indeterminate bigint NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox)
) WITH (fillfactor = 50);
CREATE INDEX calls_by_minute_time ON sidecar.calls_by_minute (minute);

CREATE TABLE sidecar.meters_by_minute (
    tenant        text COLLATE "C" NOT NULL,
    minute        bigint NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    status_class  smallint NOT NULL,     -- 2 for 2xx; 0: there was no reply
    sandbox       smallint NOT NULL,
    meter         text COLLATE "C" NOT NULL,
    value         bigint NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, meter)
) WITH (fillfactor = 50);
CREATE INDEX meters_by_minute_time ON sidecar.meters_by_minute (minute);

CREATE TABLE sidecar.latency_by_minute (
    tenant        text COLLATE "C" NOT NULL,
    minute        bigint NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    status_class  smallint NOT NULL,     -- 2 for 2xx; 0: there was no reply
    sandbox       smallint NOT NULL,
    bucket        smallint NOT NULL,     -- of total_us, as in core/latency.py
    calls         bigint NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, bucket)
) WITH (fillfactor = 50);
CREATE INDEX latency_by_minute_time ON sidecar.latency_by_minute (minute);

CREATE TABLE sidecar.calls_by_hour (
    tenant        text COLLATE "C" NOT NULL,
    hour          bigint NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    status_class  smallint NOT NULL,     -- 2 for 2xx; 0: there was no reply
    sandbox       smallint NOT NULL,
    requests      bigint NOT NULL,
    units         bigint NOT NULL,
    cost          bigint NOT NULL,
    bytes_in      bigint NOT NULL,
    bytes_out     bigint NOT NULL,
    total_us      bigint NOT NULL,
    upstream_us   bigint NOT NULL,
    indeterminate bigint NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox)
) WITH (fillfactor = 50);
CREATE INDEX calls_by_hour_time ON sidecar.calls_by_hour (hour);

CREATE TABLE sidecar.meters_by_hour (
    tenant        text COLLATE "C" NOT NULL,
    hour          bigint NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    status_class  smallint NOT NULL,     -- 2 for 2xx; 0: there was no reply
    sandbox       smallint NOT NULL,
    meter         text COLLATE "C" NOT NULL,
    value         bigint NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, meter)
) WITH (fillfactor = 50);
CREATE INDEX meters_by_hour_time ON sidecar.meters_by_hour (hour);

CREATE TABLE sidecar.latency_by_hour (
    tenant        text COLLATE "C" NOT NULL,
    hour          bigint NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    status_class  smallint NOT NULL,     -- 2 for 2xx; 0: there was no reply
    sandbox       smallint NOT NULL,
    bucket        smallint NOT NULL,     -- of total_us, as in core/latency.py
    calls         bigint NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, bucket)
) WITH (fillfactor = 50);
CREATE INDEX latency_by_hour_time ON sidecar.latency_by_hour (hour);

-- How much of each node's journal is in entries; moved in the transaction that adds them. rejected counts all records
-- of the journal that were ever set aside.
CREATE TABLE sidecar.journal_positions (
    journal  text COLLATE "C" NOT NULL PRIMARY KEY,
    segment  bigint NOT NULL,
    byte     bigint NOT NULL,
    rejected bigint NOT NULL DEFAULT 0
);

-- Journal records that are no entries, and why. The newest 10,000 are kept.
CREATE TABLE sidecar.rejected_records (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal text COLLATE "C" NOT NULL,
    segment bigint NOT NULL,             -- the position moved to with the batch that it came in
    byte    bigint NOT NULL,
    reason  text COLLATE "C" NOT NULL,
    payload bytea NOT NULL
);
