-- name: end_of_chunk
-- The last of the next %(size)s documents; NULL when there are none.
SELECT max(id) AS upto, count(*) AS documents
  FROM (SELECT id FROM revec.document WHERE id > %(after)s ORDER BY id LIMIT %(size)s) AS chunk;

-- name: completeness
-- Every document up to the horizon has its whole, current chunk set, or a reason why not.
WITH docs AS MATERIALIZED (
    SELECT id, tenant, input_hash FROM revec.document
     WHERE id > %(after)s AND id <= %(upto)s AND collection_id = %(collection)s AND rev <= %(horizon)s
), judged AS (
    SELECT coalesce(h.whole, false) AS whole, h.id IS NOT NULL AS held,
           coalesce(h.abroad, false) AS abroad,
           e.doc_id IS NOT NULL AS excluded, coalesce(e.reason LIKE 'cancelled: %%', false) AS cancelled, x.doc_id IS NOT NULL AS dead,
           w.doc_id IS NOT NULL AS open,
           -- The backfill's own work is no excuse: only what was written just now is.
           coalesce(w.lane = 0 AND w.since > now() - make_interval(secs => %(freshness)s), false) AS young
      FROM docs d
           -- LATERAL: by the vectors' own key, also while the planner has no statistics.
           LEFT JOIN LATERAL (
               SELECT d.id, bool_and(v.input_hash = d.input_hash) AND count(*) = max(v.chunk_count) AS whole,
                      bool_or(v.tenant <> d.tenant) AS abroad
                 FROM {vectors} v WHERE v.doc_id = d.id HAVING count(*) > 0) AS h ON true
           LEFT JOIN revec.excluded e
                  ON e.index_id = %(index)s AND e.doc_id = d.id AND e.input_hash = d.input_hash
           LEFT JOIN revec.dead x
                  ON x.index_id = %(index)s AND x.doc_id = d.id AND x.input_hash = d.input_hash
           LEFT JOIN revec.work w ON w.index_id = %(index)s AND w.doc_id = d.id
)
SELECT count(*) AS documents,
       count(*) FILTER (WHERE NOT whole AND NOT held AND NOT open AND NOT excluded AND NOT dead) AS missing,
       count(*) FILTER (WHERE NOT whole AND held AND NOT open AND NOT excluded AND NOT dead) AS stale,
       count(*) FILTER (WHERE whole AND abroad AND NOT open) AS foreign,
       count(*) FILTER (WHERE NOT whole AND excluded AND NOT open) AS excluded,
       count(*) FILTER (WHERE NOT whole AND cancelled AND NOT open) AS cancelled,
       count(*) FILTER (WHERE NOT whole AND dead AND NOT excluded AND NOT open) AS dead,
       count(*) FILTER (WHERE NOT whole AND open AND young) AS pending,
       count(*) FILTER (WHERE NOT whole AND open AND NOT young) AS late
  FROM judged;

-- name: orphans
-- Vectors of documents that are gone, and no work that will remove them; of another collection too.
SELECT count(DISTINCT v.doc_id) AS orphan
  FROM {vectors} v
       LEFT JOIN revec.document d ON d.id = v.doc_id AND d.collection_id = %(collection)s
 WHERE v.doc_id > %(after)s AND v.doc_id <= %(upto)s AND d.id IS NULL
   AND NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = %(index)s AND w.doc_id = v.doc_id);

-- name: malformed
-- Vectors that cannot be right whatever their text: zero, or not of unit length where promised.
SELECT count(*) AS malformed FROM {vectors}
 WHERE doc_id > %(after)s AND doc_id <= %(upto)s
   AND (l2_norm(embedding) = 0 OR (%(unit)s AND abs(l2_norm(embedding) - 1) > 0.01));
