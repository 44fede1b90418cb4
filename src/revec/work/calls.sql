-- name: admit
-- The one round trip before a pack leaves.
SELECT call, wait, next_in, denied, why
  FROM revec.admit(%(model)s, %(index)s, %(lane)s::smallint, %(inputs)s, %(tokens)s, %(tenants)s::text[],
                   %(shares)s::bigint[], %(price)s::numeric, %(reserve)s, %(now)s::timestamptz);

-- name: report
SELECT revec.report(%(call)s, %(outcome)s, %(billed)s::bigint, %(limits)s::jsonb, %(retry_after)s::float8,
                    %(why)s, %(first_rest)s, %(longest_rest)s, %(now)s::timestamptz);

-- name: met
INSERT INTO revec.provider (model) VALUES (%(model)s) ON CONFLICT DO NOTHING;

-- name: note
-- As revec.admit writes a call down, but of one that has left; the provider's row is locked first, as there.
-- A bucket may hold less than nothing afterwards: packs wait until it is filled again.
WITH met AS MATERIALIZED (
    SELECT model, clock_timestamp() AS at FROM revec.provider WHERE model = %(model)s FOR UPDATE
), drawn AS (
    UPDATE revec.quota q
       SET level = revec.bucket(q, m.at) - c.cost, at = greatest(q.at, m.at), spent = q.spent + c.cost
      FROM met m, (VALUES ('tokens', %(tokens)s::float8), ('requests', 1)) AS c (resource, cost)
     WHERE q.model = m.model AND q.resource = c.resource
    RETURNING q.resource, q.spent
)
INSERT INTO revec.call (model, lane, at, inputs, tokens, price, tenants, shares, spent_tokens, spent_requests,
                        probe)
SELECT m.model, %(lane)s, m.at, %(inputs)s, %(tokens)s, %(price)s::numeric, ARRAY[%(tenant)s::text],
       ARRAY[%(tokens)s::bigint],
       coalesce((SELECT spent FROM drawn WHERE resource = 'tokens'), 0),
       coalesce((SELECT spent FROM drawn WHERE resource = 'requests'), 0), false
  FROM met m
RETURNING id;

-- name: bill
SELECT model, inputs, tokens, price FROM revec.call WHERE id = %(call)s;

-- name: providers
-- How each model is, and what its buckets hold.
SELECT p.model, p.failures, p.rest, p.trouble, p.why, p.since,
       extract(epoch FROM p.resting_until - clock_timestamp())::float8 AS resting_seconds,
       nullif(t.capacity, 1e12) AS tokens_a_minute, t.rate * 60 AS tokens_flowing, revec.bucket(t, clock_timestamp()) AS tokens,
       nullif(r.capacity, 1e12) AS requests_a_minute, r.rate * 60 AS requests_flowing,
       revec.bucket(r, clock_timestamp()) AS requests
  FROM revec.provider p
       LEFT JOIN revec.quota t ON t.model = p.model AND t.resource = 'tokens'
       LEFT JOIN revec.quota r ON r.model = p.model AND r.resource = 'requests'
 ORDER BY p.model;

-- name: resting
-- Models that have failed and not answered since, and that something waits for.
SELECT p.model, p.rest, p.why, p.trouble,
       greatest(0, extract(epoch FROM p.resting_until - clock_timestamp()))::float8 AS seconds
  FROM revec.provider p
 WHERE p.resting_until IS NOT NULL AND EXISTS (
    SELECT FROM revec.index i JOIN revec.space s ON s.id = i.space_id
     WHERE i.writing AND i.fault IS NULL AND p.model = (s.recipe->>'provider') || ':' || (s.recipe->>'model')
       AND (%(collection)s::int IS NULL OR i.collection_id = %(collection)s)
       AND EXISTS (SELECT FROM revec.work w WHERE w.index_id = i.id))
 ORDER BY p.model;

-- name: reset
-- A person says that it is mended.
UPDATE revec.provider
   SET failures = 0, rest = 0, resting_until = NULL, probe_until = NULL, trouble = NULL, why = NULL, since = NULL
 WHERE (%(model)s::text IS NULL OR model = %(model)s) AND resting_until IS NOT NULL
RETURNING model, why;

-- name: declare
-- What a person knows of a provider's limit, a minute. The bucket starts low: who knows who else drew on it.
INSERT INTO revec.quota AS q (model, resource, declared, capacity, rate, level, at)
VALUES (%(model)s, %(resource)s, %(limit)s, %(limit)s, %(limit)s / 60.0, %(limit)s * 0.15,
        coalesce(%(now)s::timestamptz, clock_timestamp()))
ON CONFLICT (model, resource) DO UPDATE
   SET declared = excluded.declared, capacity = excluded.capacity, rate = excluded.rate;

-- name: undeclare
-- Calls in flight know how much was spent when they left: the row stays, its limits are as good as none.
UPDATE revec.quota SET declared = NULL, capacity = 1e12, rate = 1e12, level = 1e12, said = NULL
 WHERE model = %(model)s AND resource = %(resource)s;

-- name: largest_pack
-- Half of what the model's bucket of tokens holds: a larger one may never be let in.
SELECT capacity / 2 AS tokens FROM revec.quota WHERE model = %(model)s AND resource = 'tokens';

-- name: spending
-- What was paid for, by model and month; calls without an answer count as billed.
SELECT date_trunc('month', at)::date AS month, model, count(*) AS calls, sum(inputs)::bigint AS inputs,
       sum(tokens)::bigint AS tokens, sum(tokens * price / 1e6)::float8 AS dollars,
       count(*) FILTER (WHERE outcome IS NULL) AS unanswered
  FROM revec.call GROUP BY 1, 2 ORDER BY 1 DESC, 2;

-- name: spending_of_tenants
-- The same by tenant; a call that was billed otherwise than counted is shared out in proportion.
SELECT s.tenant, c.model, count(*) AS calls,
       round(sum(s.share * c.tokens / greatest(c.counted, 1)))::bigint AS tokens,
       sum(s.share * c.tokens / greatest(c.counted, 1) * c.price / 1e6)::float8 AS dollars
  FROM (SELECT *, (SELECT sum(x) FROM unnest(shares) AS x) AS counted FROM revec.call) AS c
       JOIN LATERAL unnest(c.tenants, c.shares) AS s (tenant, share) ON true
       JOIN revec.index i ON i.id = c.index_id AND i.collection_id = %(collection)s
 GROUP BY 1, 2 ORDER BY dollars DESC NULLS LAST, 1 LIMIT %(limit)s;

-- name: expire
-- The ledger is kept for a year.
DELETE FROM revec.call WHERE id IN (
    SELECT id FROM revec.call WHERE at < now() - interval '1 year' ORDER BY at LIMIT 10000);
