-- name: not_whole
-- Of the next documents up to the horizon those that an index does not have whole and current, and why.
WITH docs AS MATERIALIZED (
    SELECT id, tenant, input_hash FROM revec.document
     WHERE id > %(after)s AND id <= %(upto)s AND collection_id = %(collection)s AND rev <= %(horizon)s
)
SELECT d.id AS doc_id,
       CASE WHEN EXISTS (SELECT FROM revec.work w WHERE w.index_id = %(index)s AND w.doc_id = d.id) THEN 'pending'
            WHEN EXISTS (SELECT FROM revec.excluded e WHERE e.index_id = %(index)s AND e.doc_id = d.id
                                                       AND e.input_hash = d.input_hash) THEN 'excluded'
            WHEN EXISTS (SELECT FROM revec.dead x WHERE x.index_id = %(index)s AND x.doc_id = d.id
                                                   AND x.input_hash = d.input_hash) THEN 'dead'
            WHEN h.whole IS NULL THEN 'missing'
            WHEN NOT h.whole THEN 'stale'
            ELSE 'foreign' END AS cause
  FROM docs d LEFT JOIN LATERAL (
           SELECT bool_and(v.input_hash = d.input_hash) AND count(*) = max(v.chunk_count) AS whole,
                  bool_or(v.tenant <> d.tenant) AS abroad
             FROM {vectors} v WHERE v.doc_id = d.id HAVING count(*) > 0) AS h ON true
 WHERE (h.whole AND NOT h.abroad) IS NOT TRUE;

-- name: orphans
-- Vectors of documents that are gone, and no work that removes them.
SELECT DISTINCT v.doc_id, v.tenant FROM {vectors} v
 WHERE v.doc_id > %(after)s AND v.doc_id <= %(upto)s
   AND NOT EXISTS (SELECT FROM revec.document d WHERE d.id = v.doc_id AND d.collection_id = %(collection)s)
   AND NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = %(index)s AND w.doc_id = v.doc_id);

-- name: remove
-- Work that removes orphans.
INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
SELECT i.id, n.doc_id, nextval('revec.rev'), 'delete', 0, n.tenant
  FROM revec.index i CROSS JOIN unnest(%(ids)s::bigint[], %(tenants)s::text[]) AS n (doc_id, tenant)
 WHERE i.id = %(index)s AND i.writing AND i.writer = 'revec'
ON CONFLICT DO NOTHING;

-- name: chunk
-- The last of the next documents; NULL when there are none.
SELECT max(id) AS upto, count(*) AS documents
  FROM (SELECT id FROM revec.document WHERE id > %(after)s ORDER BY id LIMIT %(size)s) AS chunk;
