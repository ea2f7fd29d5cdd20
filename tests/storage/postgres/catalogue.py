"""Everything that migrations make, as lines of text, the same for the same schema on every server and version."""

import asyncpg

_QUERIES = (
    "SELECT 'table', c.relname, relkind, relrowsecurity, relforcerowsecurity, array_to_string(reloptions, ',')"
    " FROM pg_class c WHERE relnamespace = 'sidecar'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')",
    "SELECT 'column', c.relname, attnum, attname, format_type(atttypid, atttypmod), collname, attnotnull, attidentity,"
    " pg_get_expr(adbin, adrelid) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
    " LEFT JOIN pg_collation k ON k.oid = attcollation LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
    " WHERE c.relnamespace = 'sidecar'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND attnum > 0",
    "SELECT 'index', pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid"
    " WHERE c.relnamespace = 'sidecar'::regnamespace",
    "SELECT 'constraint', c.relname, pg_get_constraintdef(k.oid) FROM pg_constraint k"
    " JOIN pg_class c ON c.oid = conrelid"
    " WHERE k.connamespace = 'sidecar'::regnamespace AND contype IN ('p', 'u', 'c', 'f', 'x')",
    "SELECT 'policy', tablename, policyname, permissive, roles, cmd, qual, with_check FROM pg_policies"
    " WHERE schemaname = 'sidecar'",
    "SELECT 'right', table_name, grantee, privilege_type FROM information_schema.role_table_grants"
    " WHERE table_schema = 'sidecar' AND grantee <> table_catalog AND grantee LIKE 'sidecar\\_%' AND grantee <> $1",
    "SELECT 'function', p.oid::regprocedure, prosecdef, array_to_string(proconfig, ','), md5(prosrc),"
    " has_function_privilege('sidecar_ingest', p.oid, 'EXECUTE'),"
    " has_function_privilege('sidecar_reader', p.oid, 'EXECUTE')"
    " FROM pg_proc p WHERE pronamespace = 'sidecar'::regnamespace",
    "SELECT 'migration', number FROM sidecar.migrations",
)


async def catalogue(connection: asyncpg.Connection, owner: str) -> list[str]:
    lines = []
    for query in _QUERIES:
        for row in await connection.fetch(query, *([owner] if "$1" in query else [])):
            lines.append(" | ".join(value.decode() if isinstance(value, bytes) else str(value) for value in row))
    return sorted(lines)
