-- Who pays, what of the ledger was asked for, and what the payee said.

-- One row. The floor: usage of minutes before it is never marked, assigned or stamped.
CREATE TABLE books (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    name  TEXT NOT NULL,            -- 8 characters of base 32
    floor INTEGER NOT NULL          -- a Unix minute
) STRICT;

CREATE TABLE leads (
    what     TEXT NOT NULL PRIMARY KEY,
    node     TEXT NOT NULL,
    until_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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

-- Usage that may not be assigned yet.
CREATE TABLE marks (
    tenant TEXT NOT NULL,
    minute INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute)
) STRICT, WITHOUT ROWID;

-- What was assigned of each minute of the ledger.
CREATE TABLE assigned_minutes (
    tenant TEXT NOT NULL,
    meter  TEXT NOT NULL,
    minute INTEGER NOT NULL,
    value  INTEGER NOT NULL CHECK (value > 0),
    PRIMARY KEY (tenant, meter, minute)
) STRICT, WITHOUT ROWID;

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

CREATE INDEX outbox_due ON outbox (minute, id) WHERE state IN ('pending', 'sent');
CREATE INDEX outbox_by_state ON outbox (state, created_ns);
CREATE INDEX outbox_by_tenant ON outbox (tenant, id);

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

CREATE TABLE claims (
    what   TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    at_ns  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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
