-- name: due
-- The model that was looked at longest ago, if it is its turn; taken by looking.
UPDATE revec.space s SET checked_at = now()
  FROM (SELECT x.id AS space_id, min(i.id) AS index_id
          FROM revec.space x JOIN revec.index i ON i.space_id = x.id AND i.writing AND i.fault IS NULL
         WHERE x.checked_at < now() - make_interval(secs => %(seconds)s)
           AND EXISTS (SELECT FROM revec.sentinel WHERE space_id = x.id)
         GROUP BY x.id ORDER BY min(x.checked_at) LIMIT 1) AS due
 WHERE s.id = due.space_id
RETURNING due.index_id;
