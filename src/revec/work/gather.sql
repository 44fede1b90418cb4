-- name: waiting
-- What may go into the next batch, the tenants of the highest priority first.
SELECT w.doc_id, w.rev, w.action, w.tenant, w.attempts
  FROM revec.work w JOIN revec.index i ON i.id = w.index_id
 WHERE w.index_id = %(index)s AND w.not_before = 'infinity'
   AND NOT EXISTS (SELECT FROM revec.batch_member b
                    WHERE b.index_id = w.index_id AND b.doc_id = w.doc_id)
   AND NOT EXISTS (SELECT FROM revec.tenant t
                    WHERE t.collection_id = i.collection_id AND t.tenant = w.tenant
                      AND t.paused_why IS NOT NULL)
 ORDER BY w.rank, w.tenant, w.doc_id LIMIT %(full)s;

-- name: in_flight
-- Texts of the space that another batch is about to answer.
SELECT DISTINCT m.text_hash
  FROM revec.batch b JOIN revec.index i ON i.id = b.index_id AND i.space_id = %(space)s
       JOIN revec.batch_member m ON m.batch_id = b.id AND m.text_hash = ANY (%(hashes)b::bytea[])
 WHERE b.state IN ('intended', 'submitting', 'submitted');

-- name: kept
-- Texts that somebody paid for and that are not written yet.
SELECT text_hash FROM revec.paid
 WHERE space_id = %(space)s AND text_hash = ANY (%(hashes)b::bytea[]) AND vector IS NOT NULL;

-- name: spare
-- Work that needs no batch is due: whoever claims it writes, or buries, or removes.
WITH ours AS MATERIALIZED (
    SELECT w.doc_id FROM revec.work w
      JOIN unnest(%(ids)b::bigint[], %(revs)b::bigint[]) AS n (doc_id, rev) USING (doc_id, rev)
     WHERE w.index_id = %(index)s AND w.not_before = 'infinity'
     ORDER BY w.doc_id FOR UPDATE OF w SKIP LOCKED
)
UPDATE revec.work w SET not_before = '-infinity'
  FROM ours WHERE w.index_id = %(index)s AND w.doc_id = ours.doc_id;

-- name: hold
-- Of the documents that are to be in a batch those that still wait, locked until it is written down.
SELECT w.doc_id FROM revec.work w
  JOIN unnest(%(ids)b::bigint[], %(revs)b::bigint[]) AS n (doc_id, rev) USING (doc_id, rev)
 WHERE w.index_id = %(index)s AND w.not_before = 'infinity'
 ORDER BY w.doc_id FOR UPDATE OF w SKIP LOCKED;

-- name: intend
INSERT INTO revec.batch (mark, index_id, migration_id, call, model, documents, inputs, tokens, dollars)
VALUES (%(mark)s, %(index)s, %(migration)s, %(call)s, %(model)s, %(documents)s, %(inputs)s, %(tokens)s,
        %(tokens)s * %(price)s::numeric / 1e6)
RETURNING *;

-- name: enlist
-- A document that is in another batch already makes this fail as a whole: nothing was sent.
INSERT INTO revec.batch_member (index_id, doc_id, text_hash, batch_id, rev, input_hash)
SELECT %(index)s, n.doc_id, n.text_hash, %(batch)s, n.rev, n.input_hash
  FROM unnest(%(ids)b::bigint[], %(revs)b::bigint[], %(inputs)b::bytea[], %(hashes)b::bytea[])
       AS n (doc_id, rev, input_hash, text_hash);
