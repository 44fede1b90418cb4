-- A share is learnt from the scores of two legs, and says nothing of any other's: it is kept by the space, by the
-- recipe of the queries, and by the language of the words. After a cutover ranks decide until somebody tunes anew;
-- after a rollback the old share counts again. Nothing that users have wrote into the table before.
DROP TABLE revec.fusion;
CREATE TABLE revec.fusion (
    collection_id integer NOT NULL REFERENCES revec.collection,
    space_id      text NOT NULL REFERENCES revec.space,
    query         jsonb NOT NULL,                        -- the query recipe
    language      text NOT NULL,                         -- of the words
    alpha         float8 CHECK (alpha BETWEEN 0 AND 1),  -- the vectors' share of the score; NULL: by ranks
    evidence      jsonb NOT NULL,                        -- what was measured when it was decided
    who           text NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection_id, space_id, query, language)
);
SELECT revec.protect('revec.fusion', 'shared');
