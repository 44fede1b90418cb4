-- name: ready
-- Which (index, lane) has work that nobody holds. Faulted and held indexes are left alone, those whose model
-- rests or is being probed, all that a paused migration may wait for, and paused tenants but for their deletions. A
-- walk from tenant to tenant that ends at the first one that counts: no longer where the queue is long.
SELECT i.id AS index_id, lane.n AS lane
  FROM revec.index i CROSS JOIN generate_series(0, 2) AS lane (n)
       CROSS JOIN LATERAL (
           WITH RECURSIVE walk AS (
               SELECT -2147483648 AS rank, '' AS tenant, true AS paused
               UNION ALL
               SELECT w.rank, w.tenant, p.tenant IS NOT NULL
                 FROM walk CROSS JOIN LATERAL (
                          SELECT w.rank, w.tenant FROM revec.work w
                           WHERE w.index_id = i.id AND w.lane = lane.n
                             AND (w.rank, w.tenant) > (walk.rank, walk.tenant)
                             AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
                           ORDER BY w.rank, w.tenant LIMIT 1) AS w
                      LEFT JOIN LATERAL (
                          SELECT p.tenant FROM revec.tenant p
                           WHERE p.collection_id = i.collection_id AND p.tenant = w.tenant
                             AND p.paused_why IS NOT NULL LIMIT 1) AS p ON true
                WHERE walk.paused
           )
           SELECT 1 FROM walk WHERE NOT paused
           UNION ALL
           (SELECT 1 FROM revec.work w
             WHERE w.index_id = i.id AND w.lane = lane.n AND w.action = 'delete'
               AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now() LIMIT 1)
           LIMIT 1) AS waiting
 WHERE i.writing AND NOT i.held AND i.fault IS NULL
   AND NOT EXISTS (SELECT FROM revec.provider p JOIN revec.space s ON s.id = i.space_id
                    WHERE p.model = (s.recipe->>'provider') || ':' || (s.recipe->>'model')
                      AND greatest(p.resting_until, p.probe_until) > clock_timestamp())
   AND NOT (lane.n > 0 AND EXISTS (SELECT FROM revec.migration m
                                    WHERE m.new_index = i.id AND m.paused_why IS NOT NULL))
 ORDER BY lane.n, random();

