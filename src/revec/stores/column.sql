-- name: as_owner
-- Only the table's owner may write it, or who was granted that; no worker's role. `revec.column` tells our own
-- capture whose hand it is.
SELECT set_config('revec.role', current_setting('role'), true) AS was,
       set_config('role', 'none', true) AS role, set_config('revec.column', %(column)s, true) AS hand;

-- name: remove
DELETE FROM {ledger} WHERE doc_id = ANY (%(ids)b::bigint[]);

-- name: as_before
SELECT set_config('role', current_setting('revec.role'), true) AS role, set_config('revec.column', '', true) AS hand;

-- name: may_be_silent
-- Whether this login may write without waking any trigger.
SELECT has_parameter_privilege(current_user, 'session_replication_role', 'SET') AS may;

-- name: silent
SELECT set_config('session_replication_role', 'replica', true) AS silent;

-- name: loud
SELECT set_config('session_replication_role', 'origin', true) AS loud;

-- name: lock
-- A row that its user is changing is not waited for: it is about to be another one. Another source's document
-- is of no row here, whatever its key.
SELECT d.id FROM {table} u JOIN revec.document d ON ({theirs}) = ({parsed})
 WHERE d.id = ANY (%(ids)b::bigint[]) AND d.source_id = %(source)s ORDER BY d.id FOR NO KEY UPDATE OF u
   SKIP LOCKED;

-- name: write
-- The column of these rows, which are locked by now, and what the ledger says of them. Only where a row still
-- says what was embedded: its document may be behind it. A row that is gone takes its document with it as soon
-- as the projector comes by.
WITH given AS (
    SELECT n.*, d.key FROM unnest(%(doc_ids)b::bigint[], %(tenants)s::text[], %(input_hashes)b::bytea[],
                                  %(text_hashes)b::bytea[], %(embeddings)b::halfvec[])
                AS n (doc_id, tenant, input_hash, text_hash, embedding)
           JOIN revec.document d ON d.id = n.doc_id AND d.source_id = %(source)s
           JOIN {current} AS c ON ({ours}) = ({parsed}) AND c.input_hash = n.input_hash
), written AS (
    UPDATE {table} AS u SET {vector} = d.embedding::{type}
      FROM given d WHERE ({theirs}) = ({parsed})
 RETURNING d.doc_id, d.tenant, d.input_hash, d.text_hash, sha256({send}(u.{vector})), {theirs}
)
INSERT INTO {ledger} (doc_id, tenant, input_hash, text_hash, vector_hash, {ours})
SELECT * FROM written
ON CONFLICT (doc_id) DO UPDATE
   SET tenant = excluded.tenant, input_hash = excluded.input_hash, text_hash = excluded.text_hash,
       vector_hash = excluded.vector_hash, noted_at = now()
RETURNING doc_id;

-- name: sample
-- Of vectors that are still the ones of which the ledger speaks.
SELECT doc_id, text_hash, embedding FROM {vectors}
 WHERE is_noted AND doc_id IN (SELECT doc_id FROM {counted} ORDER BY random() LIMIT %(size)s);

-- name: sample_blocks
SELECT doc_id, text_hash, embedding FROM {vectors}
 WHERE is_noted AND doc_id IN (SELECT doc_id FROM {counted} TABLESAMPLE SYSTEM (%(percent)s)
                                ORDER BY random() LIMIT %(size)s);

-- name: some
SELECT doc_id FROM {counted} ORDER BY random() LIMIT %(size)s;

-- name: some_blocks
SELECT doc_id FROM {counted} TABLESAMPLE SYSTEM (%(percent)s) ORDER BY random() LIMIT %(size)s;
