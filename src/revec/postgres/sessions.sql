-- name: begin
-- Who logs in; sessions that are over go in the same breath.
WITH old AS (
    DELETE FROM revec.console_session WHERE hash IN (
        SELECT hash FROM revec.console_session WHERE until < clock_timestamp()
         ORDER BY until LIMIT 1000 FOR UPDATE SKIP LOCKED)
)
INSERT INTO revec.console_session (hash, key, until)
VALUES (%(hash)s, %(key)s, clock_timestamp() + make_interval(secs => %(seconds)s));

-- name: holder
-- Looked up in each request, with its key: one that is revoked now shows nothing now.
SELECT k.prefix, k.role, k.tenant, c.name AS collection, k.visible
  FROM revec.console_session s
       JOIN revec.api_key k ON k.prefix = s.key
       LEFT JOIN revec.collection c ON c.id = k.collection_id
 WHERE s.hash = %(hash)s AND s.until > clock_timestamp() AND k.revoked_at IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());

-- name: good
-- Which of these stand still: asked for all open streams at once.
SELECT s.hash
  FROM revec.console_session s JOIN revec.api_key k ON k.prefix = s.key
 WHERE s.hash = ANY (%(hashes)s) AND s.until > clock_timestamp() AND k.revoked_at IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());

-- name: leave
DELETE FROM revec.console_session WHERE hash = %(hash)s;

-- name: secret
SELECT secret FROM revec.console_secret;
