-- name: stats
-- A collection's documents, by index that is written: how many there are, how many a backfill has yet to come to,
-- how many ended without a vector. Of each kind of row so many are counted and no more: who looks every second
-- must not read ten million of them.
SELECT i.id AS index_id, documents.n AS documents,
       coalesce((SELECT greatest(0, m.documents - m.seen) FROM revec.migration m
                  WHERE m.new_index = i.id AND NOT m.cursor_done AND m.state <> ALL (%(final)s)), 0) AS to_come,
       (SELECT count(*) FROM (SELECT FROM revec.dead x WHERE x.index_id = i.id AND x.retried_at IS NULL
                               LIMIT %(most)s) AS x) AS failed,
       (SELECT count(*) FROM (SELECT FROM revec.excluded e WHERE e.index_id = i.id LIMIT %(most)s) AS e) AS excluded
  FROM (SELECT count(*) AS n FROM (SELECT FROM revec.document d WHERE d.collection_id = %(collection)s
                                    LIMIT %(most)s) AS d) AS documents
       CROSS JOIN revec.index i
 WHERE i.writing AND i.collection_id = %(collection)s ORDER BY i.id;

-- name: lanes
-- Open work by index and lane. A lease is silent when its worker's heart has stopped, and expired when it ran out
-- as long ago and nobody has taken it up again. Each lane has a look of its own, for edits must not be lost to sight
-- behind a backfill; and it is looked at in the order in which it is claimed (that of work_claim): leases are at the
-- head of a tenant's work, so that of a long lane those are seen first.
SELECT i.id AS index_id, lane.n AS lane, w.*
  FROM revec.index i CROSS JOIN generate_series(0, 2) AS lane (n) CROSS JOIN LATERAL (
       SELECT count(*) AS work,
              count(*) FILTER (WHERE w.action = 'embed' AND w.state IN ('waiting', 'expired')) AS waiting,
              count(*) FILTER (WHERE w.action = 'embed' AND w.state IN ('in hand', 'silent')) AS in_hand,
              count(*) FILTER (WHERE w.action = 'embed' AND w.state = 'later') AS later,
              count(*) FILTER (WHERE w.state = 'silent') AS silent,
              count(*) FILTER (WHERE w.state = 'expired') AS expired,
              count(*) FILTER (WHERE w.action = 'delete') AS deletions,
              coalesce(extract(epoch FROM now() - min(w.since)), 0)::float8 AS oldest
         FROM (SELECT * FROM ({work}) AS w WHERE w.index_id = i.id AND w.lane = lane.n
                ORDER BY w.rank, w.tenant, w.doc_id LIMIT %(most)s) AS w) AS w
 WHERE i.writing AND i.collection_id = %(collection)s ORDER BY i.id, lane.n;

-- name: patience
-- Rather no answer than one that keeps the database busy.
SELECT set_config('statement_timeout', %(milliseconds)s, true) AS patience;

-- name: documents
SELECT FROM revec.document WHERE collection_id = %(collection)s

-- name: failed
SELECT FROM revec.dead WHERE index_id = %(index)s AND retried_at IS NULL

-- name: left_out
SELECT FROM revec.excluded WHERE index_id = %(index)s

-- name: of_lane
SELECT FROM revec.work WHERE index_id = %(index)s AND lane = %(lane)s

-- name: work
-- Every row of work and how it stands. The first half of a token is its worker's id.
SELECT w.*, k.host, k.pid, k.beat_at,
       CASE WHEN w.lease_until > now() THEN CASE WHEN k.quiet THEN 'silent' ELSE 'in hand' END
            WHEN w.not_before > now() THEN 'later'
            WHEN w.lease_until < now() - make_interval(secs => %(silence)s::float8) THEN 'expired'
            ELSE 'waiting' END AS state
  FROM revec.work w LEFT JOIN LATERAL (
       SELECT k.host, k.pid, k.beat_at, k.beat_at < now() - make_interval(secs => %(silence)s::float8) AS quiet
         FROM revec.worker k
        WHERE w.lease_until > now() AND left(k.id::text, 18) = left(w.token::text, 18) LIMIT 1) AS k ON true

-- name: open
-- Open work of a state, the longest wait first.
SELECT d.key, s.name AS source, w.index_id, w.tenant, w.state, w.action,
       (ARRAY['live', 'jit', 'backfill'])[w.lane + 1] AS lane, w.attempts,
       extract(epoch FROM now() - w.since)::float8 AS seconds, w.host || ' ' || w.pid AS worker
  FROM (SELECT * FROM ({work}) AS w WHERE w.index_id = ANY (%(indexes)s::int[]) AND w.state = ANY (%(states)s)
         ORDER BY w.since, w.doc_id LIMIT %(limit)s) AS w
       LEFT JOIN revec.document d ON d.id = w.doc_id LEFT JOIN revec.source s ON s.id = d.source_id
 ORDER BY w.since, w.doc_id;

