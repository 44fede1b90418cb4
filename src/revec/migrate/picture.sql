-- name: paces
-- Documents a second over the last minute, five and fifteen of the backfill's samples: what comes lies between.
SELECT (max(p.done) - min(p.done)) / nullif(extract(epoch FROM max(p.at) - min(p.at)), 0)::float AS per_second
  FROM (VALUES (1), (5), (15)) AS w (minutes),
       revec.progress p
 WHERE p.migration_id = %(id)s
   AND p.at > (SELECT max(at) FROM revec.progress WHERE migration_id = %(id)s) - make_interval(mins => w.minutes)
 GROUP BY w.minutes ORDER BY w.minutes;

-- name: curve
-- The backfill's last hour, a point for each half minute.
SELECT date_bin('30 seconds', at, 'epoch') AS at, max(done) AS done
  FROM revec.progress
 WHERE migration_id = %(id)s
   AND at > (SELECT max(at) FROM revec.progress WHERE migration_id = %(id)s) - interval '1 hour'
 GROUP BY 1 ORDER BY 1;

-- name: tenants
-- Whose backfill lacks most; `done` are through.
SELECT tenant, seen, documents, done, paused, priority,
       count(*) OVER () AS tenants, count(*) FILTER (WHERE done) OVER () AS through
  FROM revec.backfill
 WHERE migration_id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
 ORDER BY done, documents - seen DESC, tenant LIMIT %(limit)s;

-- name: events
-- The last ones, the newest first.
SELECT at, who, was, became, why, (evidence->'users'->>'share')::float8 AS share FROM revec.migration_event
 WHERE migration_id = %(id)s ORDER BY id DESC LIMIT %(limit)s;

-- name: visited
-- Each state that it was ever in.
SELECT DISTINCT became AS state FROM revec.migration_event
 WHERE migration_id = %(id)s AND became IS NOT NULL;

-- name: tokens
-- What the calls of the migration took, as the ledger has it; a call that nobody answered took nothing.
SELECT coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(inputs), 0)::bigint AS texts, count(*) AS calls
  FROM revec.call WHERE migration_id = %(id)s AND outcome = 'ok';