-- name: claim
-- Of the highest priority in the lane that has work, up to 64 tenants after the last one served take shares
-- by their weights, in the order of their documents. A share ends where those of all tenants up to this one
-- do, so nothing is lost to rounding: a hundred jobs of 64 tenants were 64. The database's clock alone says
-- which lease has run out. The index's row is locked, so that whoever holds the index sees this claim or is
-- seen by it. Tenants whose work is all taken do not count, nor do paused ones, of whom only deletions are
-- claimed (these have no priority: they are live). LIMIT 1 where there is but one: a walk of a thousand steps
-- is no hash join. ANY (ARRAY …): the planner takes the picked rows for a third of the table, and would read
-- all of it.
WITH RECURSIVE claimable AS MATERIALIZED (
    SELECT i.id, i.collection_id FROM revec.index i
     WHERE i.id = %(index)s AND i.writing AND NOT i.held AND i.fault IS NULL FOR SHARE
), top AS (
    SELECT i.collection_id, -2147483648 AS rank, '' AS tenant, true AS passed_by FROM claimable i
    UNION ALL
    SELECT top.collection_id, w.rank, w.tenant, %(lane)s = 2 AND p.tenant IS NOT NULL
      FROM top CROSS JOIN LATERAL (
               SELECT w.rank, w.tenant FROM revec.work w
                WHERE w.index_id = %(index)s AND w.lane = %(lane)s
                  AND (w.rank, w.tenant) > (top.rank, top.tenant)
                  AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
                ORDER BY w.rank, w.tenant LIMIT 1) AS w
           LEFT JOIN LATERAL (
               SELECT p.tenant FROM revec.tenant p
                WHERE p.collection_id = top.collection_id AND p.tenant = w.tenant
                  AND p.paused_why IS NOT NULL LIMIT 1) AS p ON true
     WHERE top.passed_by
), tenants AS (
    SELECT top.collection_id, top.rank, %(after)s::text AS tenant, NULL::int AS weight, false AS paused, 0 AS n
      FROM top WHERE NOT top.passed_by
    UNION ALL
    SELECT t.collection_id, t.rank, w.tenant, coalesce(p.weight, 1), p.paused_why IS NOT NULL,
           t.n + (p.paused_why IS NULL)::int
      FROM tenants t CROSS JOIN LATERAL (
               SELECT w.tenant FROM revec.work w
                WHERE w.index_id = %(index)s AND w.lane = %(lane)s AND w.rank = t.rank
                  AND w.tenant > t.tenant
                  AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
                ORDER BY w.tenant LIMIT 1) AS w
           LEFT JOIN LATERAL (
               SELECT p.weight, p.paused_why FROM revec.tenant p
                WHERE p.collection_id = t.collection_id AND p.tenant = w.tenant LIMIT 1) AS p ON true
     WHERE t.n < 64
), weighed AS (
    SELECT rank, tenant, paused, weight,
           sum(weight) FILTER (WHERE NOT paused) OVER (ORDER BY tenant) AS upto,
           sum(weight) FILTER (WHERE NOT paused) OVER () AS total
      FROM tenants WHERE weight IS NOT NULL
), fair AS (
    SELECT rank, tenant, paused,
           greatest(1, %(size)s::bigint * upto / total - %(size)s::bigint * (upto - weight) / total)::int AS share
      FROM weighed
), picked AS (
    SELECT p.doc_id
      FROM fair CROSS JOIN LATERAL (
          SELECT w.doc_id FROM revec.work w
           WHERE w.index_id = %(index)s AND w.lane = %(lane)s AND w.rank = fair.rank
             AND w.tenant = fair.tenant
             AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
           ORDER BY w.doc_id LIMIT fair.share
             FOR UPDATE SKIP LOCKED) AS p
     WHERE NOT fair.paused
    UNION ALL
    SELECT p.doc_id
      FROM fair CROSS JOIN LATERAL (
          SELECT w.doc_id FROM revec.work w
           WHERE w.index_id = %(index)s AND w.lane = %(lane)s AND w.tenant = fair.tenant
             AND w.action = 'delete'
             AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
           ORDER BY w.doc_id LIMIT %(size)s
             FOR UPDATE SKIP LOCKED) AS p
     WHERE fair.paused
)
UPDATE revec.work w
   SET lease_until = now() + make_interval(secs => %(lease)s), token = %(token)s,
       attempts = attempts + 1
 WHERE w.index_id = %(index)s AND w.doc_id = ANY (ARRAY (SELECT doc_id FROM picked))
RETURNING w.doc_id, w.rev, w.action, w.tenant, w.attempts;

-- name: claim_these
-- Of these documents those that nobody has in hand, in whatever lane. As above, the index's row is locked, and
-- nothing is claimed of a paused migration, nor of paused tenants.
WITH claimable AS MATERIALIZED (
    SELECT i.id, i.collection_id FROM revec.index i
     WHERE i.id = %(index)s AND i.writing AND NOT i.held AND i.fault IS NULL
       AND NOT EXISTS (SELECT FROM revec.migration m WHERE m.new_index = i.id AND m.paused_why IS NOT NULL)
       FOR SHARE OF i
), picked AS MATERIALIZED (
    SELECT w.doc_id FROM claimable JOIN revec.work w ON w.index_id = claimable.id
     WHERE w.doc_id = ANY (%(ids)b::bigint[]) AND w.action = 'embed'
       AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
       AND NOT EXISTS (SELECT FROM revec.tenant p
                        WHERE p.collection_id = claimable.collection_id AND p.tenant = w.tenant
                          AND p.paused_why IS NOT NULL)
     ORDER BY w.doc_id FOR UPDATE OF w SKIP LOCKED
)
UPDATE revec.work w
   SET lease_until = now() + make_interval(secs => %(lease)s), token = %(token)s,
       attempts = attempts + 1
 WHERE w.index_id = %(index)s AND w.doc_id = ANY (ARRAY (SELECT doc_id FROM picked))
