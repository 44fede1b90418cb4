-- name: throttles
-- What a person allows, also of an index that is registered after this look.
SELECT t.collection_id, t.concurrency, t.claim, q.rate
  FROM revec.throttle t
       LEFT JOIN revec.quota q ON q.model = 'collection:' || t.collection_id AND q.resource = 'documents';

-- name: throttle
SELECT q.rate AS docs_per_second, t.concurrency, t.claim, t.set_by, t.set_at
  FROM revec.throttle t
       LEFT JOIN revec.quota q ON q.model = 'collection:' || t.collection_id AND q.resource = 'documents'
 WHERE t.collection_id = %(collection)s;

-- name: set
-- What is not named stays as it is.
INSERT INTO revec.throttle AS t (collection_id, concurrency, claim, set_by)
VALUES (%(collection)s, %(concurrency)s, %(claim)s, %(who)s)
ON CONFLICT (collection_id) DO UPDATE
   SET concurrency = coalesce(excluded.concurrency, t.concurrency), claim = coalesce(excluded.claim, t.claim),
       set_by = excluded.set_by, set_at = now();

-- name: set_rate
-- Empty at first. It holds three seconds, so that nobody who looks once a second spills any.
INSERT INTO revec.quota AS q (model, resource, declared, capacity, rate, level, at)
VALUES ('collection:' || %(collection)s, 'documents', %(rate)s * 60, greatest(2, %(rate)s * 3), %(rate)s, 0,
        clock_timestamp())
ON CONFLICT (model, resource) DO UPDATE
   SET declared = excluded.declared, capacity = excluded.capacity, rate = excluded.rate,
       level = least(excluded.capacity, revec.bucket(q, excluded.at)), at = excluded.at;

-- name: lift
WITH bucket AS (
    DELETE FROM revec.quota WHERE model = 'collection:' || %(collection)s AND resource = 'documents'
)
DELETE FROM revec.throttle WHERE collection_id = %(collection)s;

-- name: fill
-- What has flowed in; the bucket is ours until the claim is committed. No row: nobody throttles.
UPDATE revec.quota q SET level = revec.bucket(q, clock_timestamp()), at = clock_timestamp()
 WHERE q.resource = 'documents'
   AND q.model = 'collection:' || (SELECT collection_id FROM revec.index WHERE id = %(index)s)
RETURNING q.level, q.rate;

-- name: spend
UPDATE revec.quota q SET level = q.level - %(documents)s
 WHERE q.resource = 'documents'
   AND q.model = 'collection:' || (SELECT collection_id FROM revec.index WHERE id = %(index)s);

-- name: ping
SELECT 1 AS pong;
