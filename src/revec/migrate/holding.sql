-- name: facts
-- Of each index: who is sent to it, the last verdict on its recall, its build as the server reports it, and the
-- migration that it is a part of. An old index goes when its migration's wait is over.
SELECT i.id, o.tenants, s.rate AS shadow, m.target, m.state, m.drop_at,
       v.outcome, v.why, v.at,
       p.phase, p.tuples_done, p.tuples_total, p.blocks_done, p.blocks_total
  FROM unnest(%(ids)s::int[], %(tables)s::text[]) AS i (id, relation)
       LEFT JOIN LATERAL (
           SELECT count(*) AS tenants FROM revec.override o JOIN revec.route r USING (collection_id, epoch)
            WHERE o.collection_id = %(collection)s AND o.index_id = i.id) AS o ON true
       LEFT JOIN revec.shadow s ON s.collection_id = %(collection)s AND s.index_id = i.id AND s.rate > 0
       LEFT JOIN LATERAL (
           SELECT m.target, m.state, CASE WHEN m.old_index = i.id THEN m.drop_after END AS drop_at
             FROM revec.migration m
            WHERE m.collection_id = %(collection)s AND i.id IN (m.old_index, m.new_index)
              AND m.state <> ALL (%(final)s) ORDER BY m.id DESC LIMIT 1) AS m ON true
       LEFT JOIN LATERAL (
           SELECT v.outcome, v.why, v.at FROM revec.verdict v JOIN revec.migration n ON n.id = v.migration_id
            WHERE n.new_index = i.id AND v.gate = %(recall)s AND v.cleared_at IS NULL
            ORDER BY v.id DESC LIMIT 1) AS v ON true
       LEFT JOIN pg_stat_progress_create_index p
              ON p.datname = current_database() AND p.relid = to_regclass(i.relation);
