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
-- Read once per request: which index answers this tenant and this sticky key (what is set for the tenant at
-- this very epoch, else the canary for its share of the keys, else what serves), how it wants to be asked,
-- which one is being filled (not by batches: what is with the provider already would be paid for twice, for
-- nobody who waits), and whether that one may answer before it: not while a person or a guard holds its
-- migration, nor after a rollback, nor while its model rests. And which index shadows the answers: of the two of
-- a cutover the other one, unless it is written no more, or a person or a guard paused the migration.
-- OFFSET 0: the planner takes the two by themselves, or it would weigh the orders of twelve tables each time.
SELECT c.id AS collection_id, r.epoch, r.serving, r.previous, r.canary, r.share, i.id, s.recipe, i.query, i.kind,
       i.writing, i.held, i.fault, i.store, i.place, i.writer, to_jsonb(a) AS adopted,
       CASE WHEN p.resting_until > now() THEN coalesce(p.why, p.trouble, 'it failed') END AS resting,
       (SELECT m.new_index FROM revec.migration m
         WHERE m.collection_id = c.id AND m.state = 'backfilling' AND m.paused_why IS NULL
           AND NOT m.patient) AS filling,
       early.migration_id AS early_migration, early.version AS early_version,
       shadow.candidate, shadow.rate AS shadow_rate, shadow.salt
  FROM revec.collection c
       JOIN revec.route r ON r.collection_id = c.id
       LEFT JOIN revec.override o
              ON o.collection_id = c.id AND o.tenant = %(tenant)s::text AND o.epoch = r.epoch
       LEFT JOIN revec.index i ON i.id = CASE
           WHEN o.index_id IS NOT NULL THEN o.index_id
           WHEN r.share > 0 AND revec.place(r.canary, %(sticky)s::text) < r.share THEN r.canary
           ELSE r.serving END
       LEFT JOIN revec.space s ON s.id = i.space_id
       LEFT JOIN revec.adopted a ON a.index_id = i.id
       LEFT JOIN revec.provider p ON p.model = i.query->>'address'
       LEFT JOIN LATERAL (
           SELECT b.migration_id, b.version
             FROM revec.migration m JOIN revec.bridge b ON b.migration_id = m.id AND b.holds
                  JOIN revec.index n ON n.id = m.new_index AND n.writing AND n.fault IS NULL
                  LEFT JOIN revec.provider q ON q.model = n.query->>'address'
            WHERE m.collection_id = c.id AND m.serve_early AND m.state = ANY (%(early)s)
              AND m.old_index = r.serving AND m.new_index IS DISTINCT FROM r.previous
              AND m.paused_why IS NULL AND m.hold IS NULL
              AND (q.resting_until > now()) IS NOT TRUE OFFSET 0) AS early ON true
       LEFT JOIN LATERAL (
           SELECT x.id AS candidate, h.salt,
                  CASE WHEN h.index_id = r.serving THEN least(h.rate, %(reverse)s::float8) ELSE h.rate END AS rate
             FROM revec.shadow h
                  JOIN revec.index x ON x.id = CASE WHEN h.index_id = r.serving THEN r.previous ELSE h.index_id END
            WHERE h.collection_id = c.id AND h.rate > 0 AND x.writing AND x.fault IS NULL
              AND NOT EXISTS (SELECT FROM revec.migration m
                               WHERE m.collection_id = c.id AND m.paused_why IS NOT NULL
                                 AND m.state = ANY (%(abortable)s)) OFFSET 0) AS shadow ON true
 WHERE c.name = %(collection)s;

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
