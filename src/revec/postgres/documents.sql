-- name: lock_source
-- One writer per source at a time: an older reading never overwrites a newer one.
SELECT id FROM revec.source WHERE id = %(source)s FOR NO KEY UPDATE;

-- name: leave_tenant
-- A document that changed its tenant leaves for good; the upsert makes another in the new one.
DELETE FROM revec.document d
 USING unnest(%(keys)s::text[], %(tenants)s::text[]) AS n (key, tenant)
 WHERE d.source_id = %(source)s AND d.key = n.key AND d.tenant <> n.tenant;

-- name: handed_in
-- Rows for the upsert that came with the statement.
unnest(%(keys)s::text[], %(tenants)s::text[], %(titles)s::text[], %(bodies)s::text[],
       %(metadata)s::text[]) AS n (key, tenant, title, body, metadata)

-- name: moved
-- Rows for the upsert out of a table's own: their texts never leave the server. One that has changed its
-- tenant since it was looked at has a change of its own to come.
(SELECT t.key, t.tenant, t.title, t.body, t.metadata
   FROM ({rows}) AS t JOIN unnest(%(keys)s::text[], %(tenants)s::text[]) AS seen (key, tenant)
        USING (key, tenant)
  WHERE t.kept) AS n

-- name: upsert
-- An unchanged document is not touched at all.
INSERT INTO revec.document AS d (collection_id, source_id, key, tenant, title, body, metadata)
SELECT s.collection_id, s.id, n.key, n.tenant, n.title, n.body, n.metadata::jsonb
  FROM {rows}, revec.source s
 WHERE s.id = %(source)s
 ORDER BY n.key
ON CONFLICT (source_id, key) DO UPDATE
   SET title = excluded.title, body = excluded.body, metadata = excluded.metadata
 WHERE (d.title, d.body, d.metadata) IS DISTINCT FROM (excluded.title, excluded.body, excluded.metadata);

-- name: delete_keys
DELETE FROM revec.document
 WHERE source_id = %(source)s AND key = ANY (%(keys)s::text[])
   AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
RETURNING key, id;

-- name: foreign
-- Ids that are taken by another tenant.
SELECT key FROM revec.document
 WHERE source_id = %(source)s AND key = ANY (%(keys)s::text[]) AND tenant <> %(tenant)s
 ORDER BY key LIMIT 1;

-- name: ids_of
SELECT key, id FROM revec.document WHERE source_id = %(source)s AND key = ANY (%(keys)s::text[]);

-- name: one
-- One document by its identity, as its tenant and the caller see it.
SELECT d.key, d.title, d.body, d.tenant, d.metadata, d.changed_at, s.name AS source
  FROM revec.document d JOIN revec.source s ON s.id = d.source_id
 WHERE s.collection_id = %(collection)s AND s.name = %(source)s AND d.key = %(key)s
   AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s) AND {matching};

-- name: ids_of_hits
-- The documents behind hits, for what only operators ask of them.
SELECT d.id AS doc_id, d.key, s.name AS source
  FROM unnest(%(sources)s::text[], %(keys)s::text[]) AS n (source, key)
       JOIN revec.source s ON s.collection_id = %(collection)s AND s.name = n.source
       JOIN revec.document d ON d.source_id = s.id AND d.key = n.key
 WHERE (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s) AND {matching};

-- name: keys_after
-- The source's documents in the order of their keys, for the second half of a full pass.
SELECT key FROM revec.document
 WHERE source_id = %(source)s AND (%(after)s::text IS NULL OR key > %(after)s)
 ORDER BY key LIMIT %(limit)s;

-- name: measured
-- How long the texts are; the server need not read them for it, and they do not travel.
SELECT id AS doc_id, octet_length(title) + octet_length(body) AS size, input_hash FROM revec.document
 WHERE id = ANY (%(ids)b::bigint[]);

