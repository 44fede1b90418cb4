-- name: standing
-- Where documents stand in the index that serves their tenant at this moment: nothing left to do, there and
-- in a canary, is what a writer who wants to read what it wrote waits for. What is deleted is shown to nobody
-- from the commit on.
SELECT n.id AS doc_id, d.key, l.cause AS dead, x.reason AS excluded, d.id IS NULL AS gone, r.serving,
       EXISTS (SELECT FROM revec.work w
                WHERE w.index_id IN (coalesce(o.index_id, r.serving), r.canary) AND w.doc_id = n.id) AS open
  FROM unnest(%(ids)s::bigint[]) AS n (id)
       CROSS JOIN revec.route r
       LEFT JOIN revec.document d ON d.id = n.id
       LEFT JOIN revec.override o
              ON o.collection_id = r.collection_id AND o.tenant = d.tenant AND o.epoch = r.epoch
       LEFT JOIN revec.dead l
              ON l.index_id = coalesce(o.index_id, r.serving) AND l.doc_id = n.id AND l.input_hash = d.input_hash
       LEFT JOIN revec.excluded x
              ON x.index_id = coalesce(o.index_id, r.serving) AND x.doc_id = n.id AND x.input_hash = d.input_hash
 WHERE r.collection_id = %(collection)s;
