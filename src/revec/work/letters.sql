-- name: listed
-- Those that wait for a person: a page in the order of the index by pattern.
SELECT d.doc_id, doc.key, s.name AS source, d.index_id, d.tenant, d.cause, d.pattern, d.attempts, d.first_at, d.last_at
  FROM (SELECT * FROM revec.dead
         WHERE index_id = ANY (%(indexes)s::int[]) AND retried_at IS NULL
           AND (%(like)s::text IS NULL OR pattern = %(like)s)
           AND (index_id, pattern, doc_id) > (%(after_index)s, %(after_pattern)s, %(after_doc)s::bigint)
         ORDER BY index_id, pattern, doc_id LIMIT %(limit)s) AS d
       LEFT JOIN revec.document doc ON doc.id = d.doc_id LEFT JOIN revec.source s ON s.id = doc.source_id
 ORDER BY d.index_id, d.pattern, d.doc_id;

-- name: settled
-- How the last ones ended.
SELECT d.doc_id, doc.key, s.name AS source, d.index_id, d.tenant, d.cause, d.attempts, d.first_at, d.last_at,
       d.resolution, d.reason, d.at
  FROM (SELECT * FROM revec.dead_settled
         WHERE index_id = ANY (%(indexes)s::int[]) ORDER BY at DESC, doc_id LIMIT %(limit)s) AS d
       LEFT JOIN revec.document doc ON doc.id = d.doc_id LEFT JOIN revec.source s ON s.id = doc.source_id
 ORDER BY d.at DESC, d.doc_id;

-- name: causes
-- Causes differ in ids and numbers: counted is by pattern, which was computed when the letter was written.
SELECT g.index_id, g.pattern, g.letters, g.first_at, g.last_at, doc.key, s.name AS source,
       one.cause AS sample
  FROM (SELECT d.index_id, d.pattern, count(*)::int AS letters, min(d.first_at) AS first_at,
               max(d.last_at) AS last_at, min(d.doc_id) AS doc_id
          FROM unnest(%(indexes)s::int[]) AS i (id) CROSS JOIN LATERAL (
               SELECT index_id, pattern, doc_id, first_at, last_at FROM revec.dead
                WHERE index_id = i.id AND retried_at IS NULL
                ORDER BY pattern, doc_id LIMIT %(bound)s) AS d
         GROUP BY d.index_id, d.pattern ORDER BY count(*) DESC, d.index_id, d.pattern LIMIT %(limit)s) AS g
       JOIN revec.dead one ON one.index_id = g.index_id AND one.doc_id = g.doc_id
       LEFT JOIN revec.document doc ON doc.id = g.doc_id LEFT JOIN revec.source s ON s.id = doc.source_id
 ORDER BY g.letters DESC, g.index_id, g.pattern;

-- name: begin
INSERT INTO revec.deed (collection_id, who, what, which, reason)
VALUES (%(collection)s, %(who)s, %(what)s, %(which)s, %(reason)s) RETURNING id;

-- name: count
UPDATE revec.deed SET letters = %(letters)s WHERE id = %(deed)s;

-- name: retry
-- Dead letters whose document still exists get another try; all, or those of a cause, a pattern or keys. The
-- letter and its work have the same moment and revision: so it is seen later whether anything touched them.
-- The indexes' rows are locked, so that nobody retires one in between; then all work is made before the first
-- letter is locked (`count`), as who buries takes the work first, and waits for the letter. Work that there was
-- is locked with it, or its worker could bury it anew between the two. What was made for a letter that somebody
-- discarded or a worker settled meanwhile comes back: it must be unmade.
WITH written AS MATERIALIZED (
    SELECT i.id FROM revec.index i WHERE i.id = ANY (%(indexes)s::int[]) AND i.writing ORDER BY i.id FOR SHARE
), chosen AS MATERIALIZED (
    SELECT d.index_id, d.doc_id, doc.rev, doc.tenant
      FROM written JOIN revec.dead d ON d.index_id = written.id JOIN revec.document doc ON doc.id = d.doc_id
     WHERE d.retried_at IS NULL
       AND (%(like)s::text IS NULL OR d.pattern = %(like)s)
       AND (%(cause)s::text IS NULL OR strpos(d.cause, %(cause)s) > 0)
       AND (%(keys)s::text[] IS NULL OR doc.key = ANY (%(keys)s))
       AND (%(source)s::text IS NULL
            OR doc.source_id IN (SELECT id FROM revec.source WHERE name = %(source)s))
), made AS (
    INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
    SELECT index_id, doc_id, rev, 'embed', 0, tenant FROM chosen
     ORDER BY index_id, doc_id  -- as writers of documents make theirs
    ON CONFLICT (index_id, doc_id) DO UPDATE SET lane = excluded.lane
 RETURNING index_id, doc_id, since
), ours AS MATERIALIZED (
    SELECT d.index_id, d.doc_id, c.rev
      FROM chosen c JOIN revec.dead d ON d.index_id = c.index_id AND d.doc_id = c.doc_id
     WHERE d.retried_at IS NULL AND (SELECT count(*) FROM made) >= 0
     ORDER BY d.index_id, d.doc_id FOR UPDATE OF d
), retried AS (
    UPDATE revec.dead d SET retried_at = now(), deed = %(deed)s, rev = o.rev
      FROM ours o WHERE d.index_id = o.index_id AND d.doc_id = o.doc_id
 RETURNING d.index_id, d.doc_id
), needless AS MATERIALIZED (
    SELECT index_id, doc_id FROM made
     WHERE since = now()
       AND NOT EXISTS (SELECT FROM retried r WHERE r.index_id = made.index_id AND r.doc_id = made.doc_id)
)
SELECT count(*) AS letters, ARRAY(SELECT index_id FROM needless) AS indexes, ARRAY(SELECT doc_id FROM needless) AS docs
  FROM retried;

