-- name: column
-- What the server says of the column and of its type.
SELECT n.nspname AS extension, t.typname AS type, a.atttypmod > 0 AS is_typed
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE a.attrelid = to_regclass(%(table)s) AND a.attname = %(vector)s AND NOT a.attisdropped;

-- name: adopt
INSERT INTO revec.adopted (index_id, source_id, path, key, key_types, vector, type, operator, writer, sampled,
                           alike, unverifiable)
VALUES (%(index)s, %(source)s, %(path)s, %(key)s, %(key_types)s, %(vector)s, %(type)s, %(operator)s, %(writer)s,
        %(sampled)s, %(alike)s, %(unverifiable)s);

-- name: of_source
-- The indexes whose ledger the projector keeps: those that are written by somebody else.
SELECT i.id FROM revec.adopted a JOIN revec.index i ON i.id = a.index_id
 WHERE a.source_id = %(source)s AND i.dropped_at IS NULL AND i.writer <> 'revec' ORDER BY i.id;

-- name: filter
SELECT coalesce(mapping->>'filter', 'true') AS filter FROM revec.source WHERE id = %(source)s;

-- name: texts
SELECT mapping->>'title' AS title, mapping->>'body' AS body FROM revec.source WHERE id = %(source)s;

-- name: current
-- What the rows say now, stamped as their documents are.
(SELECT {keys}, revec.input_hash(coalesce(({title})::text, ''), coalesce(({body})::text, '')) AS input_hash FROM {table})

-- name: read_again
-- Every row is noted with its vector; waits for the projector that is at it.
UPDATE revec.source SET scan = 'rows', scan_after = NULL WHERE id = %(source)s;

-- name: two_layers
SELECT two_layers FROM revec.installation;

-- name: ledger
-- Of which text each vector of the column is, by the document and by the row's own key. No foreign key, and
-- not unique by the row: for a moment a row that changed its tenant is two documents.
CREATE TABLE {ledger} (
    doc_id      bigint PRIMARY KEY,
    tenant      text NOT NULL,
    input_hash  bytea NOT NULL,  -- of the document's content when the vector was seen to change
    text_hash   bytea NOT NULL,  -- of the text that this space makes of it; empty: too long to be looked at
    vector_hash bytea NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT now(),
    {keys}
);

-- name: by_row
CREATE INDEX {name} ON {ledger} ({keys});

-- name: by_text
CREATE INDEX {name} ON {ledger} (text_hash);

-- name: by_tenant
CREATE INDEX {name} ON {ledger} (tenant);

-- name: protect
SELECT revec.protect(%(ledger)s::regclass, 'tenant');

-- name: view
-- The column as a table of vectors. It has its owner's rights: nobody else needs any on the user's table, which
-- keeps its grants; so the view itself shows a reader his tenant's rows only, as a policy would. Not a
-- security barrier: no search could walk the user's own graph through one. It names no column but those that
-- it needs, for as long as it is there none of these can be dropped.
CREATE OR REPLACE VIEW {vectors} AS
SELECT l.doc_id, 0 AS chunk_no, l.tenant, l.input_hash, l.text_hash, 1 AS chunk_count,
       u.own::{halfvec}({dims}) AS embedding, u.own, sha256({send}(u.own)) = l.vector_hash AS is_noted
  FROM {ledger} l JOIN (SELECT {keys}, {vector} AS own FROM {table} WHERE ({filter}) AND {fits}) AS u
       ON ({ours}) = ({theirs})
 WHERE u.own IS NOT NULL
   AND (current_user <> 'revec_reader' OR l.tenant = (SELECT current_setting('revec.tenant', true)));

-- name: made_of
-- What the view says, as it was said; the server would tell it in other words.
SELECT obj_description(to_regclass(%(vectors)s), 'pg_class') AS made_of;

-- name: note_made_of
COMMENT ON VIEW {vectors} IS {made_of};

-- name: lock_timeout
-- Searches queue behind us for no longer than this.
SELECT set_config('lock_timeout', '2s', true);

-- name: fits
{dims_of}({vector}) = {dims}

-- name: grant
GRANT SELECT ON {vectors} TO {role};

-- name: forget
-- The table is captured on, without the column.
UPDATE revec.source SET mapping = mapping - 'vector' - 'vector_hash' WHERE id = %(source)s;

-- name: drop_view
DROP VIEW IF EXISTS {vectors};

-- name: drop_ledger
DROP TABLE IF EXISTS {ledger};

-- name: note
-- What was read with the rows: a vector that changed is of the text that was there with it; one that did not
-- is of the text that it was of before.
INSERT INTO {ledger} AS l (doc_id, tenant, input_hash, text_hash, vector_hash, {ours})
SELECT d.id, d.tenant, d.input_hash, n.text_hash, n.vector_hash, {parsed}
  FROM unnest(%(keys)s::text[], %(text_hashes)b::bytea[], %(vector_hashes)b::bytea[])
       AS n (key, text_hash, vector_hash)
       JOIN revec.document d ON d.source_id = %(source)s AND d.key = n.key
 ORDER BY d.id
ON CONFLICT (doc_id) DO UPDATE
   SET input_hash = excluded.input_hash, text_hash = excluded.text_hash, vector_hash = excluded.vector_hash,
       noted_at = now()
 WHERE l.vector_hash <> excluded.vector_hash;

-- name: unnote
-- Rows whose column is empty.
DELETE FROM {ledger} l USING revec.document d
 WHERE d.source_id = %(source)s AND d.key = ANY (%(keys)s::text[]) AND l.doc_id = d.id;

-- name: behind
-- Documents that the column has no vector of their present text for.
SELECT count(*) AS documents FROM revec.document d
 WHERE d.source_id = %(source)s
   AND NOT EXISTS (SELECT FROM {ledger} l WHERE l.doc_id = d.id AND l.input_hash = d.input_hash)
   AND NOT EXISTS (SELECT FROM revec.excluded e WHERE e.index_id = %(index)s AND e.doc_id = d.id
                                                  AND e.input_hash = d.input_hash)
   AND (btrim(d.title) <> '' OR btrim(d.body) <> '');

-- name: take_over
-- From here on documents make work for it, and what is behind does so now.
WITH taken AS (
    UPDATE revec.index i SET writer = 'revec' WHERE i.id = %(index)s AND i.writer <> 'revec' RETURNING i.id
)
INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
SELECT taken.id, d.id, d.rev, 'embed', 0, d.tenant
  FROM taken JOIN revec.document d ON d.source_id = %(source)s
 WHERE NOT EXISTS (SELECT FROM {ledger} l WHERE l.doc_id = d.id AND l.input_hash = d.input_hash)
 ORDER BY d.id
ON CONFLICT DO NOTHING;

-- name: goodbye
ALTER TABLE {table} DROP COLUMN {vector};

-- name: choose
UPDATE revec.adopted SET writer = %(writer)s WHERE index_id = %(index)s;

-- name: writable
SELECT has_column_privilege(%(table)s, %(vector)s, 'UPDATE') AS may, quote_ident(current_user) AS login;

-- name: let_go
-- What was to be done for it is somebody else's now.
WITH changed AS (UPDATE revec.index SET writer = %(writer)s WHERE id = %(index)s),
     dead AS (DELETE FROM revec.dead WHERE index_id = %(index)s)
DELETE FROM revec.work WHERE index_id = %(index)s;
