-- name: billed
-- What a model billed of the tokens that were counted before, over its last calls.
SELECT sum(tokens)::float8 / nullif(sum(counted), 0) AS share
  FROM (SELECT tokens, (SELECT sum(x) FROM unnest(shares) AS x) AS counted FROM revec.call
         WHERE model = %(model)s AND outcome = 'ok' ORDER BY id DESC LIMIT 500) AS lately
HAVING sum(counted) > 1000;
