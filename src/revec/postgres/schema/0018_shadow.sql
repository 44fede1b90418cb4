-- Dual read: a few queries are asked of a second index as well, behind their answers, and what was seen is kept.

ALTER TABLE revec.migration ADD shadow float8;  -- the first rate; NULL: none

-- Which index shadows what serves, and for which share of the distinct queries. Where that index serves itself
-- (after a cutover) the previous one shadows it.
CREATE TABLE revec.shadow (
    collection_id integer PRIMARY KEY REFERENCES revec.collection,
    index_id      integer NOT NULL REFERENCES revec.index,
    rate          float8 NOT NULL CHECK (rate >= 0 AND rate <= 1),  -- 0: off
    salt          text NOT NULL DEFAULT gen_random_uuid()::text,    -- never changed: a larger rate keeps the sample
    since         timestamptz NOT NULL DEFAULT now(),               -- it was pointed at this index
    rung_at       timestamptz NOT NULL DEFAULT now(),               -- the rate was set
    set_by        text NOT NULL
);

-- One distinct query, asked of both indexes of a pair. Of the query itself only a salted hash.
CREATE TABLE revec.observation (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL,
    serving       integer NOT NULL,  -- the index that answered
    candidate     integer NOT NULL,  -- the index that shadowed it
    query         bytea NOT NULL,
    tenant        text,              -- NULL: an operator asked, of all tenants
    mode          text NOT NULL,
    place         float8 NOT NULL,   -- where the hash lies between 0 and 1: in the sample below the rate
    chosen        text NOT NULL CHECK (chosen IN ('rate', 'tenant', 'replay')),
    weight        bigint NOT NULL,   -- how often it was asked
    token         uuid NOT NULL,     -- whose claim this is; only its holder writes down what it saw
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at       timestamptz,       -- NULL: under way, or lost with its process
    new_first     boolean,           -- which arm was read first
    changed       boolean,           -- a document was written between the arms: their difference says nothing
    again_outcome text,              -- ok, empty, error, timeout
    new_outcome   text,
    answer_embed  real,              -- seconds, of the user; to be compared with no other
    answer_search real,
    again_embed   real,              -- seconds; of a time-out the deadline
    again_search  real,
    new_embed     real,
    new_search    real,
    overlap       real,              -- of the old index asked again with the new one, ten hits each
    rbo           real,
    same_first    boolean,
    floor_overlap real,              -- of the answer with the old index asked again: what is chance
    floor_rbo     real,
    floor_first   boolean,
    lost          jsonb NOT NULL DEFAULT '{}',  -- cause → documents that the old index shows and the new one does not
    gained        jsonb NOT NULL DEFAULT '{}',  -- and the other way round
    documents     bigint[][],        -- the answer, again, new: the ids of the first ten, filled up with NULL
    scores        real[][],          -- each of its own space
    UNIQUE (collection_id, serving, candidate, query)
);
CREATE INDEX observation_at ON revec.observation (at);

-- What should have been observed and was not, and what was: by the hour.
CREATE TABLE revec.shed (
    collection_id integer NOT NULL,
    serving       integer NOT NULL,
    candidate     integer NOT NULL,
    hour          timestamptz NOT NULL,
    taken         bigint NOT NULL,
    dropped       bigint NOT NULL,
    PRIMARY KEY (collection_id, serving, candidate, hour)
);

SELECT revec.protect('revec.shadow', 'private'), revec.protect('revec.observation', 'private'),
       revec.protect('revec.shed', 'private');

DO $$ BEGIN
    IF (SELECT two_layers FROM revec.installation) THEN
        GRANT SELECT, USAGE ON SEQUENCE revec.observation_id_seq TO revec_worker;
    END IF;
END $$;
