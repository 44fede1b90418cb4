-- name: there_is
-- Whether the index is still there, whatever its store says.
SELECT to_regclass(%(vectors)s) IS NOT NULL AS there_is;
