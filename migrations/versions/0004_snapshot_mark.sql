-- A snapshot is the whole history every time, in one list for each client key and model, which only ever grows at its
-- end. What begins byte for byte as before has been read; the mark commits with the last record that it covers.
CREATE TABLE usage.snapshot_mark (
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    list_digest bytea NOT NULL,
    read_bytes bigint NOT NULL CHECK (read_bytes > 0),
    read_digest bytea NOT NULL,
    recent_ns bigint[] NOT NULL,
    PRIMARY KEY (upstream_id, list_digest)
);
COMMENT ON TABLE usage.snapshot_mark IS 'How far each list of a proxy''s snapshot has been read.';
COMMENT ON COLUMN usage.snapshot_mark.list_digest IS 'Which list: a digest of its client key and its model.';
COMMENT ON COLUMN usage.snapshot_mark.read_digest IS 'SHA-256 of the bytes that have been read.';
COMMENT ON COLUMN usage.snapshot_mark.recent_ns IS 'When the latest requests among them began, in nanoseconds since 1970 UTC, in ascending order.';
