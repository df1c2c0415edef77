-- CLIProxyAPIHome keeps usage in a database of its own and can be asked how much there is of any time. What was loaded
-- of it stands here, so that what came since, also of earlier times, is found by counting.

CREATE TABLE usage.home_period (
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    begins_at timestamptz NOT NULL,
    records bigint NOT NULL CHECK (records >= 0),
    PRIMARY KEY (upstream_id, begins_at)
);
COMMENT ON TABLE usage.home_period IS 'How many usage records of a CLIProxyAPIHome have been loaded of each period of ten minutes.';

DO $migration$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON usage.home_period TO usage_writer;
    END IF;
END
$migration$;

-- Home masks a client's key in other characters than forks do.
CREATE OR REPLACE VIEW usage_api.v1_client_keys AS
SELECT u.name AS upstream, coalesce(k.label, k.mask) AS client_key, k.mask, k.first_seen_at, k.last_seen_at,
       k.client_key_id,
       k.mask ~ '^([^\s*]{4}(\*{3}|\.{3})[^\s*]{4}|[^\s*]{2}\*{3}|\*{4})$' AS perhaps_several
FROM usage.client_key AS k
JOIN usage.upstream AS u USING (upstream_id);
COMMENT ON COLUMN usage_api.v1_client_keys.perhaps_several IS 'Whether the proxy masks client keys, as forks and CLIProxyAPIHome do: several keys may look like this one.';
COMMENT ON COLUMN usage_api.v1_records.execution_id IS 'What the proxy gives each attempt at an upstream, from v8 on; the records of one that used several models share it. Of CLIProxyAPIHome, usage_id: and its number. NULL when not told.';
COMMENT ON COLUMN usage_api.v1_record.execution_id IS 'What the proxy gives each attempt at an upstream, from v8 on; the records of one that used several models share it. Of CLIProxyAPIHome, usage_id: and its number. NULL when not told.';
COMMENT ON COLUMN usage_api.v1_sync_runs.mode IS 'queue, snapshot or home; NULL when the pass ended before that was known.';
