-- name: beat
-- Somebody watches; written once a second at most.
INSERT INTO revec.guard_beat AS b (migration_id) VALUES (%(id)s)
ON CONFLICT (migration_id) DO UPDATE SET at = now() WHERE b.at < now() - interval '1 second';

-- name: silent
-- Migrations whose new index users may see, and that nobody has watched for so long.
SELECT m.id, extract(epoch FROM now() - b.at)::float8 AS seconds
  FROM revec.migration m JOIN revec.guard_beat b ON b.migration_id = m.id
 WHERE m.state IN ('canary', 'live') AND m.old_index IS NOT NULL
   AND b.at < now() - make_interval(secs => %(seconds)s);

-- name: of_migration
SELECT name, watch, bar, fired_at IS NOT NULL AS fired, why, told_at IS NOT NULL AS told
  FROM revec.guard WHERE migration_id = %(id)s;

-- name: keep
-- What it knows now; what has fired stays so.
INSERT INTO revec.guard AS g (migration_id, name, watch, bar, fired_at, why)
VALUES (%(id)s, %(name)s, %(watch)s, %(bar)s, CASE WHEN %(why)s::text IS NOT NULL THEN now() END, %(why)s)
ON CONFLICT (migration_id, name) DO UPDATE
   SET watch = excluded.watch, bar = excluded.bar, fired_at = coalesce(g.fired_at, excluded.fired_at),
       why = coalesce(g.why, excluded.why);

-- name: told
UPDATE revec.guard SET told_at = now() WHERE migration_id = %(id)s AND name = %(name)s;

-- name: mended
-- An alarm that is over; what counts requests is latched.
DELETE FROM revec.guard WHERE migration_id = %(id)s AND name = %(name)s;

-- name: forget
-- A person has looked: everything is watched anew.
DELETE FROM revec.guard WHERE migration_id = %(id)s RETURNING name, why, fired_at IS NOT NULL AS fired;

-- name: waits
-- How long the oldest document waits for each index; those of paused tenants wait for a person.
SELECT w.index_id, extract(epoch FROM now() - min(w.since))::float8 AS seconds
  FROM revec.work w JOIN revec.index i ON i.id = w.index_id
 WHERE w.index_id = ANY (%(indexes)s::int[])
   AND NOT EXISTS (SELECT FROM revec.tenant p WHERE p.collection_id = i.collection_id
                      AND p.tenant = w.tenant AND p.paused_why IS NOT NULL)
 GROUP BY w.index_id;

-- name: calm
-- The 95th percentile of this collection's searches in quiet times, in milliseconds.
SELECT k.ms FROM revec.calm k JOIN revec.collection c ON c.name = k.name
 WHERE k.kind = 'search' AND c.id = %(collection)s;
