-- A third kind of index: a graph of the vectors' signs.
ALTER TABLE revec.index DROP CONSTRAINT index_kind_check,
    ADD CONSTRAINT index_kind_check CHECK (kind IN ('exact', 'hnsw', 'binary'));
