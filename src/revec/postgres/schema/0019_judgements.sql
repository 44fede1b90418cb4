-- Judged queries: what is asked, and how good which document is as an answer. The words are kept, because the
-- set is the operator's own; nobody's searches come here.
CREATE TABLE revec.judged_set (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL REFERENCES revec.collection,
    name          text NOT NULL CHECK (name <> ''),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (collection_id, name)
);

CREATE TABLE revec.judged_query (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    set_id  integer NOT NULL REFERENCES revec.judged_set ON DELETE CASCADE,
    name    text NOT NULL,             -- its id in the file
    words   text NOT NULL,             -- what is asked
    tenant  text CHECK (tenant <> ''), -- in whose documents; NULL: in everybody's
    segment text NOT NULL DEFAULT '',  -- a word of the operator's own
    UNIQUE (set_id, name)
);

-- A document is known by its source and key, so that a judgement outlives every reading of the source.
CREATE TABLE revec.judgement (
    query_id bigint NOT NULL REFERENCES revec.judged_query ON DELETE CASCADE,
    source   text NOT NULL,
    key      text NOT NULL,
    grade    integer NOT NULL,         -- 0 or less: judged, not relevant
    origin   text NOT NULL CHECK (origin IN ('file', 'person', 'clicks')),
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (query_id, source, key)
);

SELECT revec.protect('revec.judged_set', 'private'), revec.protect('revec.judged_query', 'private'),
       revec.protect('revec.judgement', 'private');

-- The set that a migration's quality gate looks at, its margin and its mode of search; NULL: none was declared.
ALTER TABLE revec.migration ADD judged jsonb;

DO $$ BEGIN
    IF (SELECT two_layers FROM revec.installation) THEN
        GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA revec TO revec_worker;
    END IF;
END $$;
