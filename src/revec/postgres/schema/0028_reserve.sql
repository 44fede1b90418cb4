-- Some buckets hold less than a minute's worth (a provider that counts by the second). What is kept for more
-- urgent lanes is a share of what the bucket was ever seen to hold: a share of a minute's worth may be more
-- than all of it, and then nothing but a prediction that is too high lets a backfill through.
CREATE OR REPLACE FUNCTION revec.until_affordable(
    of_model text, want_tokens float8, reserve float8, moment timestamptz)
RETURNS float8 LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(greatest(0, (least(w.want + reserve * w.holds, q.capacity * 0.999)
                                     - revec.bucket(q, moment)) / q.rate)), 0)
      FROM revec.quota q,
           LATERAL (SELECT CASE q.resource WHEN 'tokens' THEN want_tokens ELSE 1 END,
                           CASE WHEN q.fullest > 0 THEN least(q.capacity, q.fullest) ELSE q.capacity END)
                   AS w (want, holds)
     WHERE q.model = of_model
$$;