-- name: sampled
-- At even steps through the collection's ids the next document there, each by one look at the index.
SELECT DISTINCT d.id AS doc_id, octet_length(d.title) + octet_length(d.body) AS size, d.input_hash
  FROM (SELECT min(id) AS first, max(id) AS last FROM revec.document
         WHERE collection_id = %(collection)s::int) AS ids,
       generate_series(1, %(size)s::int) AS n,
       LATERAL (SELECT id, title, body, input_hash FROM revec.document
                 WHERE collection_id = %(collection)s::int
                   AND id >= ids.first + (n - 1) * (ids.last - ids.first) / greatest(%(size)s::int - 1, 1)
                 ORDER BY id LIMIT 1) AS d;

-- name: contents
-- The texts of documents that were measured and have not changed since.
SELECT d.id AS doc_id, d.tenant, d.title, d.body, d.input_hash FROM revec.document d
  JOIN unnest(%(ids)b::bigint[], %(hashes)b::bytea[]) AS n (id, input_hash) USING (id)
 WHERE d.input_hash = n.input_hash AND d.id = ANY (%(ids)b::bigint[]);

-- name: lock_current
-- The fence: only documents that still have the content that was claimed, held so until commit.
-- Busy ones are skipped, not waited for: they are about to change.
SELECT d.id FROM revec.document d
  JOIN unnest(%(ids)b::bigint[], %(hashes)b::bytea[]) AS n (id, input_hash) USING (id)
 WHERE d.input_hash = n.input_hash AND d.id = ANY (%(ids)b::bigint[])
 ORDER BY d.id
   FOR SHARE OF d SKIP LOCKED;

-- name: hydrate
-- Whatever a leg found: only what is there now, is the tenant's, and is let through by the filter, is shown.
-- The contents in the order of the ids, as far as there is room (bytes).
SELECT d.id AS doc_id, d.key, d.title, d.tenant, s.name AS source,
       CASE WHEN %(room)s::bigint > 0
             AND sum(octet_length(d.body) + octet_length(d.metadata::text)) OVER so_far <= %(room)s::bigint
            THEN jsonb_build_object('text', d.body, 'metadata', d.metadata) END AS contents
  FROM revec.document d JOIN revec.source s ON s.id = d.source_id
 WHERE d.id = ANY (%(ids)b::bigint[])
   AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s) AND {matching}
WINDOW so_far AS (ORDER BY array_position(%(ids)b::bigint[], d.id));

-- name: of_key
-- Documents of this key, one a source at most.
SELECT d.id AS doc_id, s.name AS source
  FROM revec.source s JOIN revec.document d ON d.source_id = s.id AND d.key = %(key)s
 WHERE s.collection_id = %(collection)s AND (%(source)s::text IS NULL OR s.name = %(source)s)
   AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s) AND {matching}
 ORDER BY s.name;

-- name: mates
-- Documents of the same tenant by chance: each is one look at the index.
SELECT DISTINCT d.id AS doc_id
  FROM (SELECT min(id) AS first, max(id) AS last FROM revec.document
         WHERE collection_id = %(collection)s AND tenant = %(tenant)s) AS ids,
       unnest(%(chances)s::float8[]) AS chance,
       LATERAL (SELECT id FROM revec.document
                 WHERE collection_id = %(collection)s AND tenant = %(tenant)s
                   AND id >= ids.first + floor(chance * (ids.last - ids.first + 1))::bigint
                 ORDER BY id LIMIT 1) AS d;

-- name: last_rev
-- The horizon: what was drawn so far.
SELECT last_value AS rev FROM revec.rev;

-- name: count
SELECT count(*) AS documents FROM revec.document WHERE collection_id = %(collection)s;

-- name: largest_tenant
SELECT coalesce(max(n), 0) AS documents FROM (
    SELECT count(*) AS n FROM revec.document WHERE collection_id = %(collection)s GROUP BY tenant
) AS tenants;
