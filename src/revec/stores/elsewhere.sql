-- name: create
-- As a table of vectors (pgvector.sql), with the point's id where the vector would be: which points the store
-- should have, and of what.
CREATE TABLE {vectors} (
    doc_id      bigint NOT NULL,
    chunk_no    integer NOT NULL,
    tenant      text NOT NULL,
    input_hash  bytea NOT NULL,
    text_hash   bytea NOT NULL,
    chunk_count integer NOT NULL,
    point_id    uuid NOT NULL UNIQUE,
    PRIMARY KEY (doc_id, chunk_no)
);

-- name: by_text
CREATE INDEX {name} ON {vectors} (text_hash);

-- name: by_tenant
CREATE INDEX {name} ON {vectors} (tenant);

-- name: protect
SELECT revec.protect(%(vectors)s::regclass, 'tenant');

-- name: drop
DROP TABLE IF EXISTS {vectors};

-- name: intend
-- Before anything is put: whatever becomes of the write, its points are known. The index's row is locked, so that
-- nobody retires it in between; of one that is retired nothing is left behind.
WITH written AS MATERIALIZED (
    SELECT i.id FROM revec.index i WHERE i.id = %(index)s AND i.writing FOR SHARE
)
INSERT INTO revec.tombstone (index_id, point_id, due)
SELECT written.id, n.id, now() + make_interval(secs => %(grace)s)
  FROM written CROSS JOIN unnest(%(points)s::uuid[]) AS n (id);

-- name: keep
-- The write commits: its points stay. One that may be being deleted is not among them.
DELETE FROM revec.tombstone
 WHERE index_id = %(index)s AND point_id = ANY (%(points)s::uuid[]) AND NOT condemned
RETURNING point_id;

-- name: bury
-- Nobody's points, to be deleted now. Again where they were deleted before they were put.
WITH written AS MATERIALIZED (
    SELECT i.id FROM revec.index i WHERE i.id = %(index)s AND i.writing FOR SHARE
)
INSERT INTO revec.tombstone AS t (index_id, point_id, due)
SELECT written.id, n.id, now() FROM written CROSS JOIN unnest(%(points)s::uuid[]) AS n (id)
ON CONFLICT (index_id, point_id) DO UPDATE SET due = least(t.due, excluded.due);

-- name: leave
-- The rows of these documents go, and their points with them, later.
WITH gone AS (
    DELETE FROM {vectors} WHERE doc_id = ANY (%(ids)b::bigint[]) RETURNING point_id
)
INSERT INTO revec.tombstone (index_id, point_id, due)
SELECT %(index)s, point_id, now() FROM gone ON CONFLICT DO NOTHING;

-- name: insert
INSERT INTO {vectors} (doc_id, chunk_no, tenant, input_hash, text_hash, chunk_count, point_id)
SELECT * FROM unnest(%(doc_ids)b::bigint[], %(chunk_nos)b::bigint[], %(tenants)s::text[],
                     %(input_hashes)b::bytea[], %(text_hashes)b::bytea[], %(chunk_counts)b::bigint[],
                     %(points)s::uuid[]);

-- name: located
SELECT DISTINCT ON (text_hash) text_hash, point_id FROM {vectors}
 WHERE text_hash = ANY (%(hashes)b::bytea[]) ORDER BY text_hash;

-- name: of_documents
SELECT doc_id, point_id FROM {vectors}
 WHERE doc_id = ANY (%(ids)b::bigint[]) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
 ORDER BY doc_id, chunk_no;

-- name: points
-- In their order, the next ones.
SELECT point_id FROM {vectors} WHERE %(after)s::uuid IS NULL OR point_id > %(after)s
 ORDER BY point_id LIMIT %(limit)s;

-- name: of_points
SELECT doc_id FROM {vectors} WHERE point_id = ANY (%(points)s::uuid[]);

-- name: sample
SELECT doc_id, text_hash, point_id FROM {vectors} ORDER BY random() LIMIT %(size)s;

-- name: strays
-- Nobody's points: neither in the table nor with a tombstone. Asked after the store has named them, so
-- one whose write is under way has its tombstone.
SELECT id FROM unnest(%(points)s::uuid[]) AS n (id)
 WHERE NOT EXISTS (SELECT FROM {vectors} v WHERE v.point_id = n.id)
   AND NOT EXISTS (SELECT FROM revec.tombstone t WHERE t.index_id = %(index)s AND t.point_id = n.id);

-- name: bytes
SELECT coalesce(pg_total_relation_size(to_regclass(%(vectors)s)), 0) AS bytes;