RETURNING w.doc_id, w.rev, w.action, w.tenant, w.attempts;

-- name: waited_for
-- Of these documents those that are still to be embedded, and those that somebody has in hand.
SELECT count(*) AS open, count(*) FILTER (WHERE w.lease_until > now()) AS in_hand FROM revec.work w
 WHERE w.index_id = %(index)s AND w.doc_id = ANY (%(ids)b::bigint[]) AND w.action = 'embed';

-- name: enqueue
-- Documents that somebody waits for: work that is there becomes as urgent, never less, and what is claimed
-- or being written is left alone. The index's row is locked, so that nobody retires it in between. What was seen of
-- their vectors is forgotten: others come.
WITH wanted AS MATERIALIZED (
    SELECT i.id, i.collection_id FROM revec.index i
     WHERE i.id = %(index)s AND i.writing AND i.writer = 'revec' FOR SHARE
), less_urgent AS MATERIALIZED (
    SELECT w.doc_id FROM wanted JOIN revec.work w ON w.index_id = wanted.id
     WHERE w.doc_id = ANY (%(ids)s::bigint[]) AND w.lane > %(lane)s AND w.action = 'embed'
       AND (w.lease_until IS NULL OR w.lease_until < now())
     ORDER BY w.doc_id FOR UPDATE OF w SKIP LOCKED
), unsealed AS (
    DELETE FROM revec.seal WHERE index_id = %(index)s AND doc_id = ANY (%(ids)s::bigint[])
), raised AS (
    UPDATE revec.work w  -- what waits for a batch does so no longer
       SET lane = %(lane)s,
           not_before = CASE WHEN w.not_before = 'infinity' THEN '-infinity' ELSE w.not_before END
      FROM less_urgent l
     WHERE w.index_id = %(index)s AND w.doc_id = l.doc_id
)
INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
SELECT wanted.id, d.id, d.rev, 'embed', %(lane)s, d.tenant
  FROM wanted JOIN revec.document d ON d.collection_id = wanted.collection_id
 WHERE d.id = ANY (%(ids)s::bigint[]) ORDER BY d.id
ON CONFLICT DO NOTHING;

-- name: settle
-- Acknowledge what was claimed: a newer revision, or somebody else's claim, stays. A revision is drawn
-- from one sequence for all documents, so two lists say what pairs would; a join with the pairs compares
-- each with each wherever the planner takes the claim for one row (256 rows: 9 ms in place of 0.3).
DELETE FROM revec.work w
 WHERE w.index_id = %(index)s AND w.doc_id = ANY (%(ids)b::bigint[])
   AND w.rev = ANY (%(revs)b::bigint[]) AND w.token = %(token)s;

-- name: release
-- Give back unfinished work, now or later; a blameless try is not counted. What a writer holds is
-- about to be free anyway: waiting for it would stall us, and could deadlock.
WITH ours AS MATERIALIZED (
    SELECT w.doc_id FROM revec.work w
      JOIN unnest(%(ids)b::bigint[], %(revs)b::bigint[]) AS n (doc_id, rev) USING (doc_id, rev)
     WHERE w.index_id = %(index)s AND w.token = %(token)s AND w.doc_id = ANY (%(ids)b::bigint[])
       FOR UPDATE OF w SKIP LOCKED
)
UPDATE revec.work w
   SET lease_until = NULL, token = NULL,
       not_before = now() + make_interval(secs => %(delay)s),
       attempts = w.attempts - %(blameless)s::int
  FROM ours
 WHERE w.index_id = %(index)s AND w.doc_id = ours.doc_id;

