-- name: put
-- The last seconds of one process; what is older than minutes goes in the same breath.
WITH old AS (
    DELETE FROM revec.pulse WHERE id IN (
        SELECT id FROM revec.pulse WHERE at < clock_timestamp() - make_interval(secs => %(kept)s)
         ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED)
)
INSERT INTO revec.pulse (kind, name, ms) VALUES (%(kind)s, %(name)s, %(ms)s);

-- name: put_backfill
-- A backfill, or the build after it, is under way: no quiet time.
INSERT INTO revec.pulse (kind, name, ms)
SELECT 'backfill', '', '{}'
 WHERE EXISTS (SELECT FROM revec.migration
                WHERE state IN ('backfilling', 'indexing') AND paused_why IS NULL);

-- name: lately
-- The last seconds beside the quiet time. Searches by their 95th percentile, the database by its median:
-- one slow answer to a worker may be the worker's own doing.
SELECT p.kind, p.name, count(*) AS n, c.ms AS calm,
       percentile_cont(CASE p.kind WHEN 'search' THEN 0.95 ELSE 0.5 END) WITHIN GROUP (ORDER BY took.ms) AS ms
  FROM revec.pulse p CROSS JOIN unnest(p.ms) AS took (ms)
       JOIN revec.calm c ON c.kind = p.kind AND c.name = p.name
 WHERE p.at > clock_timestamp() - make_interval(secs => %(seconds)s)
   AND (p.kind = 'search' OR p.name = %(host)s)
 GROUP BY p.kind, p.name, c.ms;

-- name: learn
-- What is usual, from the minutes since the last backfill was over.
INSERT INTO revec.calm (kind, name, ms, n)
SELECT p.kind, p.name,
       percentile_cont(CASE p.kind WHEN 'search' THEN 0.95 ELSE 0.5 END) WITHIN GROUP (ORDER BY took.ms),
       count(*)
  FROM revec.pulse p CROSS JOIN unnest(p.ms) AS took (ms)
 WHERE p.kind <> 'backfill'
   AND p.at > coalesce((SELECT max(b.at) FROM revec.pulse b WHERE b.kind = 'backfill'), '-infinity')
              + make_interval(secs => %(echo)s)
 GROUP BY p.kind, p.name HAVING count(*) >= %(enough)s
ON CONFLICT (kind, name) DO UPDATE SET ms = excluded.ms, n = excluded.n, at = now();

-- name: searches
-- How many times were noted, and in how long: since the first of them, and half a minute at least.
SELECT coalesce(sum(cardinality(ms)), 0)::bigint AS n,
       greatest(extract(epoch FROM clock_timestamp() - min(at)), 30)::float AS seconds
  FROM revec.pulse WHERE kind = 'search' AND name = %(name)s;
