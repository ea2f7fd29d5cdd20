-- Where a batch is grouped: in memory, this connection's own, emptied after each batch.
CREATE TEMP TABLE IF NOT EXISTS batch (
    tenant, minute, plan, key_id, route, status_class, sandbox, meters, bucket,
    requests, units, cost, bytes_in, bytes_out, total_us, upstream_us, indeterminate, last_us,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, meters, bucket)
) WITHOUT ROWID
