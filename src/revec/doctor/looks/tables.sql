-- How tables of vectors lie on the disk.

-- name: dead_rows
-- Also Revec's own.
SELECT format('%%I.%%I', schemaname, relname) AS table, n_dead_tup AS dead, n_live_tup AS live,
       round(100.0 * n_dead_tup / (n_dead_tup + n_live_tup), 1)::float8 AS percent,
       greatest(last_vacuum, last_autovacuum) AS vacuumed
  FROM pg_stat_all_tables
 WHERE (relid = ANY (%(tables)s::oid[]) OR schemaname = 'revec')
   AND n_dead_tup >= %(dead_tuples)s AND n_dead_tup > %(dead_share)s * (n_dead_tup + n_live_tup)
 ORDER BY n_dead_tup DESC;

-- name: see_dead_rows
SELECT relid::regclass, n_live_tup, n_dead_tup, last_vacuum, last_autovacuum FROM pg_stat_user_tables ORDER BY n_dead_tup DESC LIMIT 20;

-- name: toasted_vectors
-- Beyond 2 kB a value leaves its row unless the column is PLAIN, which a page has room for up to 8 kB. Only
-- who scans exactly reads them all.
SELECT %(dims)s::int AS dims, 8 + %(dims)s * k.width AS bytes, a.attstorage::text AS storage
  FROM pg_attribute a, (SELECT CASE %(type)s::text WHEN 'halfvec' THEN 2 ELSE 4 END AS width) AS k
 WHERE a.attrelid = %(oid)s AND a.attname = %(column)s::text AND a.attstorage <> 'p'
   AND %(rows)s >= %(many)s AND 8 + %(dims)s * k.width BETWEEN 2000 AND 8000
   AND NOT EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
                    WHERE x.indrelid = %(oid)s AND x.indisvalid AND m.amname IN ('hnsw', 'ivfflat'));