-- name: unmake
-- Nobody has seen it yet.
DELETE FROM revec.work w USING unnest(%(indexes)s::int[], %(docs)s::bigint[]) AS m (index_id, doc_id)
 WHERE w.index_id = m.index_id AND w.doc_id = m.doc_id;

-- name: discard
-- A person decides that these documents may stay out; valid for their present content.
WITH discarded AS (
    DELETE FROM revec.dead d
     WHERE d.index_id = ANY (%(indexes)s::int[]) AND d.retried_at IS NULL
       AND (%(like)s::text IS NULL OR d.pattern = %(like)s)
       AND (%(cause)s::text IS NULL OR strpos(d.cause, %(cause)s) > 0)
       AND (%(keys)s::text[] IS NULL OR EXISTS (
           SELECT FROM revec.document doc WHERE doc.id = d.doc_id AND doc.key = ANY (%(keys)s)))
       AND (%(source)s::text IS NULL OR EXISTS (
           SELECT FROM revec.document doc JOIN revec.source s ON s.id = doc.source_id
            WHERE doc.id = d.doc_id AND s.name = %(source)s))
 RETURNING *
), settled AS (
    INSERT INTO revec.dead_settled (index_id, doc_id, tenant, cause, attempts, first_at, last_at,
                                    resolution, reason, deed, input_hash, rev)
    SELECT index_id, doc_id, tenant, cause, attempts, first_at, last_at, 'manual', %(reason)s, %(deed)s,
           input_hash, rev
      FROM discarded
)
INSERT INTO revec.excluded AS x (index_id, doc_id, input_hash, reason)
SELECT index_id, doc_id, input_hash, 'accepted: ' || %(reason)s || ' (' || cause || ')' FROM discarded
ON CONFLICT (index_id, doc_id) DO UPDATE
   SET input_hash = excluded.input_hash, reason = excluded.reason, at = now();

-- name: lock
-- The one that is named, or the last one of who asks. Two who undo the same do it once.
SELECT id, what, undone_at, at < now() - make_interval(secs => %(within)s::float8) AS late
  FROM revec.deed
 WHERE collection_id = %(collection)s AND (id = %(deed)s OR %(deed)s::bigint IS NULL AND who = %(who)s)
 ORDER BY id DESC LIMIT 1 FOR UPDATE;

-- name: undo_retry
-- Work that is still what the deed made: of its moment, at its revision, never claimed. What a worker or a
-- writer has in hand is passed by.
WITH untouched AS MATERIALIZED (
    SELECT w.index_id, w.doc_id
      FROM revec.dead d JOIN revec.work w ON w.index_id = d.index_id AND w.doc_id = d.doc_id
                                         AND w.since = d.retried_at AND w.rev = d.rev
     WHERE d.deed = %(deed)s AND w.token IS NULL AND w.attempts = 0
     ORDER BY w.index_id, w.doc_id FOR UPDATE OF w SKIP LOCKED
), gone AS (
    DELETE FROM revec.work w USING untouched u WHERE w.index_id = u.index_id AND w.doc_id = u.doc_id
)
UPDATE revec.dead d SET retried_at = NULL, deed = NULL
  FROM untouched u WHERE d.index_id = u.index_id AND d.doc_id = u.doc_id;

-- name: undo_discard
-- Exclusions that are still what the deed made, of documents that are still what they were, and that nobody
-- wants embedded meanwhile. The documents are locked, as for a write: an edit comes before or after. Settled
-- letters have no key and are never changed: they are found by their place, or each would be compared with each.
-- The indexes' rows are locked, so that nobody retires one in between: of those nothing is brought back.
WITH written AS MATERIALIZED (
    SELECT i.id FROM revec.index i WHERE i.collection_id = %(collection)s AND i.writing ORDER BY i.id FOR SHARE
), untouched AS MATERIALIZED (
    SELECT s.ctid AS place, s.*
      FROM written JOIN revec.dead_settled s ON s.index_id = written.id
           JOIN revec.excluded e ON e.index_id = s.index_id AND e.doc_id = s.doc_id
                                AND e.input_hash = s.input_hash AND e.at = s.at
           JOIN revec.document d ON d.id = s.doc_id AND d.input_hash = s.input_hash
     WHERE s.deed = %(deed)s
       AND NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = s.index_id AND w.doc_id = s.doc_id)
     ORDER BY s.doc_id, s.index_id FOR SHARE OF d SKIP LOCKED FOR UPDATE OF e SKIP LOCKED
), wanted AS (
    DELETE FROM revec.excluded e USING untouched u WHERE e.index_id = u.index_id AND e.doc_id = u.doc_id
), unsettled AS (
    DELETE FROM revec.dead_settled WHERE ctid = ANY (ARRAY (SELECT place FROM untouched))
)
INSERT INTO revec.dead (index_id, doc_id, input_hash, rev, tenant, cause, attempts, first_at, last_at)
SELECT index_id, doc_id, input_hash, rev, tenant, cause, attempts, first_at, last_at FROM untouched
ON CONFLICT DO NOTHING;

-- name: undone
UPDATE revec.deed SET undone_at = now(), undone_by = %(who)s, returned = %(returned)s WHERE id = %(deed)s;

-- name: deeds
SELECT id, at, who, what, which, reason, letters, undone_at, undone_by, returned,
       CASE WHEN undone_at IS NULL THEN
           greatest(0, %(within)s::float8 - extract(epoch FROM now() - at))::float8 ELSE 0 END AS undo_seconds
  FROM revec.deed
 WHERE collection_id = %(collection)s AND (%(deed)s::bigint IS NULL OR id = %(deed)s)
 ORDER BY id DESC LIMIT %(limit)s;
