-- name: put
-- A later order stands in for an earlier one, and wants its approval anew.
INSERT INTO revec.cutover_order (migration_id, due_at, ordered_by, why)
VALUES (%(id)s, coalesce(%(at)s, now()), %(who)s, %(why)s)
ON CONFLICT (migration_id) DO UPDATE
   SET due_at = excluded.due_at, ordered_by = excluded.ordered_by, ordered_at = excluded.ordered_at,
       why = excluded.why, approved_by = NULL, approved_at = NULL;

-- name: of_migration
-- What waits for its hour, or for a second person; `late`: how many seconds ago it could have been done.
SELECT due_at, ordered_by, ordered_at, why, approved_by,
       extract(epoch FROM due_at - now())::float8 AS seconds,
       extract(epoch FROM now() - greatest(due_at, approved_at))::float8 AS late
  FROM revec.cutover_order WHERE migration_id = %(id)s;

-- name: approve
-- Only the order that the approver saw.
UPDATE revec.cutover_order SET approved_by = %(who)s, approved_at = now()
 WHERE migration_id = %(id)s AND ordered_at = %(seen)s
RETURNING migration_id;

-- name: forget
DELETE FROM revec.cutover_order WHERE migration_id = %(id)s;
