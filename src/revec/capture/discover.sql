-- name: columns
-- Tables that have a column of vectors: no partitions (their parents stand for them), nothing of our own.
SELECT n.nspname AS schema, c.relname AS name, a.attname AS vector, t.typname AS type,
       CASE WHEN a.atttypmod > 0 THEN a.atttypmod END AS dims, greatest(c.reltuples, 0)::bigint AS rows,
       c.relrowsecurity AS row_security, has_table_privilege(c.oid, 'SELECT') AS readable,
       has_column_privilege(c.oid, a.attnum, 'UPDATE') AS writable
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE t.typname IN ('vector', 'halfvec') AND NOT a.attisdropped AND a.attnum > 0
   AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND n.nspname NOT IN ('revec', 'information_schema') AND n.nspname NOT LIKE 'pg\_%%'
 ORDER BY n.nspname, c.relname, a.attnum;

-- name: others
-- The table's other columns; the longest texts first, as far as the server has looked at them.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       t.typcategory = 'S' AS is_text, coalesce(s.avg_width, 0) AS width
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
       LEFT JOIN pg_stats s ON s.schemaname = %(schema)s AND s.tablename = %(name)s AND s.attname = a.attname
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY coalesce(s.avg_width, 0) DESC, a.attnum;

-- name: oid
SELECT format('%%I.%%I', %(schema)s::text, %(name)s::text)::regclass::oid AS oid;

-- name: graphs
-- Indexes of the column: by which operator each is walked, and whether a search may use it.
SELECT i.relname AS name, m.amname AS method, x.indisvalid AS valid, pg_get_indexdef(x.indexrelid) AS definition,
       (SELECT o.oprname FROM pg_amop p JOIN pg_operator o ON o.oid = p.amopopr
         WHERE p.amopfamily = k.opcfamily AND p.amoppurpose = 'o' LIMIT 1) AS operator
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
       JOIN pg_opclass k ON k.oid = x.indclass[0]
       JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attname = %(vector)s AND a.attnum = x.indkey[0]
 WHERE x.indrelid = %(oid)s
 ORDER BY m.amname = 'hnsw' DESC, i.relname;

-- name: functions
-- Functions that speak of the table.
SELECT p.oid::regprocedure::text AS name
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'revec')
   AND p.prosrc ~* ('\m' || %(name)s || '\M') ORDER BY 1;

-- name: views
SELECT DISTINCT v.oid::regclass::text AS name
  FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
       JOIN pg_namespace n ON n.oid = v.relnamespace
 WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = %(oid)s AND v.oid <> %(oid)s AND n.nspname <> 'revec'
 ORDER BY 1;

-- name: triggers
-- The user's own, and whether an UPDATE of nothing but the column wakes them.
SELECT t.tgname AS name, (t.tgtype & 16) > 0 AND t.tgenabled IN ('O', 'A')
       AND (t.tgattr = '' OR EXISTS (SELECT FROM pg_attribute a
                                      WHERE a.attrelid = t.tgrelid AND a.attname = %(vector)s
                                        AND a.attnum = ANY (t.tgattr::int2[]))) AS woken
  FROM pg_trigger t WHERE t.tgrelid = %(oid)s AND NOT t.tgisinternal AND t.tgname NOT LIKE 'revec\_%%'
 ORDER BY t.tgname;

-- name: policies
SELECT polname AS name, pg_get_expr(polqual, polrelid) AS condition FROM pg_policy WHERE polrelid = %(oid)s
 ORDER BY polname;

-- name: silent
-- Whether this login may write without waking any trigger.
SELECT has_parameter_privilege(current_user, 'session_replication_role', 'SET') AS may, quote_ident(current_user) AS login;

-- name: sample
-- Rows that have a vector, by chance; of large tables of blocks by chance.
SELECT coalesce(({title})::text, '') AS title, coalesce(({body})::text, '') AS body, {vector} AS own
  FROM {table} {blocks} WHERE ({filter}) AND {vector} IS NOT NULL ORDER BY random() LIMIT %(size)s;

-- name: blocks
TABLESAMPLE SYSTEM (%(percent)s)
