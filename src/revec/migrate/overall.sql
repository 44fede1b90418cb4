-- name: collections
-- One row each, with what it was when a worker last counted: nothing here is counted now.
SELECT c.id, c.name, r.epoch, s.recipe->>'dims' AS dims, i.query->>'address' AS model, i.kind,
       m.id AS migration, m.state, m.target, m.paused_why, m.hold, m.changed_at,
       n.minute, n.documents, n.approximate, n.coverage, n.backlog, n.unprojected, n.dead, n.lag,
       n.minute < now() - interval '3 minutes' AS is_old,
       (SELECT min(w.fault) FROM revec.index w WHERE w.collection_id = c.id AND w.writing) AS fault
  FROM revec.collection c
       LEFT JOIN revec.route r ON r.collection_id = c.id
       LEFT JOIN revec.index i ON i.id = r.serving
       LEFT JOIN revec.space s ON s.id = i.space_id
       LEFT JOIN LATERAL (SELECT * FROM revec.migration x WHERE x.collection_id = c.id
                           ORDER BY x.id DESC LIMIT 1) AS m ON true
       LEFT JOIN LATERAL (SELECT * FROM revec.sample x WHERE x.collection_id = c.id
                           ORDER BY x.minute DESC LIMIT 1) AS n ON true
 ORDER BY c.name LIMIT %(limit)s;

-- name: curves
-- A day of each, a point for a quarter of an hour: the longest that an edit waited in it.
SELECT collection_id, date_bin('15 minutes', minute, 'epoch') AS at, max(lag) AS lag
  FROM revec.sample
 WHERE minute > now() - interval '24 hours' AND collection_id = ANY (%(collections)s)
 GROUP BY 1, 2 ORDER BY 1, 2;

-- name: tables
-- The users' tables that have text, the largest first as far as the server has looked at them.
SELECT n.nspname AS schema, c.relname AS name, greatest(c.reltuples, 0)::bigint AS rows
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND n.nspname NOT IN ('revec', 'information_schema') AND n.nspname NOT LIKE 'pg\_%%'
   AND has_table_privilege(c.oid, 'SELECT')
   AND EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND t.typcategory = 'S')
 ORDER BY c.reltuples DESC, n.nspname, c.relname LIMIT %(limit)s;
