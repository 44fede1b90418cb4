-- name: nearest
-- Of vectors that stand in the query itself: nothing is stored, and none of your tables is read.
SELECT (number - 1)::int AS text
  FROM unnest(%(vectors)s::text[]) WITH ORDINALITY AS v (vector, number)
 ORDER BY vector::halfvec <=> %(query)s::halfvec LIMIT 1;
