-- name: condemn
-- Due tombstones of one index: from this commit on no write may refer to these points. Whoever comes later while
-- they are being deleted leaves them alone, until the lease has run out.
UPDATE revec.tombstone t SET condemned = true, due = now() + make_interval(secs => %(lease)s)
 WHERE t.index_id = %(index)s
   AND t.point_id = ANY (ARRAY (SELECT d.point_id FROM revec.tombstone d
                                 WHERE d.index_id = %(index)s AND d.due <= now()
                                 ORDER BY d.due LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING t.point_id, t.due;

-- name: forget
-- They are gone from the store. Not those that somebody has buried again meanwhile: he had put them again.
DELETE FROM revec.tombstone
 WHERE index_id = %(index)s AND point_id = ANY (%(points)s::uuid[]) AND due = %(due)s;

-- name: due_sweep
-- Ours for this page; nothing where another worker is at it, or it is not time.
INSERT INTO revec.sweep AS s (index_id, due) VALUES (%(index)s, now() + make_interval(secs => %(every)s))
ON CONFLICT (index_id) DO UPDATE SET due = now() + make_interval(secs => %(lease)s) WHERE s.due <= now()
RETURNING after, xmax = 0 AS first;

-- name: swept
UPDATE revec.sweep
   SET after = %(after)s, due = now() + make_interval(secs => %(wait)s),
       found = %(found)s + CASE WHEN %(first)s THEN 0 ELSE found END
 WHERE index_id = %(index)s;
