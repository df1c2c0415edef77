-- A lease in place of a transaction that stays open: it holds no snapshot, and works behind a pooler of transactions.
-- One row for each lock that is held, renewed every few seconds: half of each page is left for the next versions.
CREATE TABLE usage.lease (
    name text PRIMARY KEY,
    holder uuid NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    process text NOT NULL,
    since timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE usage.lease IS 'Who of the workers does what only one does at a time. Held until it expires, unless it is renewed.';
COMMENT ON COLUMN usage.lease.holder IS 'A number that the holder drew for itself.';
COMMENT ON COLUMN usage.lease.host IS 'The name of the machine or container that the holder runs on.';
COMMENT ON COLUMN usage.lease.process IS 'What tells the holder''s process from every other one ever; empty where the system does not say.';
COMMENT ON COLUMN usage.lease.expires_at IS 'By the server''s clock.';

ALTER TABLE usage.upstream ADD COLUMN links integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN usage.upstream.links IS 'How many times a channel of it was linked to another one: what was prepared before the last time is prepared anew.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON usage.lease TO usage_writer;
    END IF;
END
$$;
