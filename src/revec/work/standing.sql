-- name: briefly
-- A look that would hold up others is given up; the next minute has another one.
SELECT set_config('statement_timeout', %(patience)s, true);

-- name: many
-- Documents of all collections, as the last vacuum or analyze knew it; -1: it never ran.
SELECT reltuples::bigint AS documents FROM pg_class WHERE oid = 'revec.document'::regclass;

-- name: documents
-- Over the index alone: some 0.1 s for a million.
SELECT collection_id, count(*) AS documents FROM revec.document GROUP BY collection_id;

-- name: of_collection
SELECT FROM revec.document WHERE collection_id = %(collection)s

-- name: of_lane
SELECT FROM revec.work WHERE index_id = %(index)s AND lane = %(lane)s

-- name: dead
SELECT FROM revec.dead WHERE index_id = %(index)s AND retried_at IS NULL

-- name: excluded
SELECT FROM revec.excluded WHERE index_id = %(index)s

-- name: all_work
SELECT * FROM revec.work

-- name: first_work
-- The head of each lane of each index, in the order of work_claim: what is at hand of more than can be counted.
SELECT w.* FROM revec.index i CROSS JOIN generate_series(0, 2) AS lane (n) CROSS JOIN LATERAL (
       SELECT * FROM revec.work w WHERE w.index_id = i.id AND w.lane = lane.n
        ORDER BY w.rank, w.tenant, w.doc_id LIMIT %(most)s) AS w
 WHERE i.writing

-- name: open
-- Open work by index, lane and how it stands. How long it waits is told without paused tenants, who wait for a person.
SELECT w.index_id, w.lane,
       CASE WHEN w.lease_until > now() THEN 'in hand' WHEN w.not_before > now() THEN 'later' ELSE 'waiting' END
           AS state,
       count(*) AS documents, count(*) FILTER (WHERE w.action = 'embed') AS to_embed,
       coalesce(extract(epoch FROM now() - min(w.since) FILTER (WHERE p.tenant IS NULL)), 0)::float8 AS oldest
  FROM ({work}) AS w JOIN revec.index i ON i.id = w.index_id AND i.writing
       LEFT JOIN revec.tenant p ON p.collection_id = i.collection_id AND p.tenant = w.tenant
                               AND p.paused_why IS NOT NULL
 GROUP BY 1, 2, 3;

-- name: left_out
-- By index: dead letters that wait for a person, and documents that are excluded; so many at most (NULL: all).
SELECT i.id AS index_id,
       (SELECT count(*) FROM (SELECT FROM revec.dead x WHERE x.index_id = i.id AND x.retried_at IS NULL
                               LIMIT %(most)s::bigint) AS x) AS dead,
       (SELECT count(*) FROM (SELECT FROM revec.excluded e WHERE e.index_id = i.id
                               LIMIT %(most)s::bigint) AS e) AS excluded,
       coalesce((SELECT greatest(0, m.documents - m.seen) FROM revec.migration m
                  WHERE m.new_index = i.id AND NOT m.cursor_done AND m.state <> ALL (%(final)s)), 0) AS to_come,
       (SELECT r.serving = i.id FROM revec.route r WHERE r.collection_id = i.collection_id) AS is_serving
  FROM revec.index i WHERE i.writing;

-- name: changes
-- By collection: changes that are not projected, and for how long where no person wants it so.
SELECT s.collection_id, sum(c.changes)::bigint AS changes,
       coalesce(extract(epoch FROM now() - min(c.since) FILTER (WHERE s.paused_why IS NULL)), 0)::float8 AS seconds
  FROM revec.source s CROSS JOIN LATERAL (
       SELECT count(*) AS changes, min(x.at) AS since FROM (
           SELECT at FROM revec.change WHERE source_id = s.id ORDER BY id LIMIT 100000) AS x) AS c
 GROUP BY s.collection_id;

-- name: pace
-- Texts that models embedded in the last minute, by collection; what is asked by searches is not counted.
SELECT i.collection_id, sum(c.inputs) / 60.0::float8 AS per_second
  FROM revec.call c JOIN revec.index i ON i.id = c.index_id
 WHERE c.at > now() - interval '1 hour' AND c.answered_at > now() - interval '1 minute'
   AND c.outcome = 'ok' AND c.lane IN (0, 1, 2)
 GROUP BY i.collection_id;
