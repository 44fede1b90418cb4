-- name: create
INSERT INTO revec.collection (name) VALUES (%(name)s) ON CONFLICT (name) DO NOTHING RETURNING id, name;

-- name: create_route
INSERT INTO revec.route (collection_id) VALUES (%(collection)s) ON CONFLICT DO NOTHING;

-- name: named
SELECT id, name FROM revec.collection WHERE name = %(name)s;

-- name: by_id
SELECT id, name FROM revec.collection WHERE id = %(id)s;

-- name: all
-- Estimated where a count would read every document.
SELECT c.id, c.name, r.serving, r.epoch, coalesce(c.language, 'none') AS language, c.write_mode AS mode,
       (SELECT count(*) FROM revec.source s WHERE s.collection_id = c.id) AS sources, f.alpha
  FROM revec.collection c LEFT JOIN revec.route r ON r.collection_id = c.id
       LEFT JOIN revec.index i ON i.id = r.serving
       LEFT JOIN revec.fusion f ON f.collection_id = c.id AND f.space_id = i.space_id AND f.query = i.query
                               AND f.language = c.language
 ORDER BY c.name;

-- name: write_mode
SELECT write_mode FROM revec.collection WHERE id = %(collection)s;

-- name: set_write_mode
UPDATE revec.collection SET write_mode = %(mode)s WHERE id = %(collection)s;

-- name: column_of_another
-- An adopted column that is written still: it has rows of one source.
SELECT array_to_string(a.path, '.') || '.' || a.vector AS column
  FROM revec.adopted a JOIN revec.index i ON i.id = a.index_id AND i.writing
       JOIN revec.source s ON s.id = a.source_id
 WHERE i.collection_id = %(collection)s AND s.name <> %(name)s LIMIT 1;

-- name: add_source
INSERT INTO revec.source (collection_id, name, mapping, trigger_of, scan)
VALUES (%(collection)s, %(name)s, %(mapping)s, %(trigger_of)s, %(scan)s)
ON CONFLICT (collection_id, name) DO UPDATE
   SET mapping = excluded.mapping, trigger_of = excluded.trigger_of, fault = NULL,
       -- A changed mapping changes every document: read them all again.
       scan = CASE WHEN source.mapping IS DISTINCT FROM excluded.mapping THEN 'rows' ELSE source.scan END,
       scan_after = CASE WHEN source.mapping IS DISTINCT FROM excluded.mapping THEN NULL
                    ELSE source.scan_after END
RETURNING id;

-- name: sources
SELECT s.id, s.collection_id, s.name, s.mapping, s.trigger_of::text AS trigger_of, s.scan,
       s.scan_after, s.fault, s.paused_why
  FROM revec.source s WHERE s.collection_id = %(collection)s ORDER BY s.id;

-- name: pause_source
-- Its changes stay where they are from here on. Waits for the projector that is at it.
UPDATE revec.source SET paused_why = %(why)s WHERE id = %(source)s;

-- name: tenants
-- The collection's tenants, by a loose scan of the cursor index; at most 20.
WITH RECURSIVE tenants AS (
    (SELECT tenant, 1 AS n FROM revec.document WHERE collection_id = %(collection)s
      ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT d.tenant FROM revec.document d
             WHERE d.collection_id = %(collection)s AND d.tenant > t.tenant
             ORDER BY d.tenant LIMIT 1), t.n + 1
      FROM tenants t WHERE t.tenant IS NOT NULL AND t.n < 20
)
SELECT tenant FROM tenants WHERE tenant IS NOT NULL;

-- name: unread
-- Sources whose rows are not all documents yet.
SELECT name, coalesce(fault, name || ' is paused: ' || paused_why, name || ' is being read') AS why
  FROM revec.source
 WHERE collection_id = %(collection)s
   AND (fault IS NOT NULL OR paused_why IS NOT NULL OR scan IS NOT NULL) LIMIT 1;
