-- name: server
-- What is asked, and as whom. Sessions of others are hidden from a login that may not read statistics.
SELECT current_database() AS database, current_setting('server_version') AS server,
       current_user::text AS login, current_date AS today, pg_backend_pid() AS pid,
       e.extversion AS vector, coalesce(n.nspname, 'public')::text AS vector_schema,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_sessions,
       EXISTS (SELECT FROM pg_class c WHERE c.relname = 'installation'  -- also for who has no right on the schema
                  AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'revec')) AS installed
  FROM (SELECT) AS one LEFT JOIN pg_extension e ON e.extname = 'vector' LEFT JOIN pg_namespace n ON n.oid = e.extnamespace;

-- name: ours
-- Row security shows Revec's rows to its owner; to another login an empty table is no good news.
SELECT pg_has_role(c.relowner, 'USAGE') OR r.rolsuper OR r.rolbypassrls AS seen, quote_ident(o.rolname) AS owner
  FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner, pg_roles r
 WHERE c.relname = 'installation' AND r.rolname = current_user
   AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'revec');

-- name: columns
-- Every column of vectors that holds rows, the largest table first. Of Revec's own only the indexes: sentinels
-- and what is paid for are of several models on purpose. Names and policies tell of tenants; names, or what the
-- server knows of widths, of the text. Nothing here waits for a table that is locked.
WITH types AS (
    SELECT t.oid, t.typname FROM pg_type t JOIN pg_extension e ON e.extname = 'vector' AND e.extnamespace = t.typnamespace
     WHERE t.typname IN ('vector', 'halfvec')
), tables AS (
    SELECT c.oid, n.nspname, c.relname, c.reltuples, c.relpages, n.nspname = 'revec' AS of_revec
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
       AND (n.nspname <> 'revec' OR c.relname ~ '^vectors_[0-9]+$')
       AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                      AND a.atttypid IN (SELECT oid FROM types))
), named AS (
    SELECT a.attrelid, a.attname, a.attnum, t.typname AS type, coalesce(s.avg_width, 0) AS width
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN tables c ON c.oid = a.attrelid
           LEFT JOIN pg_stats s ON s.schemaname = c.nspname AND s.tablename = c.relname
                                AND s.attname = a.attname AND NOT s.inherited
     WHERE a.attnum > 0 AND NOT a.attisdropped
), policed AS (
    SELECT DISTINCT p.polrelid, d.refobjsubid AS attnum
      FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                                       AND d.refobjid = p.polrelid AND d.refobjsubid > 0
)
SELECT c.oid::int8 AS oid, c.nspname AS schema, c.relname AS name, a.attname AS column, t.typname AS type,
       nullif(a.atttypmod, -1) AS dims, c.reltuples::int8 AS rows, c.of_revec,
       has_column_privilege(c.oid, a.attnum, 'SELECT') AND has_schema_privilege(c.nspname, 'USAGE') AS may_read,
       (SELECT x.attname FROM named x
         WHERE x.attrelid = c.oid AND NOT c.of_revec AND x.type IN ('text', 'varchar')
           AND (lower(x.attname) = ANY (%(texts)s::text[]) OR x.width >= 30)
           AND lower(x.attname) <> ALL (%(tenants)s::text[] || %(models)s::text[])
         ORDER BY array_position(%(texts)s::text[], lower(x.attname)) NULLS LAST, x.width DESC LIMIT 1) AS text,
       (SELECT x.attname FROM named x WHERE x.attrelid = c.oid AND lower(x.attname) = ANY (%(models)s::text[])
         ORDER BY x.attnum LIMIT 1) AS model,
       (SELECT x.attname FROM named x
         WHERE x.attrelid = c.oid AND (lower(x.attname) = ANY (%(tenants)s::text[])
                                       OR EXISTS (SELECT FROM policed p WHERE p.polrelid = c.oid AND p.attnum = x.attnum))
         ORDER BY array_position(%(tenants)s::text[], lower(x.attname)) NULLS LAST, x.attnum LIMIT 1) AS tenant,
       (SELECT x.attname FROM named x
         WHERE x.attrelid = c.oid AND (x.attname = 'deleted_at' OR x.attname IN ('is_deleted', 'deleted') AND x.type = 'bool')
         LIMIT 1) AS deleted
  FROM tables c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       JOIN types t ON t.oid = a.atttypid
 ORDER BY c.relpages DESC, c.oid, a.attnum;

-- name: size
-- This waits where somebody has locked the table. One that was never counted is taken for ten rows a block.
-- A policy that lets this login see every row hides nothing.
SELECT pg_table_size(c.oid) AS bytes,
       least(100, 100 * %(sample)s / greatest(1, pg_relation_size(c.oid) / current_setting('block_size')::int
             * CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages ELSE 10 END)) AS percent,
       CASE WHEN row_security_active(c.oid) AND NOT EXISTS (
                SELECT FROM pg_policy p
                 WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND p.polpermissive
                   AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                   AND EXISTS (SELECT FROM unnest(p.polroles) AS role
                                WHERE role = 0 OR pg_has_role(role, 'USAGE')))
            THEN true ELSE false END AS hidden
  FROM pg_class c WHERE c.oid = %(oid)s;

-- name: graphs
-- Approximate indexes that are whole, with what they are of: the expression, its operator, the condition.
SELECT n.nspname AS schema, i.relname AS name, m.amname AS method,
       pg_get_indexdef(x.indexrelid, 1, true) AS expression, pg_get_expr(x.indpred, x.indrelid) AS predicate,
       format('OPERATOR(%%I.%%s)', s.nspname, p.oprname) AS operator
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
       JOIN pg_am m ON m.oid = i.relam AND m.amname IN ('hnsw', 'ivfflat')
       JOIN pg_opclass k ON k.oid = x.indclass[0]
       JOIN pg_amop o ON o.amopfamily = k.opcfamily AND o.amoplefttype = k.opcintype AND o.amoppurpose = 'o'
       JOIN pg_operator p ON p.oid = o.amopopr JOIN pg_namespace s ON s.oid = p.oprnamespace
 WHERE x.indisvalid AND x.indrelid = %(oid)s
   AND EXISTS (SELECT FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid AND d.refobjid = x.indrelid
                  AND a.attname = %(column)s::text)
 ORDER BY i.relname;

-- name: pid
SELECT pg_backend_pid() AS pid;
