-- name: waiting
-- What waits in each lane.
SELECT lane, count(*) AS open, greatest(extract(epoch FROM clock_timestamp() - min(since)), 0)::float AS oldest
  FROM revec.work WHERE index_id = %(index)s GROUP BY lane;
