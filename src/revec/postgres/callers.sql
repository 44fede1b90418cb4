-- name: destinations
-- What a caller's vector may be compared with.
SELECT index_id, space_id, model, dims, standing, waits FROM revec.destination
 WHERE collection_id = %(collection)s ORDER BY index_id;

-- name: keep
INSERT INTO revec.caller AS c (function, collection_id, home, says_space)
VALUES ({function}, {collection}, {home}, {says_space})
ON CONFLICT (function) DO UPDATE
   SET collection_id = excluded.collection_id, home = excluded.home, says_space = excluded.says_space, made_at = now();

-- name: kept
-- Those that are still there.
SELECT function, home, says_space FROM revec.caller
 WHERE collection_id = %(collection)s AND to_regprocedure(function) IS NOT NULL ORDER BY function;

-- name: keep_scale
INSERT INTO revec.scale AS s (collection_id, home, space_id, home_scores, scores, pairs)
VALUES (%(collection)s, %(home)s, %(space)s, %(home_scores)s::float8[], %(scores)s::float8[], %(pairs)s)
ON CONFLICT (collection_id, home, space_id) DO UPDATE
   SET home_scores = excluded.home_scores, scores = excluded.scores, pairs = excluded.pairs, at = now();

-- name: scale
SELECT home_scores, scores, pairs, at FROM revec.scale
 WHERE collection_id = %(collection)s AND home = %(home)s AND space_id = %(space)s;

-- name: function
-- What a name, or a name with its types, means here.
SELECT p.oid, p.oid::regprocedure::text AS shown, n.nspname AS schema, p.proname AS name, p.prosecdef AS definer,
       p.prokind = 'f' AND p.proretset AS is_set, pg_get_functiondef(p.oid) AS definition,
       EXISTS (SELECT FROM pg_depend d
                WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass
                  AND d.refobjid IN ('revec.nearest'::regproc, 'revec.asked_by'::regproc)) AS is_ours
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE p.oid = CASE WHEN %(function)s ~ '[(]' THEN to_regprocedure(%(function)s)::oid
                    ELSE to_regproc(%(function)s)::oid END;

-- name: arguments
-- In their order; those of mode i are handed in, those of mode t come back.
SELECT coalesce(a.name, '') AS name, coalesce(a.mode, 'i') AS mode, {type} AS type, t.typname AS base,
       pg_get_function_arg_default(p.oid, a.place::integer) AS default
  FROM pg_proc p
       CROSS JOIN LATERAL ROWS FROM (unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])),
                                     unnest(p.proargnames), unnest(p.proargmodes))
           WITH ORDINALITY AS a (type, name, mode, place)
       JOIN pg_type t ON t.oid = a.type JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE p.oid = %(oid)s ORDER BY a.place;

-- name: type_shown
-- As it can be written wherever the path leads.
CASE n.nspname WHEN 'pg_catalog' THEN format_type(t.oid, NULL)
     ELSE format('%%I.%%I', n.nspname, t.typname) || CASE t.typcategory WHEN 'A' THEN '[]' ELSE '' END END

-- name: type_named
SELECT {type} AS type, t.typname AS base
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = to_regtype(%(type)s);

-- name: type_of
SELECT {type} AS type, t.typname AS base
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = %(oid)s;

-- name: one_row
-- What an expression is of.
SELECT ({expression}) AS value FROM {table} LIMIT 0;

-- name: row_security
-- Whom a table's rows are shown to, for whoever has to say whose documents a caller sees.
SELECT c.relrowsecurity AS is_on,
       (SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
         WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL LIMIT 1) AS policy
  FROM pg_class c WHERE c.oid = to_regclass(%(table)s);

-- name: search
-- The caller itself. It runs as whoever calls it: row security of the table holds for him, and what a document's
-- row is now, whose and whether it is searchable, counts more than what we heard last.
CREATE OR REPLACE FUNCTION {function}({arguments})
RETURNS TABLE ({columns})
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT {results}
      FROM (SELECT ({tenant})::text AS tenant) AS revec_asked
           CROSS JOIN LATERAL revec.nearest(
               {collection}, {source}, {query}, revec_asked.tenant, {threshold}, {most}, {space}, {home}
           ) AS revec_hit
           CROSS JOIN LATERAL (
               SELECT {row}
                 FROM {table}
                WHERE {is_hit}
                  AND coalesce(({filter})::boolean, false)
                  AND coalesce(nullif(({row_tenant})::text, ''), {nobody}) = revec_asked.tenant
           ) AS revec_row
     ORDER BY revec_hit.place
     LIMIT {count};
END;

-- name: model
-- By which model the query is to be embedded: asked before each search, it follows cutover and rollback.
CREATE OR REPLACE FUNCTION {function}({arguments})
RETURNS TABLE (model text, dims integer, space text, prefix text, task text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT a.model, a.dims, a.space, a.prefix, a.task FROM revec.asked_by({collection}, ({tenant})::text) AS a;
END;