-- name: extend
-- Still at it: the lease of what has not been settled yet, and of no row that somebody is changing.
WITH ours AS MATERIALIZED (
    SELECT w.doc_id FROM revec.work w
     WHERE w.index_id = %(index)s AND w.token = %(token)s AND w.doc_id = ANY (%(ids)b::bigint[])
       FOR UPDATE SKIP LOCKED
)
UPDATE revec.work w SET lease_until = now() + make_interval(secs => %(lease)s)
  FROM ours
 WHERE w.index_id = %(index)s AND w.doc_id = ours.doc_id;

-- name: bury
-- To the dead letters, if the claim still holds and no writer is changing it; the text stays out.
WITH ours AS MATERIALIZED (
    SELECT w.doc_id FROM revec.work w
     WHERE w.index_id = %(index)s AND w.doc_id = %(doc)s AND w.rev = %(rev)s AND w.token = %(token)s
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM revec.work w USING ours
     WHERE w.index_id = %(index)s AND w.doc_id = ours.doc_id
 RETURNING w.rev, w.tenant, w.attempts
)
INSERT INTO revec.dead AS d (index_id, doc_id, input_hash, rev, tenant, cause, attempts)
SELECT %(index)s, %(doc)s, %(input_hash)s, rev, tenant, %(cause)s, attempts FROM gone
ON CONFLICT (index_id, doc_id) DO UPDATE
   SET input_hash = excluded.input_hash, rev = excluded.rev, cause = excluded.cause,
       attempts = d.attempts + excluded.attempts, last_at = now(), retried_at = NULL;

-- name: absolve
-- What was dead or left out is so no longer.
WITH live AS (
    DELETE FROM revec.dead WHERE index_id = %(index)s AND doc_id = ANY (%(ids)b::bigint[]) RETURNING *
), settled AS (
    INSERT INTO revec.dead_settled (index_id, doc_id, tenant, cause, attempts, first_at, last_at, resolution)
    SELECT index_id, doc_id, tenant, cause, attempts, first_at, last_at,
           CASE WHEN %(gone)s THEN 'abandoned' WHEN retried_at IS NULL THEN 'edited' ELSE 'retry_success' END
      FROM live
)
DELETE FROM revec.excluded WHERE index_id = %(index)s AND doc_id = ANY (%(ids)b::bigint[]);

-- name: exclude
INSERT INTO revec.excluded AS x (index_id, doc_id, input_hash, reason)
SELECT %(index)s, * FROM unnest(%(ids)b::bigint[], %(hashes)b::bytea[], %(reasons)s::text[])
ON CONFLICT (index_id, doc_id) DO UPDATE
   SET input_hash = excluded.input_hash, reason = excluded.reason, at = now();

-- name: open
-- What is not done, by index; the work of paused tenants is in every figure, and once more by itself.
SELECT w.index_id, count(*) AS open, count(*) FILTER (WHERE w.lane = 2) AS backfill,
       count(*) FILTER (WHERE w.lease_until > now()) AS leased,
       coalesce(extract(epoch FROM now() - min(w.since)), 0)::float AS oldest_seconds,
       count(*) FILTER (WHERE p.tenant IS NOT NULL AND w.action = 'embed') AS paused,
       count(*) FILTER (WHERE p.tenant IS NOT NULL AND w.lane = 2) AS paused_backfill,
       count(*) FILTER (WHERE p.tenant IS NULL AND w.lane > 0) AS pausable
  FROM revec.work w JOIN revec.index i ON i.id = w.index_id
       LEFT JOIN revec.tenant p ON p.collection_id = i.collection_id
                               AND p.tenant = w.tenant AND p.paused_why IS NOT NULL
 WHERE w.index_id = ANY (%(indexes)s::int[]) GROUP BY w.index_id;

-- name: counts
SELECT (SELECT count(*) FROM revec.dead WHERE index_id = %(index)s AND retried_at IS NULL) AS dead,
       (SELECT count(*) FROM revec.excluded WHERE index_id = %(index)s) AS excluded;

