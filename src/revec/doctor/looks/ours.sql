-- Revec's own house.

-- name: collections
SELECT id, name FROM revec.collection ORDER BY id;

-- name: see_capture_triggers
SELECT s.name, t.tgname, t.tgenabled FROM revec.source s LEFT JOIN pg_trigger t ON t.tgrelid = s.trigger_of AND t.tgname LIKE 'revec%%' WHERE s.mapping IS NOT NULL;

-- name: unreadable_source
SELECT c.name AS collection, s.name AS source, s.fault
  FROM revec.source s JOIN revec.collection c ON c.id = s.collection_id WHERE s.fault IS NOT NULL;

-- name: dead_letters
SELECT c.name AS collection, i.id AS index, count(*) AS found,
       mode() WITHIN GROUP (ORDER BY left(d.cause, 200)) AS cause, min(d.first_at) AS since
  FROM revec.dead d JOIN revec.index i ON i.id = d.index_id AND i.writing JOIN revec.collection c ON c.id = i.collection_id
 WHERE d.retried_at IS NULL GROUP BY c.name, i.id;

-- name: no_worker
-- Work that somebody could do and nobody has for longer than a worker's heart rests. Counted to a bound.
SELECT count(*) AS found, min(since) AS since
  FROM (SELECT w.since FROM revec.work w JOIN revec.index i ON i.id = w.index_id AND i.writing AND NOT i.held AND i.fault IS NULL
         WHERE w.since < now() - interval '30 seconds' AND w.not_before <= now() LIMIT 100000) AS due
 WHERE NOT EXISTS (SELECT FROM revec.worker WHERE beat_at > now() - interval '30 seconds');

-- name: dead_worker
-- A worker that ends says so and takes its row along.
SELECT host, pid, round(extract(epoch FROM now() - beat_at) / 60)::int AS minutes FROM revec.worker
 WHERE beat_at < now() - interval '2 minutes';

-- name: no_conductor
-- A migration that waits for no person, and whose conductor has let its lease run out.
SELECT c.name AS collection, m.state, l.until
  FROM revec.migration m JOIN revec.collection c ON c.id = m.collection_id
       LEFT JOIN revec.lease l ON l.name = 'conductor'
 WHERE m.state NOT IN ('finished', 'aborted') AND m.paused_why IS NULL AND m.changed_at < now() - interval '1 minute'
   AND coalesce(l.until, '-infinity') < now();

-- name: one_layer
SELECT current_user::text AS login FROM revec.installation WHERE NOT two_layers;

-- name: opened_table
-- Two tables have none on purpose: triggers of yours append to one, and the other is read before any role is.
SELECT c.relname AS table, CASE WHEN NOT c.relrowsecurity THEN 'is off' WHEN NOT c.relforcerowsecurity THEN 'does not bind its owner'
       ELSE 'has no policy' END AS so
  FROM pg_class c
 WHERE c.relnamespace = to_regnamespace('revec') AND c.relkind IN ('r', 'p') AND c.relname NOT IN ('change', 'schema_file')
   AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid));
