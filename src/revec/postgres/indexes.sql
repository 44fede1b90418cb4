-- name: put_space
INSERT INTO revec.space (id, recipe) VALUES (%(id)s, %(recipe)s) ON CONFLICT DO NOTHING;

-- name: barrier
-- The exclusive side: waits for the document writers in flight and queues the next ones.
SELECT pg_advisory_xact_lock(hashtextextended('revec.document', 0));

-- name: register
INSERT INTO revec.index (collection_id, space_id, query, kind, store, place, writer)
VALUES (%(collection)s, %(space)s, %(query)s, %(kind)s, %(store)s, %(place)s, %(writer)s) RETURNING id;

-- name: by_id
SELECT i.id, i.collection_id, s.recipe, i.query, i.kind, i.writing, i.held, i.fault, i.store, i.place,
       i.writer, to_jsonb(a) AS adopted
  FROM revec.index i JOIN revec.space s ON s.id = i.space_id LEFT JOIN revec.adopted a ON a.index_id = i.id WHERE i.id = %(index)s;

-- name: writing
-- All that is kept current.
SELECT i.id, i.collection_id, s.recipe, i.query, i.kind, i.writing, i.held, i.fault, i.store, i.place,
       i.writer, to_jsonb(a) AS adopted
  FROM revec.index i JOIN revec.space s ON s.id = i.space_id LEFT JOIN revec.adopted a ON a.index_id = i.id
 WHERE i.writing AND (%(collection)s::int IS NULL OR i.collection_id = %(collection)s)
 ORDER BY i.id;

-- name: of_space
-- Every index here that may hold a vector of this space already.
SELECT i.id, i.collection_id, s.recipe, i.query, i.kind, i.writing, i.held, i.fault, i.store, i.place,
       i.writer, to_jsonb(a) AS adopted
  FROM revec.index i JOIN revec.space s ON s.id = i.space_id LEFT JOIN revec.adopted a ON a.index_id = i.id
 WHERE i.space_id = %(space)s AND i.dropped_at IS NULL AND i.store = 'pg' ORDER BY i.id;

-- name: elsewhere
-- The indexes whose points lie in other stores: of one space, or all that are kept current.
SELECT i.id, i.collection_id, s.recipe, i.query, i.kind, i.writing, i.held, i.fault, i.store, i.place,
       i.writer, to_jsonb(a) AS adopted
  FROM revec.index i JOIN revec.space s ON s.id = i.space_id LEFT JOIN revec.adopted a ON a.index_id = i.id
 WHERE i.store <> 'pg' AND i.dropped_at IS NULL AND (%(space)s::text IS NULL OR i.space_id = %(space)s)
 ORDER BY i.id;

-- name: route
-- Read once per request.
SELECT * FROM revec.routed(%(collection)s, %(tenant)s, %(sticky)s, %(reverse)s, %(early)s, %(abortable)s);

-- name: flip
-- Cutover, rollback and canary: only if nobody moved the route since the caller looked.
UPDATE revec.route
   SET serving = %(serving)s, previous = %(previous)s, canary = %(canary)s, share = %(share)s,
       epoch = epoch + 1, changed_at = now()
 WHERE collection_id = %(collection)s AND epoch = %(seen)s
RETURNING epoch;

-- name: route_of
SELECT collection_id, epoch, serving, previous, canary, share FROM revec.route WHERE collection_id = %(collection)s;

-- name: hold
UPDATE revec.index SET held = %(held)s WHERE id = %(index)s AND held <> %(held)s;

-- name: mend
UPDATE revec.index SET fault = NULL WHERE id = %(index)s;

-- name: fault
-- The model is not trusted: nothing of its space is written until a person has looked.
UPDATE revec.index SET fault = %(why)s WHERE space_id = %(space)s AND writing AND fault IS NULL;

-- name: fault_alone
UPDATE revec.index SET fault = %(why)s WHERE id = %(index)s AND writing AND fault IS NULL;

-- name: retire
UPDATE revec.index SET writing = false, held = false, dropped_at = now() WHERE id = %(index)s;

-- name: forget
-- What belongs to indexes that are gone.
WITH gone AS (SELECT id FROM revec.index WHERE id = %(index)s AND NOT writing),
     w AS (DELETE FROM revec.work WHERE index_id IN (SELECT id FROM gone)),
     e AS (DELETE FROM revec.excluded WHERE index_id IN (SELECT id FROM gone)),
     s AS (DELETE FROM revec.demand WHERE index_id IN (SELECT id FROM gone)),
     t AS (DELETE FROM revec.tombstone WHERE index_id IN (SELECT id FROM gone)),
     p AS (DELETE FROM revec.sweep WHERE index_id IN (SELECT id FROM gone)),
     l AS (DELETE FROM revec.seal WHERE index_id IN (SELECT id FROM gone)),
     d AS (DELETE FROM revec.dead WHERE index_id IN (SELECT id FROM gone) RETURNING *)
INSERT INTO revec.dead_settled (index_id, doc_id, tenant, cause, attempts, first_at, last_at, resolution)
SELECT index_id, doc_id, tenant, cause, attempts, first_at, last_at, 'abandoned' FROM d;

-- name: sentinels
SELECT number, vector FROM revec.sentinel WHERE space_id = %(space)s ORDER BY number;

-- name: put_sentinels
INSERT INTO revec.sentinel (space_id, number, vector)
SELECT %(space)s, number, vector
  FROM unnest(%(vectors)b::halfvec[]) WITH ORDINALITY AS n (vector, number)
ON CONFLICT DO NOTHING;