-- name: excluded
SELECT d.key, s.name AS source, e.index_id, d.tenant, e.reason, e.at
  FROM (SELECT * FROM revec.excluded WHERE index_id = ANY (%(indexes)s::int[])
         ORDER BY at DESC, doc_id LIMIT %(limit)s) AS e
       JOIN revec.document d ON d.id = e.doc_id JOIN revec.source s ON s.id = d.source_id
 ORDER BY e.at DESC, e.doc_id;

-- name: of_key
SELECT d.id AS doc_id, d.key, s.name AS source, d.tenant, d.rev, d.changed_at,
       octet_length(d.title) + octet_length(d.body) AS size
  FROM revec.source s JOIN revec.document d ON d.source_id = s.id AND d.key = %(key)s
 WHERE s.collection_id = %(collection)s AND (%(source)s::text IS NULL OR s.name = %(source)s) ORDER BY s.name;

-- name: standing
-- Of one document: how it stands in each index that is written, and what its work waits for.
SELECT i.id AS index_id, w.state, w.action, (ARRAY['live', 'jit', 'backfill'])[w.lane + 1] AS lane,
       coalesce(w.attempts, x.attempts, 0) AS attempts, w.since, nullif(w.not_before, '-infinity') AS not_before,
       w.lease_until, w.host || ' ' || w.pid AS worker, w.beat_at,
       x.cause, x.first_at, x.last_at, x.retried_at, e.reason, e.at AS excluded_at,
       CASE WHEN w.doc_id IS NULL THEN NULL
            WHEN i.fault IS NOT NULL THEN i.fault
            WHEN i.held THEN 'its index is being built'
            WHEN t.paused_why IS NOT NULL THEN 'its tenant is paused: ' || t.paused_why
            WHEN m.paused_why IS NOT NULL AND w.lane > 0 THEN 'the migration is paused: ' || m.paused_why
            WHEN p.resting_until > now() THEN 'the provider rests: ' || p.why END AS waits_for
  FROM revec.index i JOIN revec.space sp ON sp.id = i.space_id
       JOIN revec.document d ON d.id = %(doc)s AND d.collection_id = i.collection_id
       LEFT JOIN ({work}) AS w ON w.index_id = i.id AND w.doc_id = d.id
       LEFT JOIN revec.dead x ON x.index_id = i.id AND x.doc_id = d.id AND x.input_hash = d.input_hash
       LEFT JOIN revec.excluded e ON e.index_id = i.id AND e.doc_id = d.id AND e.input_hash = d.input_hash
       LEFT JOIN revec.tenant t ON t.collection_id = i.collection_id AND t.tenant = d.tenant
       LEFT JOIN revec.migration m ON m.new_index = i.id AND m.state <> ALL (%(final)s)
       LEFT JOIN revec.provider p
              ON p.model = (sp.recipe->>'provider') || ':' || (sp.recipe->>'model')
 WHERE i.writing ORDER BY i.id;

-- name: endings
-- How its former dead letters ended.
SELECT index_id, cause, attempts, first_at, last_at, resolution, reason, at FROM revec.dead_settled
 WHERE doc_id = %(doc)s ORDER BY at;

-- name: ledger
-- The next documents of a collection, and what became of each in an index.
SELECT d.id AS doc_id, d.key, s.name AS source, d.tenant,
       CASE WHEN w.lease_until > now() THEN 'in hand' WHEN w.doc_id IS NOT NULL THEN 'waiting'
            WHEN x.doc_id IS NOT NULL THEN 'failed' WHEN e.doc_id IS NOT NULL THEN 'excluded'
            WHEN v.doc_id IS NOT NULL THEN 'done' ELSE 'to come' END AS state,
       coalesce(x.cause, e.reason) AS cause, coalesce(w.attempts, x.attempts, 0) AS attempts,
       coalesce(x.last_at, e.at, d.changed_at) AS at
  FROM revec.document d JOIN revec.source s ON s.id = d.source_id
       LEFT JOIN revec.work w ON w.index_id = %(index)s AND w.doc_id = d.id
       LEFT JOIN revec.dead x ON x.index_id = %(index)s AND x.doc_id = d.id AND x.input_hash = d.input_hash
                             AND x.retried_at IS NULL
       LEFT JOIN revec.excluded e ON e.index_id = %(index)s AND e.doc_id = d.id AND e.input_hash = d.input_hash
       LEFT JOIN {vectors} v ON v.doc_id = d.id AND v.chunk_no = 0 AND v.input_hash = d.input_hash
 WHERE d.collection_id = %(collection)s AND d.id > %(after)s ORDER BY d.id LIMIT %(limit)s;
