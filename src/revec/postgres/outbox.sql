-- name: due
-- What a webhook has not heard yet, oldest first.
SELECT o.event_id, o.attempts, e.at, e.who, e.was, e.became, e.why, e.evidence->'epoch' AS epoch,
       m.id AS migration, m.target, c.name AS collection
  FROM revec.outbox o JOIN revec.migration_event e ON e.id = o.event_id
       JOIN revec.migration m ON m.id = e.migration_id
       JOIN revec.collection c ON c.id = m.collection_id
 WHERE o.not_before <= now() ORDER BY o.event_id LIMIT %(limit)s;

-- name: heard
DELETE FROM revec.outbox WHERE event_id = %(event)s;

-- name: again
-- Later, each time after twice as long, a quarter of an hour at most.
UPDATE revec.outbox
   SET attempts = attempts + 1, trouble = %(trouble)s,
       not_before = now() + least(make_interval(secs => power(2, least(attempts, 12))), interval '15 minutes')
 WHERE event_id = %(event)s;

-- name: forget
-- Where no webhook is set nobody is to hear of what is older than this.
DELETE FROM revec.outbox o USING revec.migration_event e
 WHERE e.id = o.event_id AND e.at < now() - make_interval(secs => %(seconds)s);
