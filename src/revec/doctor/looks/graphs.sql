-- Approximate indexes: are they whole, used, and do they find what is there?

-- name: invalid_index
-- Left behind by a CREATE INDEX CONCURRENTLY that failed, and not under construction just now.
SELECT format('%%I.%%I', n.nspname, i.relname) AS index, x.indrelid::regclass::text AS table, m.amname AS method,
       pg_relation_size(i.oid) AS bytes
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
       JOIN pg_am m ON m.oid = i.relam
 WHERE NOT (x.indisvalid AND x.indisready) AND x.indrelid = ANY (%(tables)s::oid[])
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = x.indexrelid);

-- name: see_invalid_index
SELECT indexrelid::regclass, indisvalid, indisready FROM pg_index WHERE NOT (indisvalid AND indisready);

-- name: unused_index
-- As far back as statistics go. Not "never": the doctor's own probes go through it, some at each visit.
SELECT s.idx_scan AS scans, t.seq_scan AS scans_of_the_table, pg_relation_size(s.indexrelid) AS bytes, d.stats_reset AS since
  FROM pg_stat_all_indexes s JOIN pg_stat_all_tables t USING (relid), pg_stat_database d
 WHERE s.indexrelid = to_regclass(%(index)s) AND d.datname = current_database()
   AND t.seq_scan >= greatest(%(unread)s, 10 * s.idx_scan) AND %(rows)s >= %(many)s;

-- name: no_index
-- Large enough that a scan of it all is slow. Revec chose an exact scan of its own tables by tenant.
SELECT %(rows)s::int8 AS rows, pg_size_pretty(%(bytes)s::int8) AS size
 WHERE NOT %(of_revec)s AND %(bytes)s >= %(large)s
   AND NOT EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
                    WHERE x.indrelid = %(oid)s AND m.amname NOT IN ('btree', 'hash', 'gin', 'gist', 'brin', 'spgist'));

-- name: by_index
-- A small table would be read without its index, and prove nothing.
SELECT set_config('enable_seqscan', 'off', true) AS seqscan, set_config('enable_sort', 'off', true) AS sort;

-- name: planned
-- By which index such a search goes.
EXPLAIN (FORMAT JSON) SELECT FROM {table} WHERE {predicate}
 ORDER BY {expression} {operator} (SELECT {expression} FROM {table} WHERE {predicate} LIMIT 1) LIMIT 1;

-- name: self_retrieval
-- The nearest that the index finds should be no farther than the row itself, whatever the distance is.
SELECT count(*) AS n, count(*) FILTER (WHERE near.distance IS NULL OR near.distance > seen.itself + 0.0005) AS found
  FROM (SELECT probe, probe {operator} probe AS itself
          FROM (SELECT {expression} AS probe FROM {table} {sample}
                 WHERE {column} IS NOT NULL AND {predicate} ORDER BY random() LIMIT %(probes)s) AS picked) AS seen
       LEFT JOIN LATERAL (SELECT {expression} {operator} seen.probe AS distance FROM {table} WHERE {predicate}
                           ORDER BY {expression} {operator} seen.probe LIMIT 1) AS near ON true
 WHERE seen.itself <> 'NaN';

-- name: low_recall
-- Of the ten nearest by an exact scan, how many are as near in the index's list: equal distances count as found.
-- + 0 keeps the planner off the index; as many rows are asked about as an exact scan of so many allows.
SELECT n, CASE WHEN recall < %(recall)s THEN 1 ELSE 0 END AS found, round(recall::numeric, 3)::float8 AS recall,
       current_setting('hnsw.ef_search', true) AS ef_search, current_setting('ivfflat.probes', true) AS probes
  FROM (SELECT count(*) AS n, avg(kept) AS recall
          FROM (SELECT probe FROM (SELECT {expression} AS probe FROM {table} {sample}
                                    WHERE {column} IS NOT NULL AND {predicate} ORDER BY random() LIMIT 40) AS picked
                 WHERE probe {operator} probe <> 'NaN'
                 LIMIT least(20, %(comparisons)s / greatest(%(rows)s, 1))) AS seen,
               LATERAL (SELECT array_agg(d ORDER BY d) AS far
                          FROM (SELECT ({expression} {operator} seen.probe) + 0 AS d FROM {table}
                                 WHERE {predicate} AND {column} IS NOT NULL ORDER BY d LIMIT 10) AS e) AS exact,
               LATERAL (SELECT count(*) FILTER (WHERE d <= exact.far[cardinality(exact.far)] + 0.000001)::float8
                               / greatest(cardinality(exact.far), 1) AS kept
                          FROM (SELECT {expression} {operator} seen.probe AS d FROM {table}
                                 WHERE {predicate} ORDER BY {expression} {operator} seen.probe LIMIT 10) AS a) AS found) AS each;
