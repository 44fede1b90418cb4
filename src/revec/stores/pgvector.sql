-- name: create
-- One typed table per index. No foreign key to the documents: a cascade would make a user's delete
-- wait for an index build.
CREATE TABLE {vectors} (
    doc_id      bigint NOT NULL,
    chunk_no    integer NOT NULL,
    tenant      text NOT NULL,
    input_hash  bytea NOT NULL,
    text_hash   bytea NOT NULL,
    chunk_count integer NOT NULL,
    embedding   halfvec({dims}) NOT NULL,
    PRIMARY KEY (doc_id, chunk_no)
);

-- name: inline
-- Beside its row, never in TOAST: an exact scan reads it three times as fast.
ALTER TABLE {vectors} ALTER COLUMN embedding SET STORAGE PLAIN;

-- name: by_text
CREATE INDEX {name} ON {vectors} (text_hash);

-- name: by_tenant
CREATE INDEX {name} ON {vectors} (tenant);

-- name: protect
SELECT revec.protect(%(vectors)s::regclass, 'tenant');

-- name: drop
DROP TABLE IF EXISTS {vectors};

-- name: insert
-- After the document's old set is gone. No ON CONFLICT: it would cost every row a speculative insertion,
-- for the sake of two workers that write one document at once; whoever is second is told, and comes back.
INSERT INTO {vectors} (doc_id, chunk_no, tenant, input_hash, text_hash, chunk_count, embedding)
SELECT * FROM unnest(%(doc_ids)b::bigint[], %(chunk_nos)b::bigint[], %(tenants)s::text[],
                     %(input_hashes)b::bytea[], %(text_hashes)b::bytea[], %(chunk_counts)b::bigint[],
                     %(embeddings)b::halfvec[]);

-- name: remove
DELETE FROM {vectors} WHERE doc_id = ANY (%(ids)b::bigint[]);

-- name: known
SELECT DISTINCT ON (text_hash) text_hash, embedding FROM {vectors}
 WHERE text_hash = ANY (%(hashes)b::bytea[]) AND {sure} ORDER BY text_hash;

-- name: always
true

-- name: as_noted
-- A column that the application writes may be ahead of what its ledger says: another text's vector would be
-- copied, for good.
is_noted

-- name: scan
-- Documents, not chunks: the nearest chunk speaks for its document. Which rows are near enough to be
-- looked at says the graph; how near they are, the vectors themselves. In no order: see no_sort. A vector of
-- zeros, which a column of a user's may have, is NaN from everything: near to nothing, but the server sorts it
-- above every score.
SELECT doc_id, 1 - min(distance) AS score, count(*) AS chunks
  FROM (SELECT v.doc_id, v.embedding <=> %(query)b AS distance FROM {vectors} v
         WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND {matching}
         ORDER BY {nearness} LIMIT %(limit)s) AS nearest
 GROUP BY doc_id HAVING min(distance) <> 'NaN';

-- name: scan_exactly
-- MATERIALIZED keeps the planner off the approximate index, whatever it believes of the tenant.
WITH rows AS MATERIALIZED (
    SELECT v.doc_id, v.embedding <=> %(query)b AS distance FROM {vectors} v
     WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND {matching}
)
SELECT doc_id, 1 - min(distance) AS score FROM rows
 GROUP BY doc_id HAVING min(distance) <> 'NaN' ORDER BY score DESC, doc_id LIMIT %(limit)s;

-- name: scored
-- Given documents, each by its nearest chunk.
SELECT doc_id, 1 - min(embedding <=> %(query)b) AS score FROM {vectors}
 WHERE doc_id = ANY (%(ids)b::bigint[]) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
 GROUP BY doc_id HAVING min(embedding <=> %(query)b) <> 'NaN' ORDER BY score DESC, doc_id;

-- name: scan_settings
-- An approximate scan goes on until the limit is met, also behind a tenant's filter; and it is planned
-- for this tenant, not for the average one, whatever the database's default is. Of real sentences and real
-- queries a list of 100 finds 0.95 of the nearest ten, one of 400 more than 0.99 (make bench-ann).
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true) AS scan,
       set_config('hnsw.ef_search', greatest(400, least(1000, %(limit)s))::text, true) AS ef,
       set_config('plan_cache_mode', 'force_custom_plan', true) AS plan;

-- name: no_sort
-- Of thousands of rows the planner would rather sort all by their signs than walk: the vectors that the signs
-- are made of lie outside the table, and it does not count what reading them costs. No other part of a
-- scan sorts, or it would look so dear that a server before 18 compiles it first.
SELECT set_config('enable_sort', 'off', true) AS sort;

-- name: sort_again
-- The rest of the transaction is somebody else's.
SET LOCAL enable_sort TO DEFAULT;

-- name: is_small
-- Entries of the index by tenant are counted, to one more than asked.
SELECT count(*) <= %(most)s AS small
  FROM (SELECT FROM {vectors} WHERE tenant = %(tenant)s LIMIT %(most)s + 1) AS counted;

-- name: vectors
SELECT doc_id, embedding FROM {vectors}
 WHERE doc_id = ANY (%(ids)b::bigint[]) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
 ORDER BY doc_id, chunk_no;

-- name: sample
SELECT doc_id, text_hash, embedding FROM {vectors} ORDER BY random() LIMIT %(size)s;

-- name: sample_blocks
-- Large tables: random blocks first, then random rows of those.
SELECT doc_id, text_hash, embedding FROM {vectors} TABLESAMPLE SYSTEM (%(percent)s)
 ORDER BY random() LIMIT %(size)s;

-- name: some
SELECT doc_id FROM {vectors} WHERE chunk_no = 0 ORDER BY random() LIMIT %(size)s;

-- name: some_blocks
SELECT doc_id FROM {vectors} TABLESAMPLE SYSTEM (%(percent)s)
 WHERE chunk_no = 0 ORDER BY random() LIMIT %(size)s;

-- name: rows
SELECT greatest(reltuples, 0)::bigint AS rows FROM pg_class WHERE oid = to_regclass(%(vectors)s);

-- name: build_settings
-- A client that died must not leave the build running.
SELECT set_config('statement_timeout', '0', true) AS statement,
       set_config('lock_timeout', '10s', true) AS lock,
       set_config('client_connection_check_interval', '1s', true) AS client;

-- name: analyze
-- How many rows, and whose: else a search for a large tenant would read all of its vectors instead of
-- the new index, until autovacuum comes by.
ANALYZE {vectors} (doc_id, tenant);

-- name: build_memory
-- The graph should fit.
SELECT set_config('maintenance_work_mem', %(kilobytes)s || 'kB', true) AS memory;

-- name: build
-- Plain, not CONCURRENTLY: nobody reads or writes this table yet, and all or nothing stays behind.
CREATE INDEX IF NOT EXISTS {name} ON {vectors} USING hnsw ({elements});

-- name: build_alone
-- Without workers the graph is in the server's own memory, not in the shared one.
SELECT set_config('max_parallel_maintenance_workers', '0', true);

-- name: built
SELECT coalesce(bool_or(x.indisvalid), false) AS valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
                WHERE p.relid = to_regclass(%(vectors)s)) AS running
  FROM pg_index x WHERE x.indexrelid = to_regclass(%(name)s);

-- name: bytes
SELECT coalesce(pg_total_relation_size(to_regclass(%(vectors)s)), 0) AS bytes;
