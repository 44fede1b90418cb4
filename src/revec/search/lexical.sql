-- name: search
-- BM25 as Lucene has it (Robertson and Zaragoza, 2009, with an idf that is never negative). What is unfolded
-- hides its documents' postings, so numbers of documents and lengths are exact at every moment.
WITH asked AS MATERIALIZED (
    SELECT u.lexeme, u.tf AS weight
      FROM revec.collection c CROSS JOIN LATERAL revec.terms(c.language::regconfig, %(words)s) AS t
           CROSS JOIN LATERAL unnest(t.lexemes, t.tfs) AS u (lexeme, tf)
     WHERE c.id = %(collection)s AND c.language IS NOT NULL
), unfolded AS MATERIALIZED (
    SELECT id, doc_id, lexemes, tfs, length, old_lexemes, old_length FROM revec.unfolded
     WHERE collection_id = %(collection)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
), recent AS MATERIALIZED (
    SELECT DISTINCT ON (doc_id) doc_id, lexemes, tfs, length FROM unfolded ORDER BY doc_id, id DESC
), blocks AS MATERIALIZED (
    SELECT lexeme, ids, tfs, lengths FROM revec.posting
     WHERE collection_id = %(collection)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
       AND lexeme = ANY (ARRAY(SELECT lexeme FROM asked))
), size AS MATERIALIZED (
    SELECT documents, %(k1)s::float8 * (1 - %(b)s::float8) AS flat,
           %(k1)s::float8 * %(b)s::float8 / (greatest(words, 1) / greatest(documents, 1)) AS slope
      FROM (SELECT sum(documents)::float8 AS documents, sum(words)::float8 AS words
              FROM (SELECT documents, words FROM revec.lexicon
                     WHERE collection_id = %(collection)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
                    UNION ALL
                    SELECT count(lexemes) - count(old_lexemes), sum(length - old_length) FROM unfolded) AS parts) AS sums
), worth AS MATERIALIZED (  -- of a lexeme; its documents are counted without being looked at
    SELECT lexeme, asked.weight * ln(1 + (size.documents - n + 0.5) / (n + 0.5)) AS worth
      FROM (SELECT lexeme, sum(n)::float8 AS n
              FROM (SELECT lexeme, cardinality(ids) AS n FROM blocks
                    UNION ALL SELECT unnest(lexemes), 1 FROM unfolded
                    UNION ALL SELECT unnest(old_lexemes), -1 FROM unfolded) AS counts
             GROUP BY lexeme) AS n JOIN asked USING (lexeme) CROSS JOIN size
), found AS (  -- joined by the block and weighed at once: a posting passes through as few steps as there may be
    SELECT p.doc_id, p.worth * p.tf / (p.tf + (SELECT flat FROM size) + (SELECT slope FROM size) * p.length) AS score
      FROM (SELECT worth, unnest(ids) AS doc_id, unnest(tfs) AS tf, unnest(lengths) AS length
              FROM blocks JOIN worth USING (lexeme)) AS p
     WHERE NOT EXISTS (SELECT FROM recent WHERE recent.doc_id = p.doc_id)
    UNION ALL
    SELECT recent.doc_id,
           worth.worth * u.tf / (u.tf + (SELECT flat FROM size) + (SELECT slope FROM size) * recent.length)
      FROM recent CROSS JOIN LATERAL unnest(recent.lexemes, recent.tfs) AS u (lexeme, tf)
           JOIN worth ON worth.lexeme = u.lexeme
)
SELECT v.doc_id, sum(v.score) AS score
  FROM found v
 WHERE {matching}
 GROUP BY v.doc_id ORDER BY score DESC, v.doc_id LIMIT %(limit)s;

-- name: waiting
-- Tenants with something unfolded, by a loose scan of its index; those who waited longest first.
WITH RECURSIVE walk AS (
    (SELECT collection_id, tenant, id, at FROM revec.unfolded ORDER BY collection_id, tenant, id LIMIT 1)
    UNION ALL
    SELECT u.* FROM walk CROSS JOIN LATERAL (
        SELECT collection_id, tenant, id, at FROM revec.unfolded
         WHERE (collection_id, tenant) > (walk.collection_id, walk.tenant)
         ORDER BY collection_id, tenant, id LIMIT 1) AS u
)
SELECT collection_id, tenant FROM walk
 WHERE at < now() - make_interval(secs => %(age)s) ORDER BY id LIMIT %(limit)s;

-- name: share
-- The barrier's shared side: nothing is forgotten or read anew meanwhile.
SELECT pg_advisory_xact_lock_shared(hashtextextended('revec.document', 0));

-- name: claim
-- One at a time; the others find another tenant.
SELECT pg_try_advisory_xact_lock(hashtextextended('revec.lexicon ' || %(tenant)s, %(collection)s)) AS ours;

-- name: begin
INSERT INTO revec.lexicon (collection_id, tenant) VALUES (%(collection)s, %(tenant)s) ON CONFLICT DO NOTHING;

