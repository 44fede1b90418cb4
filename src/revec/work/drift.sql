-- name: end_of_page
-- The last of the next %(size)s documents; NULL when there are none.
SELECT max(id) AS upto, count(*) AS documents
  FROM (SELECT id FROM revec.document WHERE id > %(after)s ORDER BY id LIMIT %(size)s) AS page;

-- name: page
-- Documents beside their vectors. One statement, one snapshot: a document and its work come from one transaction,
-- vectors and the end of their work from another, so what is neither whole nor open nor excused is drift.
WITH docs AS MATERIALIZED (
    SELECT id, key, tenant, input_hash, rev FROM revec.document
     WHERE id > %(after)s AND id <= %(upto)s AND collection_id = %(collection)s
), held AS (
    SELECT d.id, d.key, d.input_hash, d.rev, h.*
      FROM docs d
           -- LATERAL: by the vectors' own key, also while the planner has no statistics.
           LEFT JOIN LATERAL (
               SELECT bool_and(v.input_hash = d.input_hash) AND count(*) = max(v.chunk_count)
                      AND count(*) = count(DISTINCT v.chunk_no) AS whole,
                      bool_or(v.tenant <> d.tenant) AS abroad, {looks} FROM {vectors} v
                WHERE v.doc_id = d.id HAVING count(*) > 0) AS h ON true
     WHERE NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = %(index)s AND w.doc_id = d.id)
)
SELECT h.id AS doc_id, h.key, h.rev, h.digest,
       CASE WHEN NOT coalesce(h.whole, false) THEN
                CASE WHEN e.doc_id IS NOT NULL OR x.doc_id IS NOT NULL THEN 'excused'
                     WHEN h.whole IS NULL THEN 'missing' ELSE 'stale' END
            WHEN h.abroad THEN 'abroad'
            WHEN h.malformed THEN 'malformed'
            WHEN s.rev = h.rev AND s.digest <> h.digest THEN 'edited' END AS cause
  FROM held h
       LEFT JOIN revec.seal s ON s.index_id = %(index)s AND s.doc_id = h.id
       LEFT JOIN revec.excluded e ON e.index_id = %(index)s AND e.doc_id = h.id AND e.input_hash = h.input_hash
       LEFT JOIN revec.dead x ON x.index_id = %(index)s AND x.doc_id = h.id AND x.input_hash = h.input_hash
 ORDER BY h.id;

-- name: looks_here
-- What only a look at the vectors tells; the digest is of all chunks in their order.
bool_or(l2_norm(v.embedding) = 0 OR (%(unit)s AND abs(l2_norm(v.embedding) - 1) > 0.01)) AS malformed,
substring(sha256(string_agg(halfvec_send(v.embedding), ''::bytea ORDER BY v.chunk_no)) FOR 8) AS digest

-- name: looks_elsewhere
-- The vectors are not here.
false AS malformed, NULL::bytea AS digest

-- name: orphans
-- Vectors of documents that are gone, which no work will remove.
SELECT v.doc_id, min(v.tenant) AS tenant FROM {vectors} v
 WHERE v.doc_id > %(after)s AND v.doc_id <= %(upto)s
   AND NOT EXISTS (SELECT FROM revec.document d WHERE d.id = v.doc_id AND d.collection_id = %(collection)s)
   AND NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = %(index)s AND w.doc_id = v.doc_id)
 GROUP BY v.doc_id ORDER BY v.doc_id;

-- name: disown
-- These vectors are of no text any more, with all copies of them: nobody copies them, and they answer until what
-- is embedded again takes their place behind the fence.
WITH wrong AS MATERIALIZED (
    SELECT DISTINCT text_hash, embedding FROM {vectors} WHERE doc_id = ANY (%(ids)s::bigint[])
), marked AS (
    UPDATE {vectors} v SET text_hash = ''
      FROM wrong w WHERE v.text_hash = w.text_hash AND v.embedding = w.embedding
 RETURNING v.doc_id
), unpaid AS (
    DELETE FROM revec.paid p USING wrong w WHERE p.space_id = %(space)s AND p.text_hash = w.text_hash
)
SELECT DISTINCT doc_id FROM marked ORDER BY doc_id;

-- name: remove
-- As the trigger on documents would have told it. The index's row is locked, so that nobody retires it in between.
WITH written AS MATERIALIZED (SELECT i.id FROM revec.index i WHERE i.id = %(index)s AND i.writing FOR SHARE)
INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
SELECT written.id, n.id, nextval('revec.rev'), 'delete', 0, n.tenant
  FROM written CROSS JOIN unnest(%(ids)s::bigint[], %(tenants)s::text[]) AS n (id, tenant)
ON CONFLICT DO NOTHING;

-- name: seal
INSERT INTO revec.seal AS s (index_id, doc_id, rev, digest)
SELECT %(index)s, * FROM unnest(%(ids)s::bigint[], %(revs)s::bigint[], %(digests)s::bytea[])
ON CONFLICT (index_id, doc_id) DO UPDATE SET rev = excluded.rev, digest = excluded.digest
 WHERE (s.rev, s.digest) IS DISTINCT FROM (excluded.rev, excluded.digest);

-- name: unseal
-- Of what is gone.
DELETE FROM revec.seal s
 WHERE s.index_id = %(index)s AND s.doc_id > %(after)s AND s.doc_id <= %(upto)s
   AND NOT EXISTS (SELECT FROM revec.document d WHERE d.id = s.doc_id);
