-- name: kept
-- All but the bridge itself, which may be megabytes.
SELECT version, drawn, pairs, holds, why, measure, at FROM revec.bridge WHERE migration_id = %(migration)s;

-- name: way
-- One fit of a bridge, with where it leads from; nothing where a newer one has taken its place.
SELECT m.new_index, m.old_index, b.bridge FROM revec.bridge b JOIN revec.migration m ON m.id = b.migration_id
 WHERE b.migration_id = %(migration)s AND b.version = %(version)s AND b.holds;

-- name: begin
-- The first one to come draws the sample.
INSERT INTO revec.bridge (migration_id, drawn, why) VALUES (%(migration)s, %(drawn)s, %(why)s)
ON CONFLICT DO NOTHING RETURNING migration_id;

-- name: put
-- A newer fit; only over the one that the caller saw.
UPDATE revec.bridge
   SET version = version + 1, pairs = %(pairs)s, bridge = %(bridge)s, holds = %(holds)s, why = %(why)s,
       measure = %(measure)s, at = clock_timestamp()
 WHERE migration_id = %(migration)s AND version = %(seen)s;

-- name: close
-- Needed no longer, or never again.
UPDATE revec.bridge SET bridge = NULL, holds = false, why = %(why)s
 WHERE migration_id = %(migration)s AND (holds OR bridge IS NOT NULL);

-- name: pairs
-- Documents with both vectors, counted up to so many: they are those of the index that is being filled.
SELECT count(*) AS pairs
  FROM (SELECT FROM {vectors} WHERE chunk_no = 0 LIMIT %(most)s) AS counted;
