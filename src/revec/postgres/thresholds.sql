-- name: kept
SELECT space_id, value, carried_from, evidence FROM revec.threshold WHERE collection_id = %(collection)s;

-- name: keep
INSERT INTO revec.threshold AS t (collection_id, space_id, value, carried_from, evidence)
VALUES (%(collection)s, %(space)s, %(value)s, %(carried_from)s, %(evidence)s)
ON CONFLICT (collection_id, space_id) DO UPDATE
   SET value = excluded.value, carried_from = excluded.carried_from, evidence = excluded.evidence, at = now();
