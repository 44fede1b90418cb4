-- The lexical leg: what BM25 needs to know of every document, by the lexemes of Postgres' own text
-- configurations, kept exact in each tenant.

-- A text search configuration; NULL: no lexical leg.
ALTER TABLE revec.collection ADD language text DEFAULT 'english';

-- A block of a lexeme's documents, with how often each has it and how long each is. Not their finished
-- scores: those change with every document.
CREATE TABLE revec.posting (
    collection_id integer NOT NULL,
    tenant        text NOT NULL,
    lexeme        text NOT NULL,
    ids           bigint[] NOT NULL,
    tfs           smallint[] NOT NULL,
    lengths       integer[] NOT NULL,  -- in lexemes
    first_id      bigint NOT NULL,     -- of ids
    last_id       bigint NOT NULL
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX posting_of ON revec.posting (collection_id, tenant, lexeme);
-- Read whole by every search that has the lexeme: not worth unpacking each time.
ALTER TABLE revec.posting ALTER ids SET STORAGE EXTERNAL, ALTER tfs SET STORAGE EXTERNAL,
    ALTER lengths SET STORAGE EXTERNAL;

-- What the postings do not know yet: written in the document's own transaction and never changed, so that
-- no writer waits for another one. Both of old_lexemes and lexemes: an edit.
CREATE TABLE revec.unfolded (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL,
    tenant        text NOT NULL,
    doc_id        bigint NOT NULL,
    lexemes       text[],             -- NULL: the document is gone
    tfs           smallint[],
    length        integer NOT NULL DEFAULT 0,
    old_lexemes   text[],             -- NULL: it is new
    old_length    integer NOT NULL DEFAULT 0,
    at            timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE revec.unfolded SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX unfolded_of ON revec.unfolded (collection_id, tenant, id);

-- What the postings are of.
CREATE TABLE revec.lexicon (
    collection_id integer NOT NULL,
    tenant        text NOT NULL,
    documents     bigint NOT NULL DEFAULT 0,
    words         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (collection_id, tenant)
);

SELECT revec.protect('revec.posting', 'tenant'), revec.protect('revec.unfolded', 'tenant'),
       revec.protect('revec.lexicon', 'tenant');

-- A text's lexemes, how often it has each, and how many there are. A tsvector numbers 16,383 words, so a
-- long text is taken in pieces (each counts a lexeme at most 255 times); of a very long one the first million
-- characters.
CREATE FUNCTION revec.terms(language regconfig, words text,
                            OUT lexemes text[], OUT tfs smallint[], OUT length integer)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(lexeme), '{}'), coalesce(array_agg(tf), '{}'), coalesce(sum(tf), 0)::int
      FROM (SELECT u.lexeme, least(sum(cardinality(u.positions)), 32767)::smallint AS tf
              FROM generate_series(0, least(char_length(words), 1000000) / 32000) AS n,
                   unnest(to_tsvector(language, substr(words, 1 + 32000 * n, 32000))) AS u
             GROUP BY u.lexeme ORDER BY u.lexeme) AS counted
$$;

CREATE FUNCTION revec.document_words() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO revec.unfolded (collection_id, tenant, doc_id, lexemes, tfs, length)
        SELECT d.collection_id, d.tenant, d.id, t.lexemes, t.tfs, t.length
          FROM fresh d JOIN revec.collection c ON c.id = d.collection_id AND c.language IS NOT NULL
               CROSS JOIN LATERAL revec.terms(c.language::regconfig, d.title || E'\n' || d.body) AS t;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO revec.unfolded (collection_id, tenant, doc_id, lexemes, tfs, length, old_lexemes, old_length)
        SELECT d.collection_id, d.tenant, d.id, t.lexemes, t.tfs, t.length, o.lexemes, o.length
          FROM fresh d JOIN stale s ON s.id = d.id AND s.rev <> d.rev
               JOIN revec.collection c ON c.id = d.collection_id AND c.language IS NOT NULL
               CROSS JOIN LATERAL revec.terms(c.language::regconfig, d.title || E'\n' || d.body) AS t
               CROSS JOIN LATERAL revec.terms(c.language::regconfig, s.title || E'\n' || s.body) AS o;
    ELSE
        INSERT INTO revec.unfolded (collection_id, tenant, doc_id, old_lexemes, old_length)
        SELECT d.collection_id, d.tenant, d.id, o.lexemes, o.length
          FROM stale d JOIN revec.collection c ON c.id = d.collection_id AND c.language IS NOT NULL
               CROSS JOIN LATERAL revec.terms(c.language::regconfig, d.title || E'\n' || d.body) AS o;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER words_inserted AFTER INSERT ON revec.document REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_words();
CREATE TRIGGER words_updated AFTER UPDATE ON revec.document
    REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_words();
CREATE TRIGGER words_deleted AFTER DELETE ON revec.document REFERENCING OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_words();

-- The documents that were there before.
INSERT INTO revec.unfolded (collection_id, tenant, doc_id, lexemes, tfs, length)
SELECT d.collection_id, d.tenant, d.id, t.lexemes, t.tfs, t.length
  FROM revec.document d JOIN revec.collection c ON c.id = d.collection_id
       CROSS JOIN LATERAL revec.terms(c.language::regconfig, d.title || E'\n' || d.body) AS t;
