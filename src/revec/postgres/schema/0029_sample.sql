-- How each collection stood, minute by minute, for eight days: what a page's curve and a person on the next day read.
-- One worker at a time counts; `minute` is the primary key, so two that overlap write the same row.
CREATE TABLE revec.sample (
    collection_id integer NOT NULL REFERENCES revec.collection,
    minute        timestamptz NOT NULL,
    index_id      integer,            -- that `done` and `coverage` are of: the newest that is written; NULL: none yet
    documents     bigint NOT NULL,
    approximate   boolean NOT NULL,   -- `documents` was too many to count: it is the planner's estimate
    done          bigint NOT NULL,    -- of the documents, as they are now in that index
    coverage      float8,             -- the same as a share of those that should be there; NULL: no index
    backlog       bigint NOT NULL,    -- open work of every index that is written, and what a backfill will come to
    oldest        float8 NOT NULL,    -- seconds that the longest of it has waited; of paused tenants nothing counts
    unprojected   bigint NOT NULL,    -- changes of tables that are not documents yet, counted up to 100,000
    dead          bigint NOT NULL,    -- dead letters that wait for a person
    lag           float8 NOT NULL,    -- seconds that an edit has waited longest, until every index has it
    per_second    float8 NOT NULL,    -- texts that models embedded for its indexes, over the minute before
    PRIMARY KEY (collection_id, minute)
);
CREATE INDEX sample_minute ON revec.sample (minute);

SELECT revec.protect('revec.sample', 'private');
