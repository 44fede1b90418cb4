-- name: ready
-- Which (index, lane) has work that nobody holds; faulted and held indexes are left alone, and so are
-- those whose model rests or is being probed, and the backfill of a paused migration. LATERAL and
-- LIMIT: one row of an index is enough, whatever the queue's length.
SELECT i.id AS index_id, lane.n AS lane
  FROM revec.index i CROSS JOIN generate_series(0, 2) AS lane (n)
       CROSS JOIN LATERAL (
           SELECT FROM revec.work w
            WHERE w.index_id = i.id AND w.lane = lane.n
              AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
            ORDER BY w.tenant, w.doc_id LIMIT 1) AS waiting
 WHERE i.writing AND NOT i.held AND i.fault IS NULL
   AND NOT EXISTS (SELECT FROM revec.provider p JOIN revec.space s ON s.id = i.space_id
                    WHERE p.model = (s.recipe->>'provider') || ':' || (s.recipe->>'model')
                      AND greatest(p.resting_until, p.probe_until) > clock_timestamp())
   AND NOT (lane.n = 2 AND EXISTS (SELECT FROM revec.migration m
                                    WHERE m.new_index = i.id AND m.paused_why IS NOT NULL))
 ORDER BY lane.n, random();

-- name: claim
-- Up to 64 tenants after the last one served take equal shares, in the order of their documents.
-- The database's clock alone says which lease has run out. The index's row is locked, so that whoever
-- holds the index sees this claim or is seen by it; tenants whose work is all taken do not count.
WITH RECURSIVE claimable AS MATERIALIZED (
    SELECT i.id FROM revec.index i
     WHERE i.id = %(index)s AND i.writing AND NOT i.held AND i.fault IS NULL FOR SHARE
), tenants AS (
    (SELECT w.tenant, 1 AS n FROM claimable i JOIN revec.work w ON w.index_id = i.id
      WHERE w.index_id = %(index)s AND w.lane = %(lane)s AND w.tenant > %(after)s
        AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
      ORDER BY w.tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT w.tenant FROM revec.work w
             WHERE w.index_id = %(index)s AND w.lane = %(lane)s AND w.tenant > t.tenant
               AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
             ORDER BY w.tenant LIMIT 1), t.n + 1
      FROM tenants t WHERE t.tenant IS NOT NULL AND t.n < 64
), fair AS (
    SELECT tenant, greatest(1, %(size)s / count(*) OVER ()) AS share
      FROM tenants WHERE tenant IS NOT NULL
), picked AS (
    SELECT p.doc_id
      FROM fair CROSS JOIN LATERAL (
          SELECT w.doc_id FROM revec.work w
           WHERE w.index_id = %(index)s AND w.lane = %(lane)s AND w.tenant = fair.tenant
             AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()
           ORDER BY w.doc_id LIMIT fair.share
             FOR UPDATE SKIP LOCKED) AS p
)
UPDATE revec.work w
   SET lease_until = now() + make_interval(secs => %(lease)s), token = %(token)s,
       attempts = attempts + 1
  FROM picked
 WHERE w.index_id = %(index)s AND w.doc_id = picked.doc_id
RETURNING w.doc_id, w.rev, w.action, w.tenant, w.attempts;

-- name: settle
-- Acknowledge what was claimed: a newer revision, or somebody else's claim, stays. ANY keeps a planner
-- with old statistics from reading all of the index's work.
DELETE FROM revec.work w
 USING unnest(%(ids)b::bigint[], %(revs)b::bigint[]) AS n (doc_id, rev)
 WHERE w.index_id = %(index)s AND w.doc_id = n.doc_id AND w.rev = n.rev AND w.token = %(token)s
   AND w.doc_id = ANY (%(ids)b::bigint[]);

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
       attempts = d.attempts + excluded.attempts, last_at = now();

-- name: absolve
-- What was dead or left out is so no longer.
WITH live AS (DELETE FROM revec.dead WHERE index_id = %(index)s AND doc_id = ANY (%(ids)b::bigint[]))
DELETE FROM revec.excluded WHERE index_id = %(index)s AND doc_id = ANY (%(ids)b::bigint[]);

-- name: exclude
INSERT INTO revec.excluded AS x (index_id, doc_id, input_hash, reason)
SELECT %(index)s, * FROM unnest(%(ids)b::bigint[], %(hashes)b::bytea[], %(reasons)s::text[])
ON CONFLICT (index_id, doc_id) DO UPDATE
   SET input_hash = excluded.input_hash, reason = excluded.reason, at = now();

-- name: open
-- What is not done, by index.
SELECT w.index_id, count(*) AS open, count(*) FILTER (WHERE w.lane = 2) AS backfill,
       count(*) FILTER (WHERE w.lease_until > now()) AS leased,
       coalesce(extract(epoch FROM now() - min(w.since)), 0)::float AS oldest_seconds
  FROM revec.work w WHERE w.index_id = ANY (%(indexes)s::int[]) GROUP BY w.index_id;

-- name: letters
SELECT d.doc_id, doc.key, d.index_id, d.tenant, d.cause, d.attempts, d.first_at, d.last_at
  FROM revec.dead d LEFT JOIN revec.document doc ON doc.id = d.doc_id
 WHERE d.index_id = ANY (%(indexes)s::int[]) ORDER BY d.cause, d.doc_id LIMIT %(limit)s;

-- name: counts
SELECT (SELECT count(*) FROM revec.dead WHERE index_id = %(index)s) AS dead,
       (SELECT count(*) FROM revec.excluded WHERE index_id = %(index)s) AS excluded;

-- name: redrive
-- Dead letters whose document still exists get another try.
WITH again AS (
    DELETE FROM revec.dead WHERE index_id = ANY (%(indexes)s::int[]) RETURNING index_id, doc_id
)
INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
SELECT a.index_id, d.id, d.rev, 'embed', 0, d.tenant
  FROM again a JOIN revec.document d ON d.id = a.doc_id
ON CONFLICT DO NOTHING;

-- name: accept
-- A person decides that these documents may stay out; valid for their present content.
WITH accepted AS (
    DELETE FROM revec.dead WHERE index_id = ANY (%(indexes)s::int[])
 RETURNING index_id, doc_id, input_hash, cause
)
INSERT INTO revec.excluded AS x (index_id, doc_id, input_hash, reason)
SELECT index_id, doc_id, input_hash, 'accepted: ' || %(reason)s || ' (' || cause || ')' FROM accepted
ON CONFLICT (index_id, doc_id) DO UPDATE
   SET input_hash = excluded.input_hash, reason = excluded.reason, at = now();

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
DELETE FROM revec.paid p USING ours WHERE p.space_id = %(space)s AND p.text_hash = ours.text_hash;

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
DELETE FROM revec.paid WHERE at < now() - interval '1 day' AND lease_until < now();

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
