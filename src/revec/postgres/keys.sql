-- name: create
INSERT INTO revec.api_key (prefix, hash, role, tenant, collection_id, visible, created_by, expires_at)
VALUES (%(prefix)s, %(hash)s, %(role)s, %(tenant)s, %(collection)s, %(visible)s, %(by)s,
        now() + make_interval(secs => %(seconds)s));

-- name: holder
-- Looked up in each request, so that a key which is revoked now opens nothing now.
SELECT k.prefix, k.role, k.tenant, c.name AS collection, k.visible
  FROM revec.api_key k LEFT JOIN revec.collection c ON c.id = k.collection_id
 WHERE k.hash = %(hash)s AND k.revoked_at IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());

-- name: all
SELECT k.prefix, k.role, k.tenant, c.name AS collection, k.visible, k.created_by, k.created_at, k.expires_at,
       k.revoked_at,
       CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked'
            WHEN k.expires_at <= clock_timestamp() THEN 'expired' ELSE 'good' END AS state
  FROM revec.api_key k LEFT JOIN revec.collection c ON c.id = k.collection_id
 ORDER BY k.created_at, k.prefix;

-- name: page
-- The newest first, from where the last page ended.
SELECT k.prefix, k.role, k.tenant, c.name AS collection, k.visible, k.created_by, k.created_at, k.expires_at,
       k.revoked_at, k.revoked_by,
       CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked'
            WHEN k.expires_at <= clock_timestamp() THEN 'expired' ELSE 'good' END AS state
  FROM revec.api_key k LEFT JOIN revec.collection c ON c.id = k.collection_id
 WHERE %(before)s::text IS NULL
    OR (k.created_at, k.prefix) < (SELECT b.created_at, b.prefix FROM revec.api_key b WHERE b.prefix = %(before)s)
 ORDER BY k.created_at DESC, k.prefix DESC LIMIT %(limit)s;

-- name: revoke
-- Once: a second word changes neither when nor who.
UPDATE revec.api_key
   SET revoked_by = CASE WHEN revoked_at IS NULL THEN %(by)s ELSE revoked_by END,
       revoked_at = coalesce(revoked_at, clock_timestamp())
 WHERE prefix = %(prefix)s RETURNING prefix;