-- name: fold
-- The oldest rows of a tenant into its postings. Blocks are read that have room, or that may hold a document
-- that changed; what comes out is cut anew, in the order of ids, so that each has a range of its own.
WITH taken AS MATERIALIZED (
    DELETE FROM revec.unfolded WHERE id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER older AS n,
                   sum(coalesce(cardinality(lexemes), 0) + coalesce(cardinality(old_lexemes), 0)) OVER older AS size
              FROM (SELECT id, lexemes, old_lexemes FROM revec.unfolded
                     WHERE collection_id = %(collection)s AND tenant = %(tenant)s
                     ORDER BY id LIMIT %(documents)s) AS oldest
            WINDOW older AS (ORDER BY id)) AS summed
         WHERE size <= %(lexemes)s OR n = 1)
    RETURNING *
), gone AS MATERIALIZED (
    SELECT u.lexeme, d.doc_id
      FROM (SELECT DISTINCT ON (doc_id) doc_id, old_lexemes FROM taken ORDER BY doc_id, id) AS d,
           unnest(d.old_lexemes) AS u (lexeme)
), come AS MATERIALIZED (
    SELECT u.lexeme, d.doc_id, u.tf, d.length
      FROM (SELECT DISTINCT ON (doc_id) doc_id, lexemes, tfs, length FROM taken ORDER BY doc_id, id DESC) AS d,
           unnest(d.lexemes, d.tfs) AS u (lexeme, tf)
), touched AS MATERIALIZED (
    SELECT lexeme, array_agg(gone.doc_id) FILTER (WHERE gone.doc_id IS NOT NULL) AS gone
      FROM (SELECT DISTINCT lexeme FROM come) AS c FULL JOIN gone USING (lexeme) GROUP BY lexeme
), opened AS MATERIALIZED (
    DELETE FROM revec.posting p USING touched t
     WHERE p.collection_id = %(collection)s AND p.tenant = %(tenant)s AND p.lexeme = t.lexeme
       AND (cardinality(p.ids) < %(block)s / 2
            OR EXISTS (SELECT FROM unnest(t.gone) AS g WHERE g BETWEEN p.first_id AND p.last_id))
    RETURNING p.lexeme, p.ids, p.tfs, p.lengths
), numbered AS (
    SELECT lexeme, doc_id, tf, length, row_number() OVER (PARTITION BY lexeme ORDER BY doc_id) - 1 AS n
      FROM (SELECT o.lexeme, u.doc_id, u.tf, u.length
              FROM opened o, unnest(o.ids, o.tfs, o.lengths) AS u (doc_id, tf, length)
             WHERE NOT EXISTS (SELECT FROM gone WHERE gone.lexeme = o.lexeme AND gone.doc_id = u.doc_id)
            UNION ALL
            SELECT * FROM come) AS postings
), written AS (
    INSERT INTO revec.posting (collection_id, tenant, lexeme, ids, tfs, lengths, first_id, last_id)
    SELECT %(collection)s, %(tenant)s, lexeme, array_agg(doc_id ORDER BY n), array_agg(tf ORDER BY n),
           array_agg(length ORDER BY n), min(doc_id), max(doc_id)
      FROM numbered GROUP BY lexeme, n / %(block)s
)
UPDATE revec.lexicon l SET documents = l.documents + t.documents, words = l.words + t.words
  FROM (SELECT count(lexemes) - count(old_lexemes) AS documents,
               coalesce(sum(length - old_length), 0) AS words, count(*) AS n FROM taken) AS t
 WHERE l.collection_id = %(collection)s AND l.tenant = %(tenant)s
RETURNING t.n AS folded;

-- name: set_language
UPDATE revec.collection SET language = %(language)s WHERE id = %(collection)s
   AND language IS DISTINCT FROM %(language)s RETURNING id;

-- name: known
SELECT %(language)s::text::regconfig;

-- name: languages
SELECT cfgname AS language FROM pg_ts_config ORDER BY pg_ts_config_is_visible(oid) DESC, cfgname;

-- name: forget
-- All that is known of a collection's words; its writers wait behind the barrier.
WITH p AS (DELETE FROM revec.posting WHERE collection_id = %(collection)s),
     u AS (DELETE FROM revec.unfolded WHERE collection_id = %(collection)s)
DELETE FROM revec.lexicon WHERE collection_id = %(collection)s;

-- name: read_anew
-- As if every document had just come.
INSERT INTO revec.unfolded (collection_id, tenant, doc_id, lexemes, tfs, length)
SELECT d.collection_id, d.tenant, d.id, t.lexemes, t.tfs, t.length
  FROM revec.document d JOIN revec.collection c ON c.id = d.collection_id AND c.language IS NOT NULL
       CROSS JOIN LATERAL revec.terms(c.language::regconfig, d.title || E'\n' || d.body) AS t
 WHERE d.collection_id = %(collection)s;
