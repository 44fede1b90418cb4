-- name: paid
-- The calls of a migration's own load: no edit, and no look of a gate. What nobody answered may have been billed.
SELECT coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(inputs), 0)::bigint AS texts,
       CASE WHEN count(*) = count(price) THEN coalesce(sum(tokens * price / 1e6), 0)::float8 END AS cost,
       EXISTS (SELECT FROM revec.migration m LEFT JOIN revec.throttle t USING (collection_id)
                WHERE m.id = %(migration)s
                  AND (t.concurrency IS NOT NULL
                       OR EXISTS (SELECT FROM revec.quota WHERE model = 'collection:' || m.collection_id)))
           AS throttled
  FROM revec.call WHERE migration_id = %(migration)s AND lane = ANY (%(lanes)s::smallint[]);
