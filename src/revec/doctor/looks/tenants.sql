-- Who may see whose rows, and how fast. By the catalog alone.

-- name: tenant_without_btree
-- A small tenant's rows are rare among the nearest that a shared graph finds.
SELECT %(tenant)s::text AS tenant, %(rows)s::int8 AS rows
  FROM pg_class c
 WHERE c.oid = %(oid)s AND NOT c.relispartition AND %(rows)s >= %(many)s
   AND EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
                WHERE x.indrelid = c.oid AND m.amname IN ('hnsw', 'ivfflat'))
   AND NOT EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                          JOIN pg_am m ON m.oid = i.relam AND m.amname IN ('btree', 'hash')
                          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
                    WHERE x.indrelid = c.oid AND x.indisvalid AND a.attname = %(tenant)s::text);

-- name: row_security_not_forced
-- Not for its owner, who need not be the login that searches.
SELECT o.rolname AS owner,
       CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN 'warning' ELSE 'note' END AS severity
  FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
 WHERE c.oid = %(oid)s AND NOT %(of_revec)s AND c.relrowsecurity AND NOT c.relforcerowsecurity;

-- name: row_security_without_policy
SELECT c.relname AS name FROM pg_class c
 WHERE c.oid = %(oid)s AND NOT %(of_revec)s AND c.relrowsecurity
   AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid);

-- name: policy_for_everybody
-- A permissive policy that asks nothing opens what all the others close.
SELECT p.polname AS policy FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
 WHERE c.oid = %(oid)s AND NOT %(of_revec)s AND c.relrowsecurity AND %(tenant)s::text IS NOT NULL
   AND p.polpermissive AND 0 = ANY (p.polroles)
   AND 'true' IN (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid));

-- name: past_row_security
-- Views read as their owner unless they say otherwise, and functions may: an owner whom row security does not
-- bind shows everybody everything. Of functions only the body is known, and whether it names the table.
WITH guarded AS (
    SELECT c.oid, c.relname, c.relowner, c.relforcerowsecurity AS forced FROM pg_class c
     WHERE c.oid = %(oid)s AND NOT %(of_revec)s AND c.relrowsecurity
)
SELECT DISTINCT 'view ' || v.oid::regclass AS what, o.rolname AS owner,
       'ALTER VIEW ' || v.oid::regclass || ' SET (security_invoker = true)' AS way_out
  FROM guarded g JOIN pg_depend d ON d.refobjid = g.oid AND d.classid = 'pg_rewrite'::regclass
       JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v' AND v.oid <> g.oid
       JOIN pg_roles o ON o.oid = v.relowner
 WHERE NOT coalesce((SELECT s.option_value::bool FROM pg_options_to_table(v.reloptions) s
                      WHERE s.option_name = 'security_invoker'), false)
   AND (o.rolsuper OR o.rolbypassrls OR v.relowner = g.relowner AND NOT g.forced)
UNION ALL
SELECT 'function ' || f.oid::regprocedure, o.rolname, 'ALTER FUNCTION ' || f.oid::regprocedure || ' SECURITY INVOKER'
  FROM guarded g JOIN pg_proc f ON f.prosecdef AND f.prosrc ~ ('\m' || g.relname || '\M') AND f.prorettype <> 'trigger'::regtype
       JOIN pg_namespace n ON n.oid = f.pronamespace AND n.nspname NOT IN ('revec', 'pg_catalog', 'information_schema')
       JOIN pg_roles o ON o.oid = f.proowner
 WHERE o.rolsuper OR o.rolbypassrls OR f.proowner = g.relowner AND NOT g.forced;

-- name: no_row_security
SELECT %(tenant)s::text AS tenant FROM pg_class c
 WHERE c.oid = %(oid)s AND NOT %(of_revec)s AND NOT c.relrowsecurity;

-- name: see_policies
SELECT c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity, p.polname, pg_get_expr(p.polqual, c.oid)
  FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid WHERE c.oid = %(table)s::regclass;
