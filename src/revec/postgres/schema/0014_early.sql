-- Serving early: a migration whose new model answers before its backfill is over.

ALTER TABLE revec.migration ADD serve_early boolean NOT NULL DEFAULT false;

-- From a migration's new space to its old one, and what it was found to be worth on the collection itself.
CREATE TABLE revec.bridge (
    migration_id integer PRIMARY KEY REFERENCES revec.migration,
    version      integer NOT NULL DEFAULT 0,  -- counts the fits; 0: none yet
    drawn        bigint[] NOT NULL DEFAULT '{}',  -- documents embedded first, by which it is measured; none: never
    pairs        integer NOT NULL DEFAULT 0,  -- documents with both vectors that it was fitted on
    counted      integer NOT NULL DEFAULT 0,  -- those of the new index when it was; may be more than the pairs
    bridge       bytea,                       -- NULL: there is none, or it is needed no longer
    holds        boolean NOT NULL DEFAULT false CHECK (NOT holds OR bridge IS NOT NULL),
    why          text NOT NULL,               -- it holds, or not
    measure      jsonb NOT NULL DEFAULT '{}',
    at           timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Documents that searches had embedded: how many, and how many more a tenant may have in this minute.
CREATE TABLE revec.demand (
    index_id  integer NOT NULL,
    tenant    text NOT NULL,
    documents bigint NOT NULL DEFAULT 0,
    level     float8 NOT NULL,
    at        timestamptz NOT NULL,
    PRIMARY KEY (index_id, tenant)
);

SELECT revec.protect('revec.bridge', 'private'), revec.protect('revec.demand', 'private');
