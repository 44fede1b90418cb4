-- name: put
-- What was counted in this minute; the last word counts. What is too old goes in the same breath.
WITH old AS (
    DELETE FROM revec.sample WHERE (collection_id, minute) IN (
        SELECT collection_id, minute FROM revec.sample
         WHERE minute < now() - make_interval(days => %(days)s) ORDER BY minute LIMIT 10000)
)
INSERT INTO revec.sample (collection_id, minute, index_id, documents, approximate, done, coverage, backlog, oldest,
                          unprojected, dead, lag, per_second)
VALUES (%(collection)s, date_trunc('minute', now()), %(index)s, %(documents)s, %(approximate)s, %(done)s,
        %(coverage)s, %(backlog)s, %(oldest)s, %(unprojected)s, %(dead)s, %(lag)s, %(per_second)s)
ON CONFLICT (collection_id, minute) DO UPDATE
   SET index_id = excluded.index_id, documents = excluded.documents, approximate = excluded.approximate,
       done = excluded.done, coverage = excluded.coverage, backlog = excluded.backlog, oldest = excluded.oldest,
       unprojected = excluded.unprojected, dead = excluded.dead, lag = excluded.lag,
       per_second = excluded.per_second;
