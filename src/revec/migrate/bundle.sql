-- name: verdicts
-- Every word of every gate, also those that a person cleared.
SELECT at, gate, outcome, why, evidence, cleared_at, cleared_reason
  FROM revec.verdict WHERE migration_id = %(id)s ORDER BY id;

-- name: observations
-- Of this migration's new index beside its old one.
SELECT count(*) AS queries, coalesce(sum(o.weight), 0)::bigint AS requests, avg(o.overlap) AS overlap,
       avg(o.rbo) AS rbo, avg(o.floor_overlap) AS overlap_by_chance, avg(o.floor_rbo) AS rbo_by_chance,
       count(*) FILTER (WHERE o.new_outcome IN ('error', 'timeout')) AS failed
  FROM revec.observation o JOIN revec.migration m ON m.id = %(id)s AND m.collection_id = o.collection_id
 WHERE o.serving = m.old_index AND o.candidate = m.new_index AND o.done_at IS NOT NULL;
