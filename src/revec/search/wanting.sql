-- name: lacking
-- Of what was shown the documents that the index has no vector of as they are now, nor a reason to have none,
-- and that nobody waits for yet; in the order in which they were shown.
SELECT d.id AS doc_id, d.tenant
  FROM revec.index i
       CROSS JOIN unnest(%(sources)s::text[], %(keys)s::text[]) WITH ORDINALITY AS n (source, key, place)
       JOIN revec.source s ON s.collection_id = i.collection_id AND s.name = n.source
       JOIN revec.document d ON d.source_id = s.id AND d.key = n.key
 WHERE i.id = %(index)s AND i.writing
   AND NOT EXISTS (SELECT FROM {vectors} v
                    WHERE v.doc_id = d.id AND v.chunk_no = 0 AND v.input_hash = d.input_hash)
   AND NOT EXISTS (SELECT FROM revec.excluded e
                    WHERE e.index_id = i.id AND e.doc_id = d.id AND e.input_hash = d.input_hash)
   AND NOT EXISTS (SELECT FROM revec.dead x
                    WHERE x.index_id = i.id AND x.doc_id = d.id AND x.input_hash = d.input_hash)
   AND NOT EXISTS (SELECT FROM revec.work w
                    WHERE w.index_id = i.id AND w.doc_id = d.id AND w.lane <= %(lane)s)
 ORDER BY n.place;
