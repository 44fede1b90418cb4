-- name: probe_text
-- Some document's words, for a probe query.
SELECT left(coalesce(nullif(title, ''), body), 200) AS text FROM revec.document
 WHERE collection_id = %(collection)s AND coalesce(nullif(title, ''), body) <> '' LIMIT 1;
