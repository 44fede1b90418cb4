-- How a collection's two legs become one list, where somebody decided otherwise than by ranks.
CREATE TABLE revec.fusion (
    collection_id integer PRIMARY KEY REFERENCES revec.collection,
    alpha         float8 CHECK (alpha BETWEEN 0 AND 1),  -- the vectors' share of the score; NULL: by ranks
    evidence      jsonb NOT NULL,                        -- what was measured when it was decided
    who           text NOT NULL,
    at            timestamptz NOT NULL DEFAULT now()
);
SELECT revec.protect('revec.fusion', 'shared');
