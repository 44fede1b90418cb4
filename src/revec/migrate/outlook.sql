-- name: one_moment
-- All that this transaction reads is of its first look.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: drop_seconds
-- Until the old index may go: the asked time, and never before the requests that may still read it are over.
SELECT CASE WHEN m.drop_after IS NOT NULL THEN
           greatest(extract(epoch FROM m.drop_after - now()),
                    extract(epoch FROM r.changed_at - now()) + %(deadline)s)::float END AS seconds
  FROM revec.migration m JOIN revec.route r USING (collection_id) WHERE m.id = %(id)s;

-- name: leftovers
-- Tables of indexes that are written no more.
SELECT id FROM revec.index WHERE NOT writing AND to_regclass('revec.vectors_' || id) IS NOT NULL;

-- name: leaving
-- Points that go from their stores within so many seconds, if these answer.
SELECT t.index_id, count(*) AS points
  FROM revec.tombstone t JOIN revec.index i ON i.id = t.index_id AND i.writing
 WHERE t.due <= now() + make_interval(secs => %(seconds)s) GROUP BY t.index_id ORDER BY t.index_id;
