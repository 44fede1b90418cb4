-- name: limits
-- What the model's buckets hold now, and what flows back in a second; those that nobody knows are as good as none.
SELECT resource, revec.bucket(q, clock_timestamp()) AS level, q.capacity, q.rate FROM revec.quota q
 WHERE q.model = %(model)s AND q.resource IN ('tokens', 'requests') AND q.capacity < 1e12;

-- name: speed
-- Tokens a second of the model's last backfills: between one answer and the next, a pause counts for little.
SELECT sum(tokens)::float8 AS tokens,
       sum(least(extract(epoch FROM answered_at - coalesce(before, at)), %(pause)s))::float8 AS seconds
  FROM (SELECT tokens, at, answered_at, lag(answered_at) OVER (ORDER BY answered_at) AS before
          FROM (SELECT tokens, at, answered_at FROM revec.call
                 WHERE model = %(model)s AND lane = %(lane)s AND outcome = 'ok'
                 ORDER BY id DESC LIMIT 2000) AS lately) AS answers
HAVING count(*) >= 5;