-- name: pay_lease
-- The right to pay for these texts, or the vector that somebody paid for already.
INSERT INTO revec.paid AS p (space_id, text_hash, lease_until, token)
SELECT %(space)s, h, now() + make_interval(secs => %(lease)s), %(token)s
  FROM unnest(%(hashes)b::bytea[]) AS h ORDER BY h
ON CONFLICT (space_id, text_hash) DO UPDATE
   SET lease_until = CASE WHEN p.vector IS NULL AND p.lease_until < now()
                     THEN excluded.lease_until ELSE p.lease_until END,
       token = CASE WHEN p.vector IS NULL AND p.lease_until < now()
               THEN excluded.token ELSE p.token END
RETURNING p.text_hash, p.vector, p.token = %(token)s AS mine;

-- name: pay_extend
-- Still at it: nobody else pays for these.
WITH ours AS MATERIALIZED (
    SELECT p.text_hash FROM revec.paid p
     WHERE p.space_id = %(space)s AND p.token = %(token)s AND p.text_hash = ANY (%(hashes)b::bytea[])
     ORDER BY p.text_hash FOR UPDATE
)
UPDATE revec.paid p SET lease_until = now() + make_interval(secs => %(lease)s)
  FROM ours
 WHERE p.space_id = %(space)s AND p.text_hash = ours.text_hash;

-- name: pay_done
-- Written where it belongs: the note is no longer needed. Locked in the order in which it is leased; by
-- its key, since a look of another worker (pay_lease) may have moved the row before we locked it.
WITH ours AS MATERIALIZED (
    SELECT p.text_hash FROM revec.paid p
     WHERE p.space_id = %(space)s AND p.token = %(token)s AND p.text_hash = ANY (%(hashes)b::bytea[])
     ORDER BY p.text_hash FOR UPDATE
)
DELETE FROM revec.paid p
 WHERE p.space_id = %(space)s AND p.text_hash = ANY (ARRAY (SELECT text_hash FROM ours));

-- name: pay_keep
-- Paid for but not written: kept for whoever needs the text next. Locked in the same order.
WITH ours AS MATERIALIZED (
    SELECT p.text_hash FROM revec.paid p
     WHERE p.space_id = %(space)s AND p.token = %(token)s AND p.text_hash = ANY (%(hashes)b::bytea[])
     ORDER BY p.text_hash FOR UPDATE
)
UPDATE revec.paid p SET vector = n.vector, at = now()
  FROM ours JOIN unnest(%(hashes)b::bytea[], %(vectors)b::halfvec[]) AS n (text_hash, vector)
                 USING (text_hash)
 WHERE p.space_id = %(space)s AND p.text_hash = ours.text_hash;

-- name: pay_expire
-- What a batch paid for is kept until it is written.
DELETE FROM revec.paid p WHERE at < now() - interval '1 day' AND lease_until < now()
   AND NOT EXISTS (SELECT FROM revec.batch b WHERE b.mark = p.token AND b.state <> 'done');

-- name: beat
INSERT INTO revec.worker (id, host, pid, claims, per_second, rss_mb, speed, braked_by)
VALUES (%(id)s, %(host)s, %(pid)s, %(claims)s, %(per_second)s, %(rss_mb)s, %(speed)s, %(braked_by)s)
ON CONFLICT (id) DO UPDATE
   SET beat_at = now(), claims = excluded.claims, per_second = excluded.per_second,
       rss_mb = excluded.rss_mb, speed = excluded.speed, braked_by = excluded.braked_by;

-- name: bye
DELETE FROM revec.worker WHERE id = %(id)s OR beat_at < now() - interval '1 day';

-- name: workers
SELECT id, host, pid, claims, per_second, rss_mb, speed, braked_by, started_at, beat_at
  FROM revec.worker
 WHERE beat_at > now() - interval '30 seconds' ORDER BY started_at;
