"""``make demo``: a sample API, the sidecar in front of it, a tenant on each plan, and calls that show what it does."""
