-- What the migrations make: generated, for reading. A test keeps it equal to them and says how to write it anew.

CREATE TABLE accounts (
    tenant        TEXT NOT NULL PRIMARY KEY,
    customer      TEXT NOT NULL,
    subscription  TEXT,
    status        TEXT NOT NULL,
    plan          TEXT,
    access        TEXT NOT NULL,
    since_ns      INTEGER NOT NULL,
    until_ns      INTEGER,
    trial_until_s INTEGER,
    ends_s        INTEGER,
    periods       TEXT NOT NULL,    -- JSON array of [start_s, end_s]
    read_ns       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX accounts_by_customer ON accounts (customer, tenant);

CREATE INDEX accounts_by_end ON accounts (until_ns) WHERE until_ns IS NOT NULL;

CREATE TABLE api_keys (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant       TEXT NOT NULL,
    name         TEXT NOT NULL,
    sandbox      INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    digest       BLOB NOT NULL,
    pepper       TEXT NOT NULL,
    scopes       TEXT,              -- JSON array; NULL: not narrowed
    created_ns   INTEGER NOT NULL,
    expires_ns   INTEGER,
    revoked_ns   INTEGER,
    last_used_ns INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_tenant ON api_keys (tenant, id);

CREATE TABLE arrivals (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    type        TEXT NOT NULL,
    object_id   TEXT NOT NULL,
    payload     TEXT NOT NULL,
    at_ns       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_ns     INTEGER NOT NULL DEFAULT 0,
    finished_ns INTEGER,
    note        TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX arrivals_open ON arrivals (seq) WHERE finished_ns IS NULL;

CREATE TABLE assigned_minutes (
    tenant TEXT NOT NULL,
    meter  TEXT NOT NULL,
    minute INTEGER NOT NULL,
    value  INTEGER NOT NULL CHECK (value > 0),
    PRIMARY KEY (tenant, meter, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns   INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL           -- JSON object; never a digest
) STRICT;

CREATE TABLE books (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    name  TEXT NOT NULL,            -- 8 characters of base 32
    floor INTEGER NOT NULL          -- a Unix minute
) STRICT;

CREATE TABLE calls_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    bytes_out     INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    upstream_us   INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    bytes_out     INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    upstream_us   INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    bytes_out     INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    upstream_us   INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE claims (
    what   TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    at_ns  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE credit_books (
    tenant       TEXT NOT NULL PRIMARY KEY,
    until_minute INTEGER NOT NULL,
    uncovered    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE credit_burns (
    tenant       TEXT NOT NULL,
    source       TEXT NOT NULL,
    begin_minute INTEGER NOT NULL,
    end_minute   INTEGER NOT NULL,
    due          INTEGER NOT NULL,
    above        INTEGER NOT NULL,
    amount       INTEGER NOT NULL,
    earned       INTEGER NOT NULL,
    currency     TEXT NOT NULL,
    PRIMARY KEY (tenant, source, begin_minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE credit_grants (
    tenant     TEXT NOT NULL,
    source     TEXT NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),                          -- micro-units
    currency   TEXT NOT NULL,
    granted_ns INTEGER NOT NULL,
    priority   INTEGER NOT NULL,
    expires_ns INTEGER,
    revoked_ns INTEGER,
    note       TEXT NOT NULL,
    burned     INTEGER NOT NULL CHECK (burned >= 0 AND burned <= amount), bonus INTEGER NOT NULL DEFAULT 0 CHECK (bonus >= 0 AND bonus <= amount),    -- up to the book's minute
    PRIMARY KEY (tenant, source)
) STRICT, WITHOUT ROWID;

CREATE TABLE crossings (
    tenant    TEXT NOT NULL,
    name      TEXT NOT NULL,
    start_s   INTEGER NOT NULL,
    threshold INTEGER NOT NULL,     -- percent
    quantity  INTEGER NOT NULL,     -- of which it is a share
    end_s     INTEGER NOT NULL,
    used      INTEGER NOT NULL,
    at_ns     INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, start_s, threshold, quantity)
) STRICT, WITHOUT ROWID;

CREATE INDEX crossings_by_end ON crossings (end_s);

CREATE TABLE cursors (
    what TEXT NOT NULL PRIMARY KEY,
    at_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE entries (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id      BLOB NOT NULL UNIQUE CHECK (length(event_id) = 16),
    started_us    INTEGER NOT NULL CHECK (started_us BETWEEN 0 AND 9223372036854775),
    tenant        TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    plan          TEXT NOT NULL,
    sandbox       INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    route         TEXT NOT NULL,
    method        TEXT NOT NULL,
    status        INTEGER NOT NULL CHECK (status BETWEEN 0 AND 999),
    outcome       TEXT NOT NULL,
    units         INTEGER NOT NULL CHECK (units BETWEEN 0 AND 281474976710656),
    cost          INTEGER NOT NULL CHECK (cost BETWEEN 0 AND 281474976710656),
    bytes_in      INTEGER NOT NULL CHECK (bytes_in BETWEEN 0 AND 281474976710656),
    bytes_out     INTEGER NOT NULL CHECK (bytes_out BETWEEN 0 AND 281474976710656),
    total_us      INTEGER NOT NULL CHECK (total_us BETWEEN 0 AND 281474976710656),
    upstream_us   INTEGER NOT NULL CHECK (upstream_us BETWEEN 0 AND 281474976710656),
    first_byte_us INTEGER NOT NULL CHECK (first_byte_us BETWEEN 0 AND 281474976710656),
    meters        TEXT NOT NULL     -- JSON object of meter name to integer
) STRICT;

CREATE INDEX entries_by_tenant ON entries (tenant, started_us);

CREATE TABLE excused_minutes (
    tenant TEXT NOT NULL,
    meter  TEXT NOT NULL,
    minute INTEGER NOT NULL,
    value  INTEGER NOT NULL CHECK (value > 0),
    PRIMARY KEY (tenant, meter, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE journal_positions (
    journal INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    byte    INTEGER NOT NULL
) STRICT;

CREATE TABLE keys_version (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;

CREATE TABLE latency_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE leads (
    what     TEXT NOT NULL PRIMARY KEY,
    node     TEXT NOT NULL,
    until_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE marks (
    tenant TEXT NOT NULL,
    minute INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE moves (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    move   TEXT NOT NULL,           -- a UUID, which the other store knows too
    target TEXT NOT NULL,           -- the other store's address, without a password
    moved  INTEGER NOT NULL CHECK (moved IN (0, 1)) -- 1: everything is there, nothing is written here any more
) STRICT;

CREATE TABLE notices (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL,
    channel  TEXT NOT NULL,
    kind     TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    facts    TEXT NOT NULL,         -- JSON object; no secret
    at_ns    INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_ns  INTEGER NOT NULL DEFAULT 0,
    done_ns  INTEGER,
    note     TEXT NOT NULL DEFAULT '',
    UNIQUE (id, channel)
) STRICT;

CREATE INDEX notices_due ON notices (next_ns, seq) WHERE done_ns IS NULL;

CREATE TABLE outbox (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant           TEXT NOT NULL,
    customer         TEXT NOT NULL,
    meter            TEXT NOT NULL,
    event_name       TEXT NOT NULL,
    begin_minute     INTEGER NOT NULL,
    end_minute       INTEGER NOT NULL,
    period_start_s   INTEGER NOT NULL,
    period_end_s     INTEGER NOT NULL,
    minute           INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    value            INTEGER NOT NULL CHECK (value > 0),
    identifier       TEXT NOT NULL UNIQUE,
    state            TEXT NOT NULL,
    created_ns       INTEGER NOT NULL,
    first_attempt_ns INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    round            INTEGER NOT NULL DEFAULT 0,
    next_ns          INTEGER NOT NULL DEFAULT 0,
    http             INTEGER NOT NULL DEFAULT 0,
    request_id       TEXT NOT NULL DEFAULT '',
    note             TEXT NOT NULL DEFAULT '',
    settled_ns       INTEGER,
    verified_ns      INTEGER,
    UNIQUE (event_name, customer, minute, version)
) STRICT;

CREATE INDEX outbox_by_state ON outbox (state, created_ns);

CREATE INDEX outbox_by_tenant ON outbox (tenant, id);

CREATE INDEX outbox_due ON outbox (minute, id) WHERE state IN ('pending', 'sent');

CREATE TABLE parities (
    tenant         TEXT NOT NULL,
    meter          TEXT NOT NULL,
    period_start_s INTEGER NOT NULL,
    period_end_s   INTEGER NOT NULL,
    invoice        TEXT NOT NULL,
    customer       TEXT NOT NULL,
    ledger         INTEGER NOT NULL,
    assigned       INTEGER NOT NULL,
    accepted       INTEGER NOT NULL,
    verified       INTEGER NOT NULL,
    payee          INTEGER NOT NULL,
    billed         INTEGER,
    final          INTEGER NOT NULL CHECK (final IN (0, 1)),
    at_ns          INTEGER NOT NULL,
    PRIMARY KEY (tenant, meter, period_start_s, period_end_s, invoice)
) STRICT, WITHOUT ROWID;

CREATE INDEX parities_by_time ON parities (at_ns);

CREATE TABLE rejected_records (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    segment INTEGER NOT NULL,       -- the position moved to with the batch that it came in
    byte    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE tenants (
    name            TEXT NOT NULL PRIMARY KEY,
    plan            TEXT NOT NULL,
    state           TEXT NOT NULL,
    stripe_customer TEXT,
    created_ns      INTEGER NOT NULL
, terms TEXT) STRICT, WITHOUT ROWID;
