-- name: migrations
-- The last one of each collection. Nobody has to watch before users may see the new index.
SELECT DISTINCT ON (m.collection_id) c.name AS collection, m.id, m.state, m.paused_why IS NOT NULL AS paused,
       m.hold IS NOT NULL AS held, m.spent::float8 AS spent, m.budget::float8 AS budget,
       m.state <> ALL (%(final)s) AND m.old_index IS NOT NULL
           AND (m.old_model_gone IS NOT NULL OR o.fault IS NOT NULL) AS rollback_lost,
       CASE WHEN m.state = ANY (%(seen)s) AND m.old_index IS NOT NULL
            THEN extract(epoch FROM now() - coalesce(b.at, m.changed_at))::float8 END AS unguarded
  FROM revec.migration m JOIN revec.collection c ON c.id = m.collection_id
       LEFT JOIN revec.index o ON o.id = m.old_index
       LEFT JOIN revec.guard_beat b ON b.migration_id = m.id
 ORDER BY m.collection_id, m.id DESC;

-- name: verdicts
-- The last word on each gate of these migrations; a failure that nobody cleared outlives any later success.
SELECT DISTINCT ON (migration_id, gate) migration_id, gate, outcome
  FROM revec.verdict WHERE migration_id = ANY (%(ids)s::int[]) AND cleared_at IS NULL
 ORDER BY migration_id, gate, (outcome = 'FAILED') DESC, id DESC;

-- name: shadows
-- What was observed in the last hour of the pair that is compared now: the index that serves, and the other one.
SELECT c.name AS collection, count(*) AS observations, avg(o.overlap)::float8 AS overlap,
       avg(o.floor_overlap)::float8 AS floor,
       (avg(o.new_embed + o.new_search - o.again_embed - o.again_search)
           FILTER (WHERE o.again_outcome = 'ok' AND o.new_outcome = 'ok'))::float8 AS latency,
       avg(CASE WHEN o.same_first THEN 0 ELSE 1 END) FILTER (WHERE o.same_first IS NOT NULL)::float8 AS mismatches,
       count(*) FILTER (WHERE o.new_outcome IN ('error', 'timeout')
                          AND o.again_outcome NOT IN ('error', 'timeout')) AS failed
  FROM revec.observation o JOIN revec.shadow h ON h.collection_id = o.collection_id AND h.rate > 0
       JOIN revec.route r ON r.collection_id = o.collection_id AND r.serving = o.serving
       JOIN revec.collection c ON c.id = o.collection_id
 WHERE o.at > now() - interval '1 hour' AND o.done_at IS NOT NULL
   AND o.candidate = CASE WHEN h.index_id = r.serving THEN r.previous ELSE h.index_id END
 GROUP BY c.name;

-- name: models
-- Of every index that is written: the model of its documents and the one of its queries. One rests as long as it
-- has failed and not answered since, and something waits for it.
SELECT used.address, bool_or(p.model IS NOT NULL AND (p.resting_until > now() OR used.waited_for)) AS is_resting
  FROM revec.index i JOIN revec.space s ON s.id = i.space_id CROSS JOIN LATERAL (VALUES
           ((s.recipe->>'provider') || ':' || (s.recipe->>'model'),
            EXISTS (SELECT FROM revec.work w WHERE w.index_id = i.id)),
           (i.query->>'address', false)) AS used (address, waited_for)
       LEFT JOIN revec.provider p ON p.model = used.address AND p.resting_until IS NOT NULL
 WHERE i.writing GROUP BY used.address;

-- name: lacking
-- Whether a collection was never counted.
SELECT EXISTS (SELECT FROM revec.collection c
                WHERE NOT EXISTS (SELECT FROM revec.sample s WHERE s.collection_id = c.id)) AS is_lacking;
