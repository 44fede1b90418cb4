-- name: kept
-- All but the bridge itself, which may be megabytes.
SELECT version, cardinality(drawn) AS drawn, pairs, counted, holds, why, measure, at FROM revec.bridge WHERE migration_id = %(migration)s;

-- name: drawn
-- By what it is measured; nothing where it never will be.
SELECT drawn FROM revec.bridge WHERE migration_id = %(migration)s;

-- name: way
-- One fit of a bridge, with where it leads from; nothing where a newer one has taken its place.
SELECT m.new_index, m.old_index, b.bridge FROM revec.bridge b JOIN revec.migration m ON m.id = b.migration_id
 WHERE b.migration_id = %(migration)s AND b.version = %(version)s AND b.holds;

-- name: begin
-- The first one to come draws the sample.
INSERT INTO revec.bridge (migration_id, drawn, why) VALUES (%(migration)s, %(drawn)b::bigint[], %(why)s)
ON CONFLICT DO NOTHING RETURNING migration_id;

-- name: put
-- A newer fit; only over the one that the caller saw.
UPDATE revec.bridge
   SET version = version + 1, pairs = %(pairs)s, counted = %(counted)s, bridge = %(bridge)s, holds = %(holds)s,
       why = %(why)s, measure = %(measure)s, at = clock_timestamp()
 WHERE migration_id = %(migration)s AND version = %(seen)s;

-- name: close
-- Needed no longer, or never again: nothing is fitted any more, and a fit under way has come too late.
UPDATE revec.bridge SET version = version + 1, drawn = '{}', bridge = NULL, holds = false, why = %(why)s
 WHERE migration_id = %(migration)s;

-- name: counted
-- Documents of the index that is being filled, counted up to so many: hardly one has no old vector.
SELECT count(*) AS documents
  FROM (SELECT FROM {vectors} WHERE chunk_no = 0 LIMIT %(most)s) AS counted;
