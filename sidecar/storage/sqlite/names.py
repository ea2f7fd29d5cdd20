"""Every tenant that a table knows, in order, for one look-up each: the loose index scan that SQLite does not have."""

END = b""  # as the last tenant: none; a blob comes after every text


def names(table: str) -> str:
    """A WITH clause ``names (name)``: the tenants in [:first, :last] of a table whose key or index begins with tenant.

    The last row may be NULL, which equals no tenant. ``table`` is never a value from outside.
    """
    return f"""
        WITH RECURSIVE names (name) AS (
            SELECT min(tenant) FROM {table} WHERE tenant >= :first AND tenant <= :last
            UNION ALL
            SELECT (SELECT min(tenant) FROM {table} WHERE tenant > name AND tenant <= :last)
            FROM names WHERE name IS NOT NULL
        )
    """  # noqa: S608 - a table's name
