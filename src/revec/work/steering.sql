-- name: cancel
-- Work that nobody has in hand, of documents that are still what it was made for: they are left out with that
-- content, and counted. A newer revision has newer work: it stays, and so does work of more urgent lanes.
WITH taken AS MATERIALIZED (
    SELECT w.index_id, w.doc_id, d.input_hash
      FROM revec.work w JOIN revec.document d ON d.id = w.doc_id AND d.rev = w.rev
     WHERE w.index_id = ANY (%(indexes)s::int[]) AND w.action = 'embed'
       AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.lane >= %(lane)s
       AND (%(keys)s::text[] IS NULL OR d.key = ANY (%(keys)s))
     ORDER BY w.index_id, w.doc_id FOR UPDATE OF w SKIP LOCKED
), gone AS (
    DELETE FROM revec.work w USING taken t WHERE w.index_id = t.index_id AND w.doc_id = t.doc_id
)
INSERT INTO revec.excluded AS x (index_id, doc_id, input_hash, reason)
SELECT index_id, doc_id, input_hash, 'cancelled: ' || %(reason)s FROM taken ORDER BY index_id, doc_id
ON CONFLICT (index_id, doc_id) DO UPDATE
   SET input_hash = excluded.input_hash, reason = excluded.reason, at = now();

-- name: readmit
-- What a person left out is to be embedded after all. The indexes' rows are locked, so that nobody retires one in
-- between.
WITH written AS MATERIALIZED (
    SELECT i.id FROM revec.index i WHERE i.id = ANY (%(indexes)s::int[]) AND i.writing ORDER BY i.id FOR SHARE
), again AS (
    DELETE FROM revec.excluded e USING written, revec.document d
     WHERE d.id = e.doc_id AND e.index_id = written.id
       AND (e.reason LIKE 'cancelled: %%' OR e.reason LIKE 'accepted: %%')
       AND (%(cause)s::text IS NULL OR strpos(e.reason, %(cause)s) > 0)
       AND (%(keys)s::text[] IS NULL OR d.key = ANY (%(keys)s))
 RETURNING e.index_id, d.id, d.rev, d.tenant
)
INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
SELECT index_id, id, rev, 'embed', 0, tenant FROM again ORDER BY index_id, id ON CONFLICT DO NOTHING;

-- name: rescue
-- Leases of workers whose hearts have stopped, or of the one that leaves, by the first half of their tokens. Each
-- worker's row is locked first: a heartbeat that comes meanwhile is seen, or comes too late, and then its worker's
-- fence holds it off.
WITH silent AS MATERIALIZED (
    SELECT k.id FROM revec.worker k
     WHERE CASE WHEN %(leaves)s::uuid IS NULL
                THEN k.beat_at < now() - make_interval(secs => %(silence)s::float8)
                ELSE k.id = %(leaves)s::uuid END
     ORDER BY k.id FOR UPDATE
), held AS MATERIALIZED (
    SELECT w.index_id, w.doc_id
      FROM silent k JOIN revec.work w ON left(w.token::text, 18) = left(k.id::text, 18)
     WHERE w.index_id = ANY (%(indexes)s::int[]) AND w.lease_until > now()
     ORDER BY w.index_id, w.doc_id FOR UPDATE OF w SKIP LOCKED
), unpaid AS (
    UPDATE revec.paid p SET lease_until = now() FROM silent k
     WHERE left(p.token::text, 18) = left(k.id::text, 18) AND p.vector IS NULL AND p.lease_until > now()
)
UPDATE revec.work w
   SET lease_until = NULL, token = NULL,
       attempts = w.attempts - CASE WHEN %(leaves)s::uuid IS NULL THEN 0 ELSE 1 END  -- who leaves did not fail
  FROM held h
 WHERE w.index_id = h.index_id AND w.doc_id = h.doc_id;
