-- name: everything
true

-- name: one_of
-- Containment compares by JSON type; of a list, one element is enough. Without the field it is NULL: no match.
coalesce((d.metadata -> {field}::text) @> ANY ({values}::jsonb[]), false)

-- name: in_range
-- Numbers as numbers, texts by code point whatever the collation; of another type, or missing: no match.
jsonb_path_exists(CASE jsonb_typeof(d.metadata -> {field}::text) WHEN 'array' THEN d.metadata -> {field}::text
                  ELSE jsonb_build_array(d.metadata -> {field}::text) END,
                  {path}::jsonpath, jsonb_build_object('value', {value}::jsonb))

-- name: negation
NOT ({part})

-- name: group
({parts})

-- name: of_live_document
EXISTS (SELECT FROM revec.document d WHERE d.id = v.doc_id AND {matching})
