-- name: put
-- The last second of one process; what is older than minutes goes in the same breath.
WITH old AS (
    DELETE FROM revec.traffic WHERE id IN (
        SELECT id FROM revec.traffic WHERE at < clock_timestamp() - make_interval(secs => %(kept)s)
         ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED)
)
INSERT INTO revec.traffic (index_id, epoch, requests, errors, timeouts, empties, ms)
VALUES (%(index)s, %(epoch)s, %(requests)s, %(errors)s, %(timeouts)s, %(empties)s, %(ms)s);

-- name: take
-- What nobody has counted yet, in the order in which it came; counted by this.
WITH taken AS (
    UPDATE revec.traffic SET counted = true
     WHERE id IN (SELECT id FROM revec.traffic WHERE index_id = %(index)s AND NOT counted
                   ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED)
 RETURNING id, index_id, epoch, requests, errors, timeouts, empties, ms
)
SELECT index_id, epoch, requests, errors, timeouts, empties, ms FROM taken ORDER BY id;

-- name: lately
-- All of one index in the last seconds, and how long a time that covers.
SELECT coalesce(sum(requests), 0)::bigint AS requests, coalesce(sum(errors), 0)::bigint AS errors,
       coalesce(sum(timeouts), 0)::bigint AS timeouts, coalesce(sum(empties), 0)::bigint AS empties,
       coalesce(extract(epoch FROM max(at) - min(at)), 0)::float8 AS seconds
  FROM revec.traffic
 WHERE index_id = %(index)s AND at > clock_timestamp() - make_interval(secs => %(seconds)s);

-- name: slow
-- The 95th percentile of the times of one index, and of how many; NULL where there are none.
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY took.ms) AS ms, count(*) AS n
  FROM revec.traffic t CROSS JOIN unnest(t.ms) AS took (ms) WHERE t.index_id = %(index)s;
