-- Where a batch arrives and where it is grouped and summed: this connection's own, without row-level security (COPY is refused under
-- it), emptied by each commit.
CREATE TEMP TABLE IF NOT EXISTS staging (
    event_id      uuid NOT NULL,
    started_us    bigint NOT NULL,
    tenant        text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    plan          text COLLATE "C" NOT NULL,
    sandbox       smallint NOT NULL,
    route         text COLLATE "C" NOT NULL,
    method        text COLLATE "C" NOT NULL,
    status        smallint NOT NULL,
    outcome       text COLLATE "C" NOT NULL,
    units         bigint NOT NULL,
    cost          bigint NOT NULL,
    bytes_in      bigint NOT NULL,
    bytes_out     bigint NOT NULL,
    total_us      bigint NOT NULL,
    upstream_us   bigint NOT NULL,
    first_byte_us bigint NOT NULL,
    meters        text COLLATE "C" NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS grouped (
    tenant        text COLLATE "C",
    minute        bigint,
    plan          text COLLATE "C",
    key_id        text COLLATE "C",
    route         text COLLATE "C",
    status_class  smallint,
    sandbox       smallint,
    bucket        smallint,
    requests      bigint,
    units         bigint,
    cost          bigint,
    bytes_in      bigint,
    bytes_out     bigint,
    total_us      bigint,
    upstream_us   bigint,
    indeterminate bigint,
    last_us       bigint
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS grouped_meters (
    tenant        text COLLATE "C",
    minute        bigint,
    plan          text COLLATE "C",
    key_id        text COLLATE "C",
    route         text COLLATE "C",
    status_class  smallint,
    sandbox       smallint,
    meters        text COLLATE "C",
    requests      bigint
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS summed_meters (
    tenant        text COLLATE "C",
    minute        bigint,
    plan          text COLLATE "C",
    key_id        text COLLATE "C",
    route         text COLLATE "C",
    status_class  smallint,
    sandbox       smallint,
    meter         text COLLATE "C",
    value         bigint NOT NULL
) ON COMMIT DELETE ROWS
