-- name: put
INSERT INTO revec.canary (migration_id, steps, quiet, epoch)
VALUES (%(id)s, %(steps)s, %(quiet)s, %(epoch)s)
ON CONFLICT (migration_id) DO UPDATE
   SET steps = excluded.steps, quiet = excluded.quiet, epoch = excluded.epoch, answered = 0;

-- name: of_migration
-- What is still to come, at the present epoch of the route.
SELECT k.steps, k.quiet, k.answered, k.epoch
  FROM revec.canary k JOIN revec.migration m ON m.id = k.migration_id
       JOIN revec.route r ON r.collection_id = m.collection_id AND r.epoch = k.epoch
 WHERE k.migration_id = %(id)s;

-- name: answered
-- The new index answered so many more, at the epoch of the present share.
UPDATE revec.canary SET answered = answered + %(requests)s
 WHERE migration_id = %(id)s AND epoch = %(epoch)s;
