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

-- name: revoke
UPDATE revec.api_key SET revoked_at = coalesce(revoked_at, clock_timestamp())
 WHERE prefix = %(prefix)s RETURNING prefix;
