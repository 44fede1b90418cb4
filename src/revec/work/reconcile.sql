-- name: known
-- Every collection is walked through one interval after it was first seen, and then again and again.
INSERT INTO revec.walk (collection_id, begun_by) SELECT id, 'workers' FROM revec.collection ON CONFLICT DO NOTHING;

-- name: next
-- A walk of the workers that is under way or due. Its row is locked until the page is done: one page at a time,
-- whichever worker does it.
SELECT collection_id, source, part, after, looked, found, examples, notes, began_at FROM revec.walk
 WHERE begun_by = 'workers'
   AND (part IS NOT NULL
        OR counted_from + make_interval(secs => greatest(0, %(every)s::float8 - took)) <= now())
 ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED;  -- one that waits for something holds up no other

-- name: own
-- The person's walk of a collection. Whoever asks again while it is under way goes on with it.
SELECT collection_id, source, part, after, looked, found, examples, notes, began_at FROM revec.walk
 WHERE collection_id = %(collection)s AND begun_by = 'person' AND part IS NOT NULL FOR UPDATE;

-- name: still
-- Whether the walk is where it was left; ours until the commit.
SELECT part, after FROM revec.walk WHERE collection_id = %(collection)s AND begun_by = %(by)s FOR UPDATE;

-- name: begin
INSERT INTO revec.walk AS w (collection_id, begun_by, source, part, began_at)
VALUES (%(collection)s, 'person', %(source)s, '{}', now())
ON CONFLICT (collection_id, begun_by) DO UPDATE
   SET source = excluded.source, part = '{}', after = NULL, looked = 0, found = '{}', examples = '[]',
       notes = '[]', began_at = now()
 WHERE w.part IS NULL OR w.source IS DISTINCT FROM excluded.source;

-- name: keep
UPDATE revec.walk
   SET part = %(part)s, after = %(after)s, looked = %(looked)s, found = %(found)s, examples = %(examples)s,
       notes = %(notes)s, began_at = %(began_at)s, counted_from = coalesce(%(began_at)s, counted_from)
 WHERE collection_id = %(collection)s AND begun_by = %(by)s;

-- name: end
-- Over: nothing is under way, and what it came to is its report.
UPDATE revec.walk
   SET part = NULL, after = NULL, looked = 0, found = '{}', examples = '[]', notes = '[]', took = %(seconds)s,
       counted_from = %(began_at)s, last = %(report)s
 WHERE collection_id = %(collection)s AND begun_by = %(by)s;

-- name: walks
SELECT w.begun_by, w.last, w.part IS NOT NULL AND w.part <> '{}' AS under_way, w.looked,
       extract(epoch FROM now() - w.counted_from)::float8 AS age, w.took
  FROM revec.walk w WHERE w.collection_id = %(collection)s;
