-- name: due
-- Of these documents those that belong into the index, and what keeps one out until a person has looked. What
-- is gone, another tenant's, or left out with its present content, is not among them.
SELECT d.id AS doc_id, d.tenant,
       CASE WHEN NOT i.writing THEN 'of an index that is given up'
            WHEN EXISTS (SELECT FROM revec.dead x
                          WHERE x.index_id = i.id AND x.doc_id = d.id AND x.input_hash = d.input_hash
                            AND x.retried_at IS NULL)
            THEN 'a dead letter'
            WHEN EXISTS (SELECT FROM revec.tenant t
                          WHERE t.collection_id = i.collection_id AND t.tenant = d.tenant
                            AND t.paused_why IS NOT NULL)
            THEN 'of a paused tenant' END AS obstacle
  FROM revec.index i JOIN revec.document d ON d.collection_id = i.collection_id
 WHERE i.id = %(index)s AND d.id = ANY (%(ids)b::bigint[])
   AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s)
   AND NOT EXISTS (SELECT FROM revec.excluded e
                    WHERE e.index_id = i.id AND e.doc_id = d.id AND e.input_hash = d.input_hash);
