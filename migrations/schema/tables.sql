-- Private tables live in schema usage; what other tools read lives in schema usage_api, and what its functions share in
-- usage_internal. So that records can be distributed when one server is too small, unique keys contain the column that
-- they would be distributed by; there is no trigger, and no function of the clock in an upsert.

CREATE SCHEMA usage_api;

CREATE SCHEMA usage_internal;

CREATE TABLE usage.setting (
    key text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE usage.setting IS 'What belongs to the database and not to one worker: the time zone of the days, the pepper of the digests.';

CREATE TABLE usage.upstream (
    upstream_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    newest_record_at timestamptz,
    future_record_at timestamptz,
    records_complete_from date,
    records_dropped_before timestamptz,
    without_execution_until timestamptz,
    with_execution_from timestamptz,
    links integer NOT NULL DEFAULT 0,
    resolve_pending boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE usage.upstream IS 'Every proxy instance that usage was ever pulled from.';
COMMENT ON COLUMN usage.upstream.future_record_at IS 'The latest occurred_at that was in the future when its record was loaded.';
COMMENT ON COLUMN usage.upstream.records_complete_from IS 'The first day whose records are all still here; NULL when none was ever dropped.';
COMMENT ON COLUMN usage.upstream.records_dropped_before IS 'No record from before is taken: it may have been counted and dropped. NULL when none was ever dropped.';
COMMENT ON COLUMN usage.upstream.without_execution_until IS 'No record without an execution id began later.';
COMMENT ON COLUMN usage.upstream.with_execution_from IS 'No record with an execution id began earlier; NULL when there is none.';
COMMENT ON COLUMN usage.upstream.links IS 'How many times a channel of it was linked to another one: what was prepared before the last time is prepared anew.';
COMMENT ON COLUMN usage.upstream.resolve_pending IS 'Whether the directory learned something since unknown records were last looked at.';

-- One row for each lock that is held, renewed every few seconds: half of each page is left for the next versions. It
-- holds no snapshot as a transaction would, and works behind a pooler of transactions.
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

-- -- What records name ---------------------------------------------------------------------------------------------

CREATE TABLE usage.channel (
    channel_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    kind text NOT NULL CHECK (kind IN ('auth', 'apikey', 'unknown')),
    identity text NOT NULL,
    name text NOT NULL,
    label text,
    channel_group text NOT NULL,
    configured boolean NOT NULL DEFAULT false,
    linked_to integer REFERENCES usage.channel,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    UNIQUE (upstream_id, kind, identity)
);
COMMENT ON TABLE usage.channel IS 'Every channel ever seen, in the directory or in a record. Never deleted.';
COMMENT ON COLUMN usage.channel.identity IS 'What makes it this channel: provider, file and account, or an API key provider''s name.';
COMMENT ON COLUMN usage.channel.name IS 'What the proxy''s configuration calls it.';
COMMENT ON COLUMN usage.channel.label IS 'What an operator calls it; goes before the name.';
COMMENT ON COLUMN usage.channel.linked_to IS 'The channel that its usage is booked on, by an operator''s word.';

CREATE TABLE usage.channel_name (
    channel_id integer NOT NULL REFERENCES usage.channel,
    since timestamptz NOT NULL,
    name text NOT NULL,
    given_by text NOT NULL CHECK (given_by IN ('proxy', 'operator')),
    PRIMARY KEY (channel_id, since, given_by)
);
COMMENT ON TABLE usage.channel_name IS 'Every name a channel ever had, and since when.';

CREATE TABLE usage.channel_rate (
    channel_id integer NOT NULL REFERENCES usage.channel,
    valid_from timestamptz NOT NULL,
    rate_multiplier numeric NOT NULL CHECK (rate_multiplier >= 0),
    entered_at timestamptz NOT NULL,
    PRIMARY KEY (channel_id, valid_from)
);
COMMENT ON TABLE usage.channel_rate IS 'What requests over a channel really cost, as a multiple of their cost, and from when on; 1 before the first.';

CREATE TABLE usage.credential (
    credential_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    channel_id integer NOT NULL REFERENCES usage.channel,
    endpoint text NOT NULL,
    provider text NOT NULL,
    auth_index text NOT NULL,
    key_digest bytea NOT NULL,
    place text NOT NULL,
    accounts text NOT NULL,
    configured boolean NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    UNIQUE (upstream_id, endpoint, channel_id, auth_index, key_digest)
);
COMMENT ON TABLE usage.credential IS 'What the proxy''s mapping endpoints have ever listed: the last good directory, and its history.';

CREATE TABLE usage.client_key (
    client_key_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    digest bytea NOT NULL,
    mask text NOT NULL,
    label text,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    UNIQUE (upstream_id, digest)
);
COMMENT ON TABLE usage.client_key IS 'Every client key ever seen, as a keyed digest and a label. The empty digest stands for requests without a key.';

CREATE TABLE usage.dimension (
    dimension_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id integer NOT NULL REFERENCES usage.channel,
    client_key_id integer NOT NULL REFERENCES usage.client_key,
    provider text NOT NULL,
    endpoint text NOT NULL,
    model text NOT NULL,
    alias text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('success', 'failed', 'warmup', 'cancelled')),
    UNIQUE (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
);
COMMENT ON TABLE usage.dimension IS 'Every combination of the rollups'' dimensions: a record and a rollup row name it by one integer.';

CREATE TABLE usage.origin (
    origin_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    auth_index text NOT NULL,
    source_digest bytea NOT NULL,
    source_label text NOT NULL,
    auth_type text NOT NULL,
    candidates text NOT NULL DEFAULT '',
    UNIQUE (upstream_id, auth_index, source_digest, auth_type)
);
COMMENT ON TABLE usage.origin IS 'What records say of the credential that served them: all that resolving a channel needs.';
COMMENT ON COLUMN usage.origin.candidates IS 'The channels between which nothing decides, where it is ambiguous.';

CREATE TABLE usage.price (
    price_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL CHECK (source IN ('operator', 'config', 'dataset')),
    model text NOT NULL CHECK (model <> ''),
    vendor text NOT NULL DEFAULT '',
    provider text NOT NULL DEFAULT '',
    channel text NOT NULL DEFAULT '',
    service_tier text NOT NULL DEFAULT '',
    above_input_tokens bigint NOT NULL DEFAULT 0 CHECK (above_input_tokens >= 0),
    valid_from timestamptz,
    valid_to timestamptz,
    hours_from time,
    hours_to time,
    input_usd_per_mtok numeric CHECK (input_usd_per_mtok >= 0),
    cache_read_usd_per_mtok numeric CHECK (cache_read_usd_per_mtok >= 0),
    cache_write_usd_per_mtok numeric CHECK (cache_write_usd_per_mtok >= 0),
    cache_write_1h_usd_per_mtok numeric CHECK (cache_write_1h_usd_per_mtok >= 0),
    output_usd_per_mtok numeric CHECK (output_usd_per_mtok >= 0),
    request_usd numeric CHECK (request_usd >= 0),
    estimated text NOT NULL DEFAULT '' CHECK (estimated IN ('', 'cache_write', 'all')),
    origin text NOT NULL DEFAULT '',
    entered_at timestamptz NOT NULL,
    dropped_at timestamptz,
    fingerprint text UNIQUE,
    CHECK (valid_from < valid_to),
    CHECK ((hours_from IS NULL) = (hours_to IS NULL))
);
CREATE INDEX price_model ON usage.price (lower(model));
COMMENT ON TABLE usage.price IS 'Every price ever entered. Rows are ended or dropped, never changed: records name the one they were charged by.';
COMMENT ON COLUMN usage.price.vendor IS 'Whose list in the dataset it comes from; empty for an operator''s price.';
COMMENT ON COLUMN usage.price.dropped_at IS 'When it was withdrawn: from then on no record is charged by it.';
COMMENT ON COLUMN usage.price.fingerprint IS 'What a configuration file''s price says, so that it is entered once; NULL for others.';

-- -- Passes, batches, and how far sources have been read -----------------------------------------------------------

CREATE TABLE usage.sync_run (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    kind text NOT NULL CHECK (kind IN ('sync', 'import', 'retry')),
    mode text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    pulled bigint NOT NULL DEFAULT 0,
    inserted bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    unknown_channel bigint NOT NULL DEFAULT 0,
    too_old bigint NOT NULL DEFAULT 0,
    possible_loss bigint NOT NULL DEFAULT 0,
    statistics_enabled boolean,
    journal_entries bigint NOT NULL DEFAULT 0,
    journal_bytes bigint NOT NULL DEFAULT 0,
    error text
);
CREATE INDEX sync_run_upstream_started ON usage.sync_run (upstream_id, started_at DESC);
CREATE INDEX sync_run_started ON usage.sync_run (started_at);
CREATE INDEX sync_run_finished ON usage.sync_run (upstream_id, run_id DESC)
    WHERE kind = 'sync' AND finished_at IS NOT NULL;
CREATE INDEX sync_run_failed ON usage.sync_run (upstream_id, run_id DESC)
    WHERE kind = 'sync' AND finished_at IS NOT NULL AND error IS NOT NULL;
CREATE INDEX sync_run_empty ON usage.sync_run (started_at)
    WHERE kind = 'sync' AND finished_at IS NOT NULL AND error IS NULL AND pulled = 0 AND quarantined = 0
        AND possible_loss = 0 AND statistics_enabled IS NOT FALSE;
COMMENT ON TABLE usage.sync_run IS 'Every pass, import and retry, and what it came to. Those are told apart by their number, which only grows, and not by a clock.';

CREATE TABLE usage.batch (
    batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry_id text NOT NULL UNIQUE,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    run_id bigint REFERENCES usage.sync_run ON DELETE SET NULL,
    loaded_at timestamptz NOT NULL,
    pulled bigint NOT NULL,
    inserted bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0
);
CREATE INDEX batch_loaded ON usage.batch (loaded_at);
CREATE INDEX batch_run ON usage.batch (run_id) WHERE run_id IS NOT NULL;
COMMENT ON TABLE usage.batch IS 'What was loaded in one transaction.';
COMMENT ON COLUMN usage.batch.entry_id IS 'The journal entry it came from: the same entry a second time loads nothing.';

CREATE TABLE usage.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    digest bytea NOT NULL,
    reason text NOT NULL,
    payload text NOT NULL,
    retryable boolean NOT NULL,
    first_seen_at timestamptz NOT NULL,
    UNIQUE (upstream_id, digest)
);
CREATE INDEX quarantine_first_seen ON usage.quarantine (first_seen_at);
COMMENT ON TABLE usage.quarantine IS 'Records that could not be read, each with its reason.';
COMMENT ON COLUMN usage.quarantine.payload IS 'The record as it came, every secret in it already replaced by its digest.';

-- A snapshot is the whole history every time, in one list for each client key and model, which only ever grows at its
-- end. What begins byte for byte as before has been read; the cursor commits with the last record that it covers.
CREATE TABLE usage.snapshot_cursor (
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    list_digest bytea NOT NULL,
    read_bytes bigint NOT NULL CHECK (read_bytes > 0),
    read_digest bytea NOT NULL,
    recent_ns bigint[] NOT NULL,
    PRIMARY KEY (upstream_id, list_digest)
);
COMMENT ON TABLE usage.snapshot_cursor IS 'How far each list of a proxy''s snapshot has been read.';
COMMENT ON COLUMN usage.snapshot_cursor.list_digest IS 'Which list: a digest of its client key and its model.';
COMMENT ON COLUMN usage.snapshot_cursor.read_digest IS 'SHA-256 of the bytes that have been read.';
COMMENT ON COLUMN usage.snapshot_cursor.recent_ns IS 'When the latest requests among them began, in nanoseconds since 1970 UTC, in ascending order.';

-- CLIProxyAPIHome keeps usage in a database of its own and can be asked how much there is of any time. What was loaded
-- of it stands here, so that what came since, also of earlier times, is found by counting.
CREATE TABLE usage.home_period (
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    begins_at timestamptz NOT NULL,
    records bigint NOT NULL CHECK (records >= 0),
    PRIMARY KEY (upstream_id, begins_at)
);
COMMENT ON TABLE usage.home_period IS 'How many usage records of a CLIProxyAPIHome have been loaded of each period of ten minutes.';

-- -- Records -------------------------------------------------------------------------------------------------------

-- No foreign keys from here on: each would cost a look-up for every row, and the ids come from one place.
CREATE TABLE usage.record (
    occurred_at timestamptz NOT NULL,
    latency_ms bigint,
    ttft_ms bigint,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    uncached_input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    billed_output_tokens bigint NOT NULL,
    unclassified_tokens bigint NOT NULL,
    batch_id bigint NOT NULL,
    dimension_id integer NOT NULL,
    origin_id integer NOT NULL,
    status_code integer,
    event_key bytea NOT NULL,
    channel_rule text NOT NULL,
    request_id text NOT NULL,
    service_tier text NOT NULL,
    reasoning_effort text NOT NULL,
    error text,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    price_id integer,
    response_service_tier text NOT NULL,
    cost_estimated boolean NOT NULL,
    execution_id text,
    base_key bytea,
    stream boolean,
    session_id text,
    parent_session_id text,
    response_model text,
    cache_write_1h_tokens bigint,
    PRIMARY KEY (occurred_at, event_key)  -- in this order: time is local, a hash is not
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE usage.record IS 'One row per attempt at an upstream, in a partition for each month of UTC.';
COMMENT ON COLUMN usage.record.base_key IS 'What event_key would be without execution id and place among equal ones of a payload; NULL where it is that.';

-- A month's partition, made on demand. Attaching takes a lighter lock than creating it in place, so that readers
-- and writers of other months go on. Runs with its owner's rights: the worker itself need not be able to create.
CREATE FUNCTION usage.ensure_record_partition(month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    partition text := 'record_' || to_char(month, 'YYYY_MM');
    lower_bound timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    upper_bound timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('usage.ensure_record_partition', 0));
    IF to_regclass('usage.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE usage.%I (LIKE usage.record INCLUDING DEFAULTS)', partition);
    EXECUTE format('ALTER TABLE usage.record ATTACH PARTITION usage.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, lower_bound, upper_bound);
END
$$;

-- Runs with its owner's rights, as ensure_record_partition does. The caller sets a lock timeout: it waits for every
-- transaction that reads or writes records, and everybody waits for it.
CREATE FUNCTION usage.drop_record_partition(month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('usage.ensure_record_partition', 0));
    EXECUTE format('DROP TABLE IF EXISTS usage.%I', 'record_' || to_char(month, 'YYYY_MM'));
END
$$;
