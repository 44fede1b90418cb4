-- From which score on two documents of a collection are called similar. Kept by space: 0.8 in one is not
-- 0.8 in another, and after a rollback the old one is still there.
CREATE TABLE revec.threshold (
    collection_id integer NOT NULL REFERENCES revec.collection,
    space_id      text NOT NULL REFERENCES revec.space,
    value         float8 NOT NULL CHECK (value BETWEEN -1 AND 1),  -- cosine similarity
    carried_from  text REFERENCES revec.space,  -- whose hit rate it keeps; NULL: a person said it
    evidence      jsonb NOT NULL DEFAULT '{}',
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection_id, space_id)
);
SELECT revec.protect('revec.threshold', 'private');
