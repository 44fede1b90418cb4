-- name: take
-- Mine if it was mine or has run out.
INSERT INTO revec.lease AS l (name, holder, until)
VALUES (%(name)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
 WHERE l.holder = excluded.holder OR l.until < now()
RETURNING holder;

-- name: give_back
DELETE FROM revec.lease WHERE name = %(name)s AND holder = %(holder)s;
