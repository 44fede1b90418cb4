-- name: pending
-- Sources with something to do. A faulted or paused one waits for a person; its changes are kept.
SELECT s.id, s.collection_id, s.name, s.mapping, s.trigger_of::text AS trigger_of, s.scan,
       s.scan_after, s.fault, s.paused_why
  FROM revec.source s
 WHERE s.mapping IS NOT NULL AND s.fault IS NULL AND s.paused_why IS NULL
   AND (s.scan IS NOT NULL OR EXISTS (SELECT FROM revec.change c WHERE c.source_id = s.id))
 ORDER BY s.id;

-- name: lock
-- One projector per source; the others find something else to do. Whoever pauses it waits for this lock,
-- so that nothing is taken after the pause was acknowledged.
SELECT scan, scan_after FROM revec.source WHERE id = %(source)s AND paused_why IS NULL
   FOR NO KEY UPDATE SKIP LOCKED;

-- name: claim
-- Taken and acknowledged in one transaction with the documents that come of it. A change without
-- keys asks for a full pass: it waits for the one under way, or that would never come to its end.
DELETE FROM revec.change WHERE id IN (
    SELECT id FROM revec.change WHERE source_id = %(source)s
       AND (%(idle)s OR old_key IS NOT NULL OR new_key IS NOT NULL)
     ORDER BY id LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED)
RETURNING old_key, new_key;

-- name: see_all_rows
-- Refuse rather than mistake a hidden row for a deleted one.
SELECT set_config('row_security', 'off', true);

-- name: see_by_policy
SELECT set_config('row_security', 'on', true);

-- name: scan
UPDATE revec.source SET scan = %(half)s, scan_after = %(after)s WHERE id = %(source)s;

-- name: fault
UPDATE revec.source SET fault = %(why)s WHERE id = %(source)s;

-- name: backlog
SELECT count(*) AS changes FROM (
    SELECT FROM revec.change c JOIN revec.source s ON s.id = c.source_id
     WHERE s.collection_id = %(collection)s LIMIT 100000) AS waiting;
