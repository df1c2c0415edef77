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

-- -- Rollups -------------------------------------------------------------------------------------------------------

CREATE TABLE usage.hourly (
    hour timestamptz NOT NULL,
    dimension_id integer NOT NULL,
    requests bigint NOT NULL,
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
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint NOT NULL,
    ttft_le_1s bigint NOT NULL,
    ttft_le_2500ms bigint NOT NULL,
    ttft_le_5s bigint NOT NULL,
    ttft_le_10s bigint NOT NULL,
    ttft_le_30s bigint NOT NULL,
    ttft_le_60s bigint NOT NULL,
    ttft_le_120s bigint NOT NULL,
    ttft_le_300s bigint NOT NULL,
    estimated_cost_usd numeric NOT NULL,
    latency_le_50ms bigint NOT NULL,
    latency_le_100ms bigint NOT NULL,
    latency_le_250ms bigint NOT NULL,
    latency_le_600s bigint NOT NULL,
    latency_le_1200s bigint NOT NULL,
    ttft_le_50ms bigint NOT NULL,
    ttft_le_100ms bigint NOT NULL,
    ttft_le_250ms bigint NOT NULL,
    ttft_le_600s bigint NOT NULL,
    ttft_le_1200s bigint NOT NULL,
    priced_requests bigint NOT NULL,
    PRIMARY KEY (hour, dimension_id)
) WITH (fillfactor = 70);  -- room on the page, so that adding to a row moves no index entry
COMMENT ON TABLE usage.hourly IS 'The hours of UTC by every combination of dimensions.';

CREATE TABLE usage.daily (
    day date NOT NULL,
    dimension_id integer NOT NULL,
    requests bigint NOT NULL,
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
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint NOT NULL,
    ttft_le_1s bigint NOT NULL,
    ttft_le_2500ms bigint NOT NULL,
    ttft_le_5s bigint NOT NULL,
    ttft_le_10s bigint NOT NULL,
    ttft_le_30s bigint NOT NULL,
    ttft_le_60s bigint NOT NULL,
    ttft_le_120s bigint NOT NULL,
    ttft_le_300s bigint NOT NULL,
    estimated_cost_usd numeric NOT NULL,
    latency_le_50ms bigint NOT NULL,
    latency_le_100ms bigint NOT NULL,
    latency_le_250ms bigint NOT NULL,
    latency_le_600s bigint NOT NULL,
    latency_le_1200s bigint NOT NULL,
    ttft_le_50ms bigint NOT NULL,
    ttft_le_100ms bigint NOT NULL,
    ttft_le_250ms bigint NOT NULL,
    ttft_le_600s bigint NOT NULL,
    ttft_le_1200s bigint NOT NULL,
    priced_requests bigint NOT NULL,
    PRIMARY KEY (day, dimension_id)
) WITH (fillfactor = 70);  -- room on the page, so that adding to a row moves no index entry
COMMENT ON TABLE usage.daily IS 'The days of the rollup time zone by every combination of dimensions.';

CREATE TABLE usage.daily_channel (
    day date NOT NULL,
    channel_id integer NOT NULL,
    model text NOT NULL,
    outcome text NOT NULL,
    requests bigint NOT NULL,
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
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint NOT NULL,
    ttft_le_1s bigint NOT NULL,
    ttft_le_2500ms bigint NOT NULL,
    ttft_le_5s bigint NOT NULL,
    ttft_le_10s bigint NOT NULL,
    ttft_le_30s bigint NOT NULL,
    ttft_le_60s bigint NOT NULL,
    ttft_le_120s bigint NOT NULL,
    ttft_le_300s bigint NOT NULL,
    estimated_cost_usd numeric NOT NULL,
    latency_le_50ms bigint NOT NULL,
    latency_le_100ms bigint NOT NULL,
    latency_le_250ms bigint NOT NULL,
    latency_le_600s bigint NOT NULL,
    latency_le_1200s bigint NOT NULL,
    ttft_le_50ms bigint NOT NULL,
    ttft_le_100ms bigint NOT NULL,
    ttft_le_250ms bigint NOT NULL,
    ttft_le_600s bigint NOT NULL,
    ttft_le_1200s bigint NOT NULL,
    priced_requests bigint NOT NULL,
    PRIMARY KEY (day, channel_id, model, outcome)
) WITH (fillfactor = 70);  -- room on the page, so that adding to a row moves no index entry
COMMENT ON TABLE usage.daily_channel IS 'The days by channel, model and outcome.';

CREATE TABLE usage.daily_key (
    day date NOT NULL,
    client_key_id integer NOT NULL,
    outcome text NOT NULL,
    requests bigint NOT NULL,
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
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint NOT NULL,
    ttft_le_1s bigint NOT NULL,
    ttft_le_2500ms bigint NOT NULL,
    ttft_le_5s bigint NOT NULL,
    ttft_le_10s bigint NOT NULL,
    ttft_le_30s bigint NOT NULL,
    ttft_le_60s bigint NOT NULL,
    ttft_le_120s bigint NOT NULL,
    ttft_le_300s bigint NOT NULL,
    estimated_cost_usd numeric NOT NULL,
    latency_le_50ms bigint NOT NULL,
    latency_le_100ms bigint NOT NULL,
    latency_le_250ms bigint NOT NULL,
    latency_le_600s bigint NOT NULL,
    latency_le_1200s bigint NOT NULL,
    ttft_le_50ms bigint NOT NULL,
    ttft_le_100ms bigint NOT NULL,
    ttft_le_250ms bigint NOT NULL,
    ttft_le_600s bigint NOT NULL,
    ttft_le_1200s bigint NOT NULL,
    priced_requests bigint NOT NULL,
    PRIMARY KEY (day, client_key_id, outcome)
) WITH (fillfactor = 70);  -- room on the page, so that adding to a row moves no index entry
COMMENT ON TABLE usage.daily_key IS 'The days by client key and outcome.';

CREATE TABLE usage.hourly_key (
    hour timestamptz NOT NULL,
    client_key_id integer NOT NULL,
    outcome text NOT NULL,
    requests bigint NOT NULL,
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
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint NOT NULL,
    ttft_le_1s bigint NOT NULL,
    ttft_le_2500ms bigint NOT NULL,
    ttft_le_5s bigint NOT NULL,
    ttft_le_10s bigint NOT NULL,
    ttft_le_30s bigint NOT NULL,
    ttft_le_60s bigint NOT NULL,
    ttft_le_120s bigint NOT NULL,
    ttft_le_300s bigint NOT NULL,
    estimated_cost_usd numeric NOT NULL,
    latency_le_50ms bigint NOT NULL,
    latency_le_100ms bigint NOT NULL,
    latency_le_250ms bigint NOT NULL,
    latency_le_600s bigint NOT NULL,
    latency_le_1200s bigint NOT NULL,
    ttft_le_50ms bigint NOT NULL,
    ttft_le_100ms bigint NOT NULL,
    ttft_le_250ms bigint NOT NULL,
    ttft_le_600s bigint NOT NULL,
    ttft_le_1200s bigint NOT NULL,
    priced_requests bigint NOT NULL,
    PRIMARY KEY (hour, client_key_id, outcome)
) WITH (fillfactor = 70);  -- room on the page, so that adding to a row moves no index entry
COMMENT ON TABLE usage.hourly_key IS 'The hours by client key and outcome.';

-- One record as the measures that it adds to a rollup. worker.rollups.deltas counts the same while it loads, and
-- `worker verify` holds the one against the other.
CREATE VIEW usage.record_measure AS
SELECT
    r.occurred_at,
    r.dimension_id,
    1::bigint AS requests,
    r.input_tokens AS input_tokens,
    r.output_tokens AS output_tokens,
    r.reasoning_tokens AS reasoning_tokens,
    r.cached_tokens AS cached_tokens,
    r.total_tokens AS total_tokens,
    r.uncached_input_tokens AS uncached_input_tokens,
    r.cache_read_tokens AS cache_read_tokens,
    r.cache_write_tokens AS cache_write_tokens,
    r.billed_output_tokens AS billed_output_tokens,
    r.unclassified_tokens AS unclassified_tokens,
    coalesce(r.cost_usd, 0) AS cost_usd,
    coalesce(r.actual_cost_usd, 0) AS actual_cost_usd,
    coalesce(r.cache_read_cost_usd, 0) AS cache_read_cost_usd,
    coalesce(r.cache_write_cost_usd, 0) AS cache_write_cost_usd,
    (r.cost_usd IS NULL)::int::bigint AS unpriced_requests,
    coalesce(r.latency_ms, 0) AS latency_ms_sum,
    (r.latency_ms IS NOT NULL)::int::bigint AS latency_samples,
    coalesce(r.ttft_ms, 0) AS ttft_ms_sum,
    (r.ttft_ms IS NOT NULL)::int::bigint AS ttft_samples,
    (coalesce(r.latency_ms <= 500, false))::int::bigint AS latency_le_500ms,
    (coalesce(r.latency_ms <= 1000, false))::int::bigint AS latency_le_1s,
    (coalesce(r.latency_ms <= 2500, false))::int::bigint AS latency_le_2500ms,
    (coalesce(r.latency_ms <= 5000, false))::int::bigint AS latency_le_5s,
    (coalesce(r.latency_ms <= 10000, false))::int::bigint AS latency_le_10s,
    (coalesce(r.latency_ms <= 30000, false))::int::bigint AS latency_le_30s,
    (coalesce(r.latency_ms <= 60000, false))::int::bigint AS latency_le_60s,
    (coalesce(r.latency_ms <= 120000, false))::int::bigint AS latency_le_120s,
    (coalesce(r.latency_ms <= 300000, false))::int::bigint AS latency_le_300s,
    (coalesce(r.ttft_ms <= 500, false))::int::bigint AS ttft_le_500ms,
    (coalesce(r.ttft_ms <= 1000, false))::int::bigint AS ttft_le_1s,
    (coalesce(r.ttft_ms <= 2500, false))::int::bigint AS ttft_le_2500ms,
    (coalesce(r.ttft_ms <= 5000, false))::int::bigint AS ttft_le_5s,
    (coalesce(r.ttft_ms <= 10000, false))::int::bigint AS ttft_le_10s,
    (coalesce(r.ttft_ms <= 30000, false))::int::bigint AS ttft_le_30s,
    (coalesce(r.ttft_ms <= 60000, false))::int::bigint AS ttft_le_60s,
    (coalesce(r.ttft_ms <= 120000, false))::int::bigint AS ttft_le_120s,
    (coalesce(r.ttft_ms <= 300000, false))::int::bigint AS ttft_le_300s,
    CASE WHEN r.cost_estimated THEN coalesce(r.cost_usd, 0) ELSE 0 END AS estimated_cost_usd,
    (coalesce(r.latency_ms <= 50, false))::int::bigint AS latency_le_50ms,
    (coalesce(r.latency_ms <= 100, false))::int::bigint AS latency_le_100ms,
    (coalesce(r.latency_ms <= 250, false))::int::bigint AS latency_le_250ms,
    (coalesce(r.latency_ms <= 600000, false))::int::bigint AS latency_le_600s,
    (coalesce(r.latency_ms <= 1200000, false))::int::bigint AS latency_le_1200s,
    (coalesce(r.ttft_ms <= 50, false))::int::bigint AS ttft_le_50ms,
    (coalesce(r.ttft_ms <= 100, false))::int::bigint AS ttft_le_100ms,
    (coalesce(r.ttft_ms <= 250, false))::int::bigint AS ttft_le_250ms,
    (coalesce(r.ttft_ms <= 600000, false))::int::bigint AS ttft_le_600s,
    (coalesce(r.ttft_ms <= 1200000, false))::int::bigint AS ttft_le_1200s,
    (r.cost_usd IS NOT NULL AND (r.cost_usd > 0 OR r.uncached_input_tokens + r.cache_read_tokens + r.cache_write_tokens + r.billed_output_tokens + r.unclassified_tokens > 0))::int::bigint AS priced_requests
FROM usage.record AS r;

-- What the rollups must hold, summed anew: verify compares with it, rebuild puts it there. Of records the hours; and the
-- days, which come with the instants at which they begin and end, as the caller's time zone data says.
CREATE FUNCTION usage.hourly_from_records(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly
LANGUAGE sql STABLE AS $$
    SELECT
        date_trunc('hour', occurred_at, 'UTC'), dimension_id,
        sum(requests)::bigint,
        sum(input_tokens)::bigint,
        sum(output_tokens)::bigint,
        sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint,
        sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint,
        sum(cache_read_tokens)::bigint,
        sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint,
        sum(unclassified_tokens)::bigint,
        sum(cost_usd),
        sum(actual_cost_usd),
        sum(cache_read_cost_usd),
        sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint,
        sum(latency_samples)::bigint,
        sum(ttft_ms_sum)::bigint,
        sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint,
        sum(latency_le_1s)::bigint,
        sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint,
        sum(latency_le_10s)::bigint,
        sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint,
        sum(latency_le_120s)::bigint,
        sum(latency_le_300s)::bigint,
        sum(ttft_le_500ms)::bigint,
        sum(ttft_le_1s)::bigint,
        sum(ttft_le_2500ms)::bigint,
        sum(ttft_le_5s)::bigint,
        sum(ttft_le_10s)::bigint,
        sum(ttft_le_30s)::bigint,
        sum(ttft_le_60s)::bigint,
        sum(ttft_le_120s)::bigint,
        sum(ttft_le_300s)::bigint,
        sum(estimated_cost_usd),
        sum(latency_le_50ms)::bigint,
        sum(latency_le_100ms)::bigint,
        sum(latency_le_250ms)::bigint,
        sum(latency_le_600s)::bigint,
        sum(latency_le_1200s)::bigint,
        sum(ttft_le_50ms)::bigint,
        sum(ttft_le_100ms)::bigint,
        sum(ttft_le_250ms)::bigint,
        sum(ttft_le_600s)::bigint,
        sum(ttft_le_1200s)::bigint,
        sum(priced_requests)::bigint
    FROM usage.record_measure
    WHERE occurred_at >= since AND occurred_at < until
    GROUP BY 1, 2
$$;

CREATE FUNCTION usage.daily_from_records(days date[], begins timestamptz[], ends timestamptz[]) RETURNS SETOF usage.daily
LANGUAGE sql STABLE AS $$
    SELECT
        bound.day, dimension_id,
        sum(requests)::bigint,
        sum(input_tokens)::bigint,
        sum(output_tokens)::bigint,
        sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint,
        sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint,
        sum(cache_read_tokens)::bigint,
        sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint,
        sum(unclassified_tokens)::bigint,
        sum(cost_usd),
        sum(actual_cost_usd),
        sum(cache_read_cost_usd),
        sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint,
        sum(latency_samples)::bigint,
        sum(ttft_ms_sum)::bigint,
        sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint,
        sum(latency_le_1s)::bigint,
        sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint,
        sum(latency_le_10s)::bigint,
        sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint,
        sum(latency_le_120s)::bigint,
        sum(latency_le_300s)::bigint,
        sum(ttft_le_500ms)::bigint,
        sum(ttft_le_1s)::bigint,
        sum(ttft_le_2500ms)::bigint,
        sum(ttft_le_5s)::bigint,
        sum(ttft_le_10s)::bigint,
        sum(ttft_le_30s)::bigint,
        sum(ttft_le_60s)::bigint,
        sum(ttft_le_120s)::bigint,
        sum(ttft_le_300s)::bigint,
        sum(estimated_cost_usd),
        sum(latency_le_50ms)::bigint,
        sum(latency_le_100ms)::bigint,
        sum(latency_le_250ms)::bigint,
        sum(latency_le_600s)::bigint,
        sum(latency_le_1200s)::bigint,
        sum(ttft_le_50ms)::bigint,
        sum(ttft_le_100ms)::bigint,
        sum(ttft_le_250ms)::bigint,
        sum(ttft_le_600s)::bigint,
        sum(ttft_le_1200s)::bigint,
        sum(priced_requests)::bigint
    FROM unnest(days, begins, ends) AS bound (day, begins, ends)
    JOIN usage.record_measure ON occurred_at >= bound.begins AND occurred_at < bound.ends
    GROUP BY 1, 2
$$;

CREATE FUNCTION usage.daily_channel_from_daily(since date, until date) RETURNS SETOF usage.daily_channel
LANGUAGE sql STABLE AS $$
    SELECT
        day, channel_id, model, outcome,
        sum(requests)::bigint,
        sum(input_tokens)::bigint,
        sum(output_tokens)::bigint,
        sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint,
        sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint,
        sum(cache_read_tokens)::bigint,
        sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint,
        sum(unclassified_tokens)::bigint,
        sum(cost_usd),
        sum(actual_cost_usd),
        sum(cache_read_cost_usd),
        sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint,
        sum(latency_samples)::bigint,
        sum(ttft_ms_sum)::bigint,
        sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint,
        sum(latency_le_1s)::bigint,
        sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint,
        sum(latency_le_10s)::bigint,
        sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint,
        sum(latency_le_120s)::bigint,
        sum(latency_le_300s)::bigint,
        sum(ttft_le_500ms)::bigint,
        sum(ttft_le_1s)::bigint,
        sum(ttft_le_2500ms)::bigint,
        sum(ttft_le_5s)::bigint,
        sum(ttft_le_10s)::bigint,
        sum(ttft_le_30s)::bigint,
        sum(ttft_le_60s)::bigint,
        sum(ttft_le_120s)::bigint,
        sum(ttft_le_300s)::bigint,
        sum(estimated_cost_usd),
        sum(latency_le_50ms)::bigint,
        sum(latency_le_100ms)::bigint,
        sum(latency_le_250ms)::bigint,
        sum(latency_le_600s)::bigint,
        sum(latency_le_1200s)::bigint,
        sum(ttft_le_50ms)::bigint,
        sum(ttft_le_100ms)::bigint,
        sum(ttft_le_250ms)::bigint,
        sum(ttft_le_600s)::bigint,
        sum(ttft_le_1200s)::bigint,
        sum(priced_requests)::bigint
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day >= since AND day < until
    GROUP BY day, channel_id, model, outcome
$$;

CREATE FUNCTION usage.daily_key_from_daily(since date, until date) RETURNS SETOF usage.daily_key
LANGUAGE sql STABLE AS $$
    SELECT
        day, client_key_id, outcome,
        sum(requests)::bigint,
        sum(input_tokens)::bigint,
        sum(output_tokens)::bigint,
        sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint,
        sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint,
        sum(cache_read_tokens)::bigint,
        sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint,
        sum(unclassified_tokens)::bigint,
        sum(cost_usd),
        sum(actual_cost_usd),
        sum(cache_read_cost_usd),
        sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint,
        sum(latency_samples)::bigint,
        sum(ttft_ms_sum)::bigint,
        sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint,
        sum(latency_le_1s)::bigint,
        sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint,
        sum(latency_le_10s)::bigint,
        sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint,
        sum(latency_le_120s)::bigint,
        sum(latency_le_300s)::bigint,
        sum(ttft_le_500ms)::bigint,
        sum(ttft_le_1s)::bigint,
        sum(ttft_le_2500ms)::bigint,
        sum(ttft_le_5s)::bigint,
        sum(ttft_le_10s)::bigint,
        sum(ttft_le_30s)::bigint,
        sum(ttft_le_60s)::bigint,
        sum(ttft_le_120s)::bigint,
        sum(ttft_le_300s)::bigint,
        sum(estimated_cost_usd),
        sum(latency_le_50ms)::bigint,
        sum(latency_le_100ms)::bigint,
        sum(latency_le_250ms)::bigint,
        sum(latency_le_600s)::bigint,
        sum(latency_le_1200s)::bigint,
        sum(ttft_le_50ms)::bigint,
        sum(ttft_le_100ms)::bigint,
        sum(ttft_le_250ms)::bigint,
        sum(ttft_le_600s)::bigint,
        sum(ttft_le_1200s)::bigint,
        sum(priced_requests)::bigint
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day >= since AND day < until
    GROUP BY day, client_key_id, outcome
$$;

CREATE FUNCTION usage.hourly_key_from_hourly(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly_key
LANGUAGE sql STABLE AS $$
    SELECT
        hour, client_key_id, outcome,
        sum(requests)::bigint,
        sum(input_tokens)::bigint,
        sum(output_tokens)::bigint,
        sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint,
        sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint,
        sum(cache_read_tokens)::bigint,
        sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint,
        sum(unclassified_tokens)::bigint,
        sum(cost_usd),
        sum(actual_cost_usd),
        sum(cache_read_cost_usd),
        sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint,
        sum(latency_samples)::bigint,
        sum(ttft_ms_sum)::bigint,
        sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint,
        sum(latency_le_1s)::bigint,
        sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint,
        sum(latency_le_10s)::bigint,
        sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint,
        sum(latency_le_120s)::bigint,
        sum(latency_le_300s)::bigint,
        sum(ttft_le_500ms)::bigint,
        sum(ttft_le_1s)::bigint,
        sum(ttft_le_2500ms)::bigint,
        sum(ttft_le_5s)::bigint,
        sum(ttft_le_10s)::bigint,
        sum(ttft_le_30s)::bigint,
        sum(ttft_le_60s)::bigint,
        sum(ttft_le_120s)::bigint,
        sum(ttft_le_300s)::bigint,
        sum(estimated_cost_usd),
        sum(latency_le_50ms)::bigint,
        sum(latency_le_100ms)::bigint,
        sum(latency_le_250ms)::bigint,
        sum(latency_le_600s)::bigint,
        sum(latency_le_1200s)::bigint,
        sum(ttft_le_50ms)::bigint,
        sum(ttft_le_100ms)::bigint,
        sum(ttft_le_250ms)::bigint,
        sum(ttft_le_600s)::bigint,
        sum(ttft_le_1200s)::bigint,
        sum(priced_requests)::bigint
    FROM usage.hourly
    JOIN usage.dimension USING (dimension_id)
    WHERE hour >= since AND hour < until
    GROUP BY hour, client_key_id, outcome
$$;


-- -- Views ---------------------------------------------------------------------------------------------------------

CREATE VIEW usage_api.v1_daily AS
SELECT
    r.day, u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    coalesce(k.label, k.mask) AS client_key, d.provider, d.endpoint, d.model, d.alias, d.outcome,
    r.requests,
    r.input_tokens,
    r.output_tokens,
    r.reasoning_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.uncached_input_tokens,
    r.cache_read_tokens,
    r.cache_write_tokens,
    r.billed_output_tokens,
    r.unclassified_tokens,
    CASE WHEN r.priced_requests > 0 THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum,
    r.latency_samples,
    r.ttft_ms_sum,
    r.ttft_samples,
    r.latency_le_500ms,
    r.latency_le_1s,
    r.latency_le_2500ms,
    r.latency_le_5s,
    r.latency_le_10s,
    r.latency_le_30s,
    r.latency_le_60s,
    r.latency_le_120s,
    r.latency_le_300s,
    r.ttft_le_500ms,
    r.ttft_le_1s,
    r.ttft_le_2500ms,
    r.ttft_le_5s,
    r.ttft_le_10s,
    r.ttft_le_30s,
    r.ttft_le_60s,
    r.ttft_le_120s,
    r.ttft_le_300s,
    CASE WHEN r.priced_requests > 0 THEN r.estimated_cost_usd END AS estimated_cost_usd,
    r.latency_le_50ms,
    r.latency_le_100ms,
    r.latency_le_250ms,
    r.latency_le_600s,
    r.latency_le_1200s,
    r.ttft_le_50ms,
    r.ttft_le_100ms,
    r.ttft_le_250ms,
    r.ttft_le_600s,
    r.ttft_le_1200s
FROM usage.daily AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_hourly AS
SELECT
    r.hour, u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    coalesce(k.label, k.mask) AS client_key, d.provider, d.endpoint, d.model, d.alias, d.outcome,
    r.requests,
    r.input_tokens,
    r.output_tokens,
    r.reasoning_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.uncached_input_tokens,
    r.cache_read_tokens,
    r.cache_write_tokens,
    r.billed_output_tokens,
    r.unclassified_tokens,
    CASE WHEN r.priced_requests > 0 THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum,
    r.latency_samples,
    r.ttft_ms_sum,
    r.ttft_samples,
    r.latency_le_500ms,
    r.latency_le_1s,
    r.latency_le_2500ms,
    r.latency_le_5s,
    r.latency_le_10s,
    r.latency_le_30s,
    r.latency_le_60s,
    r.latency_le_120s,
    r.latency_le_300s,
    r.ttft_le_500ms,
    r.ttft_le_1s,
    r.ttft_le_2500ms,
    r.ttft_le_5s,
    r.ttft_le_10s,
    r.ttft_le_30s,
    r.ttft_le_60s,
    r.ttft_le_120s,
    r.ttft_le_300s,
    CASE WHEN r.priced_requests > 0 THEN r.estimated_cost_usd END AS estimated_cost_usd,
    r.latency_le_50ms,
    r.latency_le_100ms,
    r.latency_le_250ms,
    r.latency_le_600s,
    r.latency_le_1200s,
    r.ttft_le_50ms,
    r.ttft_le_100ms,
    r.ttft_le_250ms,
    r.ttft_le_600s,
    r.ttft_le_1200s
FROM usage.hourly AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_daily_channels AS
SELECT
    r.day, u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    r.model, r.outcome,
    r.requests,
    r.input_tokens,
    r.output_tokens,
    r.reasoning_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.uncached_input_tokens,
    r.cache_read_tokens,
    r.cache_write_tokens,
    r.billed_output_tokens,
    r.unclassified_tokens,
    CASE WHEN r.priced_requests > 0 THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum,
    r.latency_samples,
    r.ttft_ms_sum,
    r.ttft_samples,
    r.latency_le_500ms,
    r.latency_le_1s,
    r.latency_le_2500ms,
    r.latency_le_5s,
    r.latency_le_10s,
    r.latency_le_30s,
    r.latency_le_60s,
    r.latency_le_120s,
    r.latency_le_300s,
    r.ttft_le_500ms,
    r.ttft_le_1s,
    r.ttft_le_2500ms,
    r.ttft_le_5s,
    r.ttft_le_10s,
    r.ttft_le_30s,
    r.ttft_le_60s,
    r.ttft_le_120s,
    r.ttft_le_300s,
    CASE WHEN r.priced_requests > 0 THEN r.estimated_cost_usd END AS estimated_cost_usd,
    r.latency_le_50ms,
    r.latency_le_100ms,
    r.latency_le_250ms,
    r.latency_le_600s,
    r.latency_le_1200s,
    r.ttft_le_50ms,
    r.ttft_le_100ms,
    r.ttft_le_250ms,
    r.ttft_le_600s,
    r.ttft_le_1200s
FROM usage.daily_channel AS r
JOIN usage.channel AS c USING (channel_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_daily_keys AS
SELECT
    r.day, u.name AS upstream, coalesce(k.label, k.mask) AS client_key, r.outcome,
    r.requests,
    r.input_tokens,
    r.output_tokens,
    r.reasoning_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.uncached_input_tokens,
    r.cache_read_tokens,
    r.cache_write_tokens,
    r.billed_output_tokens,
    r.unclassified_tokens,
    CASE WHEN r.priced_requests > 0 THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum,
    r.latency_samples,
    r.ttft_ms_sum,
    r.ttft_samples,
    r.latency_le_500ms,
    r.latency_le_1s,
    r.latency_le_2500ms,
    r.latency_le_5s,
    r.latency_le_10s,
    r.latency_le_30s,
    r.latency_le_60s,
    r.latency_le_120s,
    r.latency_le_300s,
    r.ttft_le_500ms,
    r.ttft_le_1s,
    r.ttft_le_2500ms,
    r.ttft_le_5s,
    r.ttft_le_10s,
    r.ttft_le_30s,
    r.ttft_le_60s,
    r.ttft_le_120s,
    r.ttft_le_300s,
    CASE WHEN r.priced_requests > 0 THEN r.estimated_cost_usd END AS estimated_cost_usd,
    r.latency_le_50ms,
    r.latency_le_100ms,
    r.latency_le_250ms,
    r.latency_le_600s,
    r.latency_le_1200s,
    r.ttft_le_50ms,
    r.ttft_le_100ms,
    r.ttft_le_250ms,
    r.ttft_le_600s,
    r.ttft_le_1200s
FROM usage.daily_key AS r
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_hourly_keys AS
SELECT
    r.hour, u.name AS upstream, coalesce(k.label, k.mask) AS client_key, r.outcome,
    r.requests,
    r.input_tokens,
    r.output_tokens,
    r.reasoning_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.uncached_input_tokens,
    r.cache_read_tokens,
    r.cache_write_tokens,
    r.billed_output_tokens,
    r.unclassified_tokens,
    CASE WHEN r.priced_requests > 0 THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum,
    r.latency_samples,
    r.ttft_ms_sum,
    r.ttft_samples,
    r.latency_le_500ms,
    r.latency_le_1s,
    r.latency_le_2500ms,
    r.latency_le_5s,
    r.latency_le_10s,
    r.latency_le_30s,
    r.latency_le_60s,
    r.latency_le_120s,
    r.latency_le_300s,
    r.ttft_le_500ms,
    r.ttft_le_1s,
    r.ttft_le_2500ms,
    r.ttft_le_5s,
    r.ttft_le_10s,
    r.ttft_le_30s,
    r.ttft_le_60s,
    r.ttft_le_120s,
    r.ttft_le_300s,
    CASE WHEN r.priced_requests > 0 THEN r.estimated_cost_usd END AS estimated_cost_usd,
    r.latency_le_50ms,
    r.latency_le_100ms,
    r.latency_le_250ms,
    r.latency_le_600s,
    r.latency_le_1200s,
    r.ttft_le_50ms,
    r.ttft_le_100ms,
    r.ttft_le_250ms,
    r.ttft_le_600s,
    r.ttft_le_1200s
FROM usage.hourly_key AS r
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;

-- One record as the measures that it adds to an hour: a cost is one where something was used.
CREATE VIEW usage_api.v1_record_measures AS
SELECT
    r.occurred_at, u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    coalesce(k.label, k.mask) AS client_key, d.provider, d.endpoint, d.model, d.alias, d.outcome,
    r.requests,
    r.input_tokens,
    r.output_tokens,
    r.reasoning_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.uncached_input_tokens,
    r.cache_read_tokens,
    r.cache_write_tokens,
    r.billed_output_tokens,
    r.unclassified_tokens,
    CASE WHEN r.priced_requests > 0 THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.priced_requests > 0 THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum,
    r.latency_samples,
    r.ttft_ms_sum,
    r.ttft_samples,
    r.latency_le_500ms,
    r.latency_le_1s,
    r.latency_le_2500ms,
    r.latency_le_5s,
    r.latency_le_10s,
    r.latency_le_30s,
    r.latency_le_60s,
    r.latency_le_120s,
    r.latency_le_300s,
    r.ttft_le_500ms,
    r.ttft_le_1s,
    r.ttft_le_2500ms,
    r.ttft_le_5s,
    r.ttft_le_10s,
    r.ttft_le_30s,
    r.ttft_le_60s,
    r.ttft_le_120s,
    r.ttft_le_300s,
    CASE WHEN r.priced_requests > 0 THEN r.estimated_cost_usd END AS estimated_cost_usd,
    r.latency_le_50ms,
    r.latency_le_100ms,
    r.latency_le_250ms,
    r.latency_le_600s,
    r.latency_le_1200s,
    r.ttft_le_50ms,
    r.ttft_le_100ms,
    r.ttft_le_250ms,
    r.ttft_le_600s,
    r.ttft_le_1200s
FROM usage.record_measure AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

-- Joins that can be left out when nothing of them is asked for: every id has its row, so that the rows are the same. A
-- batch may be forgotten before its last record is.
CREATE VIEW usage_api.v1_records AS
SELECT
    r.occurred_at,
    r.occurred_at + r.latency_ms * interval '1 millisecond' AS completed_at,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind, r.channel_rule,
    o.auth_index, o.source_label AS source, coalesce(k.label, k.mask) AS client_key,
    d.provider, d.endpoint, o.auth_type, d.model, d.alias, r.request_id,
    d.outcome, r.status_code, r.error,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    r.cost_usd, r.actual_cost_usd, r.cache_read_cost_usd, r.cache_write_cost_usd,
    r.service_tier, r.reasoning_effort, r.latency_ms, r.ttft_ms,
    b.loaded_at AS synced_at,
    encode(r.event_key, 'hex') AS record_id,
    CASE WHEN r.channel_rule = 'ambiguous' THEN o.candidates END AS channel_candidates,
    r.price_id,
    r.event_key, r.dimension_id, d.channel_id, d.client_key_id, r.origin_id,
    r.response_service_tier,
    r.cost_estimated,
    CASE WHEN r.cost_estimated THEN r.cost_usd WHEN r.cost_usd IS NOT NULL THEN 0 END AS estimated_cost_usd,
    r.execution_id, r.stream, r.session_id, r.parent_session_id, r.response_model, r.cache_write_1h_tokens
FROM usage.record AS r
LEFT JOIN usage.dimension AS d USING (dimension_id)
LEFT JOIN usage.channel AS c USING (channel_id)
LEFT JOIN usage.client_key AS k USING (client_key_id)
LEFT JOIN usage.origin AS o USING (origin_id)
LEFT JOIN usage.batch AS b USING (batch_id)
LEFT JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

CREATE VIEW usage_api.v1_dimensions AS
SELECT
    d.dimension_id,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    coalesce(k.label, k.mask) AS client_key, d.provider, d.endpoint, d.model, d.alias, d.outcome,
    d.channel_id, d.client_key_id
FROM usage.dimension AS d
LEFT JOIN usage.channel AS c USING (channel_id)
LEFT JOIN usage.client_key AS k USING (client_key_id)
LEFT JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

CREATE VIEW usage_api.v1_channels AS
SELECT u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
       c.name AS configured_name, c.configured, coalesce(l.label, l.name) AS linked_to,
       coalesce((SELECT x.rate_multiplier FROM usage.channel_rate AS x
                 WHERE x.channel_id = c.channel_id AND x.valid_from <= now()
                 ORDER BY x.valid_from DESC LIMIT 1), 1) AS rate_multiplier,
       c.first_seen_at, c.last_seen_at, c.channel_id
FROM usage.channel AS c
JOIN usage.upstream AS u USING (upstream_id)
LEFT JOIN usage.channel AS l ON l.channel_id = c.linked_to;

-- The masks of forks, and those of CLIProxyAPIHome, are what several keys may look like.
CREATE VIEW usage_api.v1_client_keys AS
SELECT u.name AS upstream, coalesce(k.label, k.mask) AS client_key, k.mask, k.first_seen_at, k.last_seen_at,
       k.client_key_id,
       k.mask ~ '^([^\s*]{4}(\*{3}|\.{3})[^\s*]{4}|[^\s*]{2}\*{3}|\*{4})$' AS perhaps_several
FROM usage.client_key AS k
JOIN usage.upstream AS u USING (upstream_id);

CREATE VIEW usage_api.v1_prices AS
SELECT price_id, source, model, vendor, provider, channel, service_tier, above_input_tokens,
       valid_from, valid_to, hours_from, hours_to,
       input_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok, request_usd,
       origin, entered_at, dropped_at, estimated, cache_write_1h_usd_per_mtok
FROM usage.price;

CREATE VIEW usage_api.v1_sync_runs AS
SELECT s.run_id, u.name AS upstream, s.kind, s.mode, s.started_at, s.finished_at,
       s.pulled, s.inserted, s.duplicates, s.quarantined, s.unknown_channel, s.possible_loss,
       s.statistics_enabled, s.error, s.too_old
FROM usage.sync_run AS s
JOIN usage.upstream AS u USING (upstream_id);

-- Freshness goes by what is not from the future: one record of next year must not hide until then that nothing comes
-- any more. A proxy's clock may be a quarter of an hour ahead of the database's.
CREATE VIEW usage_api.v1_freshness AS
SELECT
    u.name AS upstream,
    last_pass.finished_at AS last_pass_at,
    last_success.finished_at AS last_success_at,
    CASE WHEN u.future_record_at <= now() + interval '15 minutes'
        THEN greatest(u.newest_record_at, u.future_record_at) ELSE u.newest_record_at END AS newest_record_at,
    coalesce(last_pass.journal_entries, 0) AS journal_entries,
    coalesce(last_pass.journal_bytes, 0) AS journal_bytes,
    (SELECT value FROM usage.setting WHERE key = 'timezone') AS timezone,
    u.records_complete_from,
    u.records_dropped_before,
    last_failure.finished_at AS last_failure_at,
    last_failure.error AS last_error,
    CASE WHEN u.future_record_at > now() + interval '15 minutes' THEN u.future_record_at END AS future_record_at
FROM usage.upstream AS u
LEFT JOIN LATERAL (
    SELECT finished_at, journal_entries, journal_bytes FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL
    ORDER BY s.run_id DESC LIMIT 1
) AS last_pass ON true
LEFT JOIN LATERAL (
    SELECT finished_at FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL AND s.error IS NULL
    ORDER BY s.run_id DESC LIMIT 1
) AS last_success ON true
LEFT JOIN LATERAL (
    SELECT finished_at, error FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL AND s.error IS NOT NULL
    ORDER BY s.run_id DESC LIMIT 1
) AS last_failure ON true;

CREATE VIEW usage_api.v1_timezone AS
SELECT coalesce((SELECT value FROM usage.setting WHERE key = 'timezone'), 'UTC') AS timezone;

-- -- Windows -------------------------------------------------------------------------------------------------------
--
-- Usage between any two instants, from the rollups as far as they reach: whole days of the rollup zone, whole hours of
-- what is left at either end, and records for the ragged rest. Functions that return rows are single statements in SQL,
-- so that a query that calls one is planned as a whole; they read views alone, with their caller's rights.

CREATE FUNCTION usage_api.v1_zone() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT timezone FROM usage_api.v1_timezone $$;
COMMENT ON FUNCTION usage_api.v1_zone() IS 'The time zone of the days in every daily view.';

-- Of a midnight that comes twice PostgreSQL takes the later, and of one that is skipped the end of the gap: an hour
-- after the hour before is the earlier.
CREATE FUNCTION usage_api.v1_day_begin(day date, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT least(day::timestamp AT TIME ZONE zone,
                 (day::timestamp - interval '1 hour') AT TIME ZONE zone + interval '1 hour')
$$;
COMMENT ON FUNCTION usage_api.v1_day_begin(date, text) IS 'The first instant of a day in a time zone.';

-- A window is cut at eight edges into seven segments, some of them empty:
--
--     0 records 1 hours 2 records 3 days 4 records 5 hours 6 records 7
--
-- Where no day begins in it, all of it lies before edge 3. The planner asks for edges, too: they tell it how many rows
-- to expect and where the indexes are good for something.
CREATE FUNCTION usage_internal.edge(
    since timestamptz, until timestamptz, edge integer, grain text DEFAULT 'day', zone text DEFAULT NULL
) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    day_zone text;
    low timestamptz := coalesce(since, '-infinity');
    high timestamptz := coalesce(until, 'infinity');
    days_begin timestamptz;
    days_end timestamptz;
    first_hour timestamptz;
    end_of_hours timestamptz;
BEGIN
    IF grain IS NULL OR grain NOT IN ('hour', 'day') THEN
        RAISE EXCEPTION 'the grain % is not known: hour or day', coalesce(quote_literal(grain), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM now() AT TIME ZONE zone;  -- refuses one that there is not
    IF high <= low THEN
        RETURN low;
    END IF;
    IF edge = 0 THEN
        RETURN low;
    ELSIF edge = 7 THEN
        RETURN high;
    END IF;
    days_begin := high;
    days_end := high;
    IF grain = 'day' THEN
        SELECT timezone INTO day_zone FROM usage_api.v1_timezone;
        IF zone IS NULL OR zone = day_zone THEN
            days_begin := usage_api.v1_day_begin((low AT TIME ZONE day_zone)::date, day_zone);
            IF days_begin < low THEN
                days_begin := usage_api.v1_day_begin((low AT TIME ZONE day_zone)::date + 1, day_zone);
            END IF;
            days_end := usage_api.v1_day_begin((high AT TIME ZONE day_zone)::date, day_zone);
            IF days_end < days_begin THEN  -- no day begins in the window
                days_begin := high;
                days_end := high;
            END IF;
        END IF;
    END IF;
    IF edge = 3 THEN
        RETURN days_begin;
    ELSIF edge = 4 THEN
        RETURN days_end;
    ELSIF edge < 3 THEN
        high := days_begin;
    ELSE
        low := days_end;
    END IF;
    first_hour := date_trunc('hour', low, 'UTC');
    IF first_hour < low THEN
        first_hour := first_hour + interval '1 hour';
    END IF;
    end_of_hours := date_trunc('hour', high, 'UTC');
    IF first_hour > end_of_hours THEN
        RETURN high;
    ELSIF edge IN (1, 5) THEN
        RETURN first_hour;
    ELSE
        RETURN end_of_hours;
    END IF;
END
$$;
COMMENT ON FUNCTION usage_internal.edge(timestamptz, timestamptz, integer, text, text) IS 'Where a window is cut: edges 0 to 7 bound records, hours, records, days, records, hours and records.';

CREATE FUNCTION usage_internal.edge_day(
    since timestamptz, until timestamptz, edge integer, grain text DEFAULT 'day', zone text DEFAULT NULL
) RETURNS date
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    day_zone text;
BEGIN
    SELECT timezone INTO day_zone FROM usage_api.v1_timezone;
    RETURN (usage_internal.edge(since, until, edge, grain, zone) AT TIME ZONE day_zone)::date;
END
$$;
COMMENT ON FUNCTION usage_internal.edge_day(timestamptz, timestamptz, integer, text, text) IS 'The day that begins at edge 3 or 4 of a window.';

CREATE FUNCTION usage_internal.require_records(since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    dropped_before timestamptz;
BEGIN
    IF since >= until THEN
        RETURN false;
    END IF;
    SELECT max(f.records_dropped_before) INTO dropped_before FROM usage_api.v1_freshness AS f;
    IF since < dropped_before
       AND EXISTS (SELECT FROM usage_api.v1_hourly AS h
                   WHERE h.hour >= date_trunc('hour', since, 'UTC') AND h.hour < until AND h.hour < dropped_before) THEN
        RAISE EXCEPTION 'the records from % to % that are needed here have been dropped', since, until
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Before ' || dropped_before || ' only hours that are whole in UTC and days that are whole in '
                         || 'the rollup time zone are known: let the window begin and end with one.';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION usage_internal.require_records(timestamptz, timestamptz) IS 'Whether there is anything between two instants to read from records; an error where those have been dropped.';

-- A condition beside the window would not be asked where the planner knows that the window holds no partition any more:
-- as the bounds of the window themselves, which only the executor knows, it always is.
CREATE FUNCTION usage_internal.records_from(since timestamptz, until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    PERFORM usage_internal.require_records(coalesce(since, '-infinity'), coalesce(until, 'infinity'));
    RETURN coalesce(since, '-infinity');
END
$$;
COMMENT ON FUNCTION usage_internal.records_from(timestamptz, timestamptz) IS 'The begin of a window that is read from records; an error where those have been dropped.';

CREATE FUNCTION usage_internal.records_until(since timestamptz, until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    PERFORM usage_internal.require_records(coalesce(since, '-infinity'), coalesce(until, 'infinity'));
    RETURN coalesce(until, 'infinity');
END
$$;
COMMENT ON FUNCTION usage_internal.records_until(timestamptz, timestamptz) IS 'The end of a window that is read from records; an error where those have been dropped.';

CREATE FUNCTION usage_api.v1_bucket(at timestamptz, grain text, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE grain WHEN 'day' THEN usage_api.v1_day_begin((at AT TIME ZONE zone)::date, zone)
                      WHEN 'hour' THEN date_trunc('hour', at, zone) END
$$;
COMMENT ON FUNCTION usage_api.v1_bucket(timestamptz, text, text) IS 'The begin of the hour or day of a time zone that an instant lies in.';

-- The planner sees through a comparison, and would expect next to no hour to pass it; it does not through coalesce.
CREATE FUNCTION usage_internal.is_cut(hour timestamptz, grain text, zone text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(CASE grain
        WHEN 'day' THEN (hour AT TIME ZONE zone)::date
                        <> ((hour + interval '59 minutes 59.999999 seconds') AT TIME ZONE zone)::date
        ELSE date_trunc('hour', hour, zone) <> hour
             OR date_trunc('hour', hour + interval '59 minutes 59.999999 seconds', zone) <> hour
    END, true)
$$;
COMMENT ON FUNCTION usage_internal.is_cut(timestamptz, text, text) IS 'Whether an hour of UTC lies in more than one hour or day of a time zone.';

-- A value that stands for one of a few known words: anything else is refused by name, instead of finding nothing.
CREATE FUNCTION usage_internal.one_of(given text, what text, known text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF given = ANY(known) THEN
        RETURN given;
    END IF;
    RAISE EXCEPTION 'there is no % %: known are %',
        what, coalesce(quote_literal(given), 'NULL'), array_to_string(known, ', ')
        USING ERRCODE = 'invalid_parameter_value';
END
$$;
COMMENT ON FUNCTION usage_internal.one_of(text, text, text[]) IS 'The given word, or an error that names the known ones when it is none of them.';

-- -- The one rule for the cost of a sum ---------------------------------------------------------------------------
--
-- A request that used nothing costs 0 and says nothing about prices. So a row of a rollup has a cost where a priced
-- request of it used something (priced_requests), and costs add up by sum(): NULL only where nothing has a cost. Where
-- that is no missing price, since nothing at all was used, the cost is 0.
CREATE FUNCTION usage_api.v1_cost(sum_of_costs numeric, unpriced_requests numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(sum_of_costs, CASE WHEN coalesce(unpriced_requests, 0) = 0 THEN 0 END)
$$;
COMMENT ON FUNCTION usage_api.v1_cost(numeric, numeric) IS 'The cost of several rows, from sum(cost_usd) and sum(unpriced_requests) over them: NULL when something was used and nothing of it has a price, 0 when nothing was used.';

CREATE TYPE usage_api.v1_usage AS (
    upstream text,
    channel text,
    channel_group text,
    channel_kind text,
    client_key text,
    provider text,
    endpoint text,
    model text,
    alias text,
    outcome text,
    requests bigint,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    latency_ms_sum bigint,
    latency_samples bigint,
    ttft_ms_sum bigint,
    ttft_samples bigint,
    latency_le_500ms bigint,
    latency_le_1s bigint,
    latency_le_2500ms bigint,
    latency_le_5s bigint,
    latency_le_10s bigint,
    latency_le_30s bigint,
    latency_le_60s bigint,
    latency_le_120s bigint,
    latency_le_300s bigint,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    estimated_cost_usd numeric,
    latency_le_50ms bigint,
    latency_le_100ms bigint,
    latency_le_250ms bigint,
    latency_le_600s bigint,
    latency_le_1200s bigint,
    ttft_le_50ms bigint,
    ttft_le_100ms bigint,
    ttft_le_250ms bigint,
    ttft_le_600s bigint,
    ttft_le_1200s bigint
);
COMMENT ON TYPE usage_api.v1_usage IS 'A row of the function of this name.';

CREATE FUNCTION usage_api.v1_usage(since timestamptz, until timestamptz) RETURNS SETOF usage_api.v1_usage
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_daily
    WHERE day >= usage_internal.edge_day(since, until, 3)
      AND day < usage_internal.edge_day(since, until, 4)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_internal.edge(since, until, 1)
      AND hour < usage_internal.edge(since, until, 2)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_internal.edge(since, until, 5)
      AND hour < usage_internal.edge(since, until, 6)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 0)
      AND occurred_at < usage_internal.edge(since, until, 1)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 0), usage_internal.edge(since, until, 1))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 2)
      AND occurred_at < usage_internal.edge(since, until, 3)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 2), usage_internal.edge(since, until, 3))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 4)
      AND occurred_at < usage_internal.edge(since, until, 5)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 4), usage_internal.edge(since, until, 5))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 6)
      AND occurred_at < usage_internal.edge(since, until, 7)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 6), usage_internal.edge(since, until, 7))
$$;
COMMENT ON FUNCTION usage_api.v1_usage(timestamptz, timestamptz) IS 'Usage in a window, to add up: every day, hour or record of it is a row or several.';

CREATE TYPE usage_api.v1_channel_usage AS (
    upstream text,
    channel text,
    channel_group text,
    channel_kind text,
    model text,
    outcome text,
    requests bigint,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    latency_ms_sum bigint,
    latency_samples bigint,
    ttft_ms_sum bigint,
    ttft_samples bigint,
    latency_le_500ms bigint,
    latency_le_1s bigint,
    latency_le_2500ms bigint,
    latency_le_5s bigint,
    latency_le_10s bigint,
    latency_le_30s bigint,
    latency_le_60s bigint,
    latency_le_120s bigint,
    latency_le_300s bigint,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    estimated_cost_usd numeric,
    latency_le_50ms bigint,
    latency_le_100ms bigint,
    latency_le_250ms bigint,
    latency_le_600s bigint,
    latency_le_1200s bigint,
    ttft_le_50ms bigint,
    ttft_le_100ms bigint,
    ttft_le_250ms bigint,
    ttft_le_600s bigint,
    ttft_le_1200s bigint
);
COMMENT ON TYPE usage_api.v1_channel_usage IS 'A row of the function of this name.';

CREATE FUNCTION usage_api.v1_channel_usage(since timestamptz, until timestamptz) RETURNS SETOF usage_api.v1_channel_usage
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms,
        latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms,
        ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_daily_channels
    WHERE day >= usage_internal.edge_day(since, until, 3)
      AND day < usage_internal.edge_day(since, until, 4)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms,
        latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms,
        ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_internal.edge(since, until, 1)
      AND hour < usage_internal.edge(since, until, 2)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms,
        latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms,
        ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_internal.edge(since, until, 5)
      AND hour < usage_internal.edge(since, until, 6)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms,
        latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms,
        ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 0)
      AND occurred_at < usage_internal.edge(since, until, 1)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 0), usage_internal.edge(since, until, 1))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms,
        latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms,
        ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 2)
      AND occurred_at < usage_internal.edge(since, until, 3)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 2), usage_internal.edge(since, until, 3))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms,
        latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms,
        ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 4)
      AND occurred_at < usage_internal.edge(since, until, 5)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 4), usage_internal.edge(since, until, 5))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms,
        latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms,
        ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 6)
      AND occurred_at < usage_internal.edge(since, until, 7)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 6), usage_internal.edge(since, until, 7))
$$;
COMMENT ON FUNCTION usage_api.v1_channel_usage(timestamptz, timestamptz) IS 'v1_usage in fewer rows: by channel, model and outcome.';

CREATE TYPE usage_api.v1_key_usage AS (
    upstream text,
    client_key text,
    outcome text,
    requests bigint,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    latency_ms_sum bigint,
    latency_samples bigint,
    ttft_ms_sum bigint,
    ttft_samples bigint,
    latency_le_500ms bigint,
    latency_le_1s bigint,
    latency_le_2500ms bigint,
    latency_le_5s bigint,
    latency_le_10s bigint,
    latency_le_30s bigint,
    latency_le_60s bigint,
    latency_le_120s bigint,
    latency_le_300s bigint,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    estimated_cost_usd numeric,
    latency_le_50ms bigint,
    latency_le_100ms bigint,
    latency_le_250ms bigint,
    latency_le_600s bigint,
    latency_le_1200s bigint,
    ttft_le_50ms bigint,
    ttft_le_100ms bigint,
    ttft_le_250ms bigint,
    ttft_le_600s bigint,
    ttft_le_1200s bigint
);
COMMENT ON TYPE usage_api.v1_key_usage IS 'A row of the function of this name.';

CREATE FUNCTION usage_api.v1_key_usage(since timestamptz, until timestamptz) RETURNS SETOF usage_api.v1_key_usage
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_daily_keys
    WHERE day >= usage_internal.edge_day(since, until, 3)
      AND day < usage_internal.edge_day(since, until, 4)
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_hourly_keys
    WHERE hour >= usage_internal.edge(since, until, 1)
      AND hour < usage_internal.edge(since, until, 2)
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_hourly_keys
    WHERE hour >= usage_internal.edge(since, until, 5)
      AND hour < usage_internal.edge(since, until, 6)
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 0)
      AND occurred_at < usage_internal.edge(since, until, 1)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 0), usage_internal.edge(since, until, 1))
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 2)
      AND occurred_at < usage_internal.edge(since, until, 3)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 2), usage_internal.edge(since, until, 3))
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 4)
      AND occurred_at < usage_internal.edge(since, until, 5)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 4), usage_internal.edge(since, until, 5))
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 6)
      AND occurred_at < usage_internal.edge(since, until, 7)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 6), usage_internal.edge(since, until, 7))
$$;
COMMENT ON FUNCTION usage_api.v1_key_usage(timestamptz, timestamptz) IS 'v1_usage in fewer rows: by client key and outcome.';

CREATE TYPE usage_api.v1_series AS (
    bucket timestamptz,
    upstream text,
    channel text,
    channel_group text,
    channel_kind text,
    client_key text,
    provider text,
    endpoint text,
    model text,
    alias text,
    outcome text,
    requests bigint,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    latency_ms_sum bigint,
    latency_samples bigint,
    ttft_ms_sum bigint,
    ttft_samples bigint,
    latency_le_500ms bigint,
    latency_le_1s bigint,
    latency_le_2500ms bigint,
    latency_le_5s bigint,
    latency_le_10s bigint,
    latency_le_30s bigint,
    latency_le_60s bigint,
    latency_le_120s bigint,
    latency_le_300s bigint,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    estimated_cost_usd numeric,
    latency_le_50ms bigint,
    latency_le_100ms bigint,
    latency_le_250ms bigint,
    latency_le_600s bigint,
    latency_le_1200s bigint,
    ttft_le_50ms bigint,
    ttft_le_100ms bigint,
    ttft_le_250ms bigint,
    ttft_le_600s bigint,
    ttft_le_1200s bigint
);
COMMENT ON TYPE usage_api.v1_series IS 'A row of the function of this name.';

CREATE TYPE usage_api.v1_key_series AS (
    bucket timestamptz,
    upstream text,
    client_key text,
    outcome text,
    requests bigint,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    latency_ms_sum bigint,
    latency_samples bigint,
    ttft_ms_sum bigint,
    ttft_samples bigint,
    latency_le_500ms bigint,
    latency_le_1s bigint,
    latency_le_2500ms bigint,
    latency_le_5s bigint,
    latency_le_10s bigint,
    latency_le_30s bigint,
    latency_le_60s bigint,
    latency_le_120s bigint,
    latency_le_300s bigint,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    estimated_cost_usd numeric,
    latency_le_50ms bigint,
    latency_le_100ms bigint,
    latency_le_250ms bigint,
    latency_le_600s bigint,
    latency_le_1200s bigint,
    ttft_le_50ms bigint,
    ttft_le_100ms bigint,
    ttft_le_250ms bigint,
    ttft_le_600s bigint,
    ttft_le_1200s bigint
);
COMMENT ON TYPE usage_api.v1_key_series IS 'A row of the function of this name.';

-- What hours of UTC cannot tell of the hours and days of another zone, from records. In zones with whole hours there is
-- nothing of this kind.
CREATE FUNCTION usage_internal.cut_series(since timestamptz, until timestamptz, grain text, zone text)
RETURNS SETOF usage_api.v1_series
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET jit = off
AS $$
DECLARE
    day_zone text := coalesce(zone, usage_api.v1_zone());
    first_hour timestamptz;
    last_hour timestamptz;
    begins timestamptz[];
    ends timestamptz[];
BEGIN
    IF (grain = 'day' AND day_zone = usage_api.v1_zone()) OR since >= until THEN
        RETURN;
    END IF;
    SELECT hour INTO first_hour FROM usage_api.v1_hourly ORDER BY hour LIMIT 1;
    SELECT hour INTO last_hour FROM usage_api.v1_hourly ORDER BY hour DESC LIMIT 1;
    IF first_hour IS NULL THEN
        RETURN;
    END IF;
    -- Hours that follow one another are read at once.
    SELECT array_agg(run.begins ORDER BY run.begins), array_agg(run.ends ORDER BY run.begins) INTO begins, ends
    FROM (
        SELECT min(hour) AS begins, max(hour) + interval '1 hour' AS ends
        FROM (
            SELECT hour, hour - row_number() OVER (ORDER BY hour) * interval '1 hour' AS run
            FROM generate_series(greatest(usage_internal.edge(since, until, 1, grain, zone), first_hour),
                                 least(usage_internal.edge(since, until, 2, grain, zone) - interval '1 hour', last_hour),
                                 interval '1 hour') AS hour
            WHERE usage_internal.is_cut(hour, grain, day_zone)
        ) AS cut
        GROUP BY run
    ) AS run;
    IF begins IS NULL THEN
        RETURN;
    END IF;
    PERFORM usage_internal.require_records(run.begins, run.ends) FROM unnest(begins, ends) AS run (begins, ends);
    RETURN QUERY
    SELECT
        usage_api.v1_bucket(m.occurred_at, grain, day_zone),
        m.upstream, m.channel, m.channel_group, m.channel_kind, m.client_key, m.provider, m.endpoint, m.model,
        m.alias, m.outcome,
        sum(m.requests)::bigint,
        sum(m.input_tokens)::bigint,
        sum(m.output_tokens)::bigint,
        sum(m.reasoning_tokens)::bigint,
        sum(m.cached_tokens)::bigint,
        sum(m.total_tokens)::bigint,
        sum(m.uncached_input_tokens)::bigint,
        sum(m.cache_read_tokens)::bigint,
        sum(m.cache_write_tokens)::bigint,
        sum(m.billed_output_tokens)::bigint,
        sum(m.unclassified_tokens)::bigint,
        sum(m.cost_usd),
        sum(m.actual_cost_usd),
        sum(m.cache_read_cost_usd),
        sum(m.cache_write_cost_usd),
        sum(m.unpriced_requests)::bigint,
        sum(m.latency_ms_sum)::bigint,
        sum(m.latency_samples)::bigint,
        sum(m.ttft_ms_sum)::bigint,
        sum(m.ttft_samples)::bigint,
        sum(m.latency_le_500ms)::bigint,
        sum(m.latency_le_1s)::bigint,
        sum(m.latency_le_2500ms)::bigint,
        sum(m.latency_le_5s)::bigint,
        sum(m.latency_le_10s)::bigint,
        sum(m.latency_le_30s)::bigint,
        sum(m.latency_le_60s)::bigint,
        sum(m.latency_le_120s)::bigint,
        sum(m.latency_le_300s)::bigint,
        sum(m.ttft_le_500ms)::bigint,
        sum(m.ttft_le_1s)::bigint,
        sum(m.ttft_le_2500ms)::bigint,
        sum(m.ttft_le_5s)::bigint,
        sum(m.ttft_le_10s)::bigint,
        sum(m.ttft_le_30s)::bigint,
        sum(m.ttft_le_60s)::bigint,
        sum(m.ttft_le_120s)::bigint,
        sum(m.ttft_le_300s)::bigint,
        sum(m.estimated_cost_usd),
        sum(m.latency_le_50ms)::bigint,
        sum(m.latency_le_100ms)::bigint,
        sum(m.latency_le_250ms)::bigint,
        sum(m.latency_le_600s)::bigint,
        sum(m.latency_le_1200s)::bigint,
        sum(m.ttft_le_50ms)::bigint,
        sum(m.ttft_le_100ms)::bigint,
        sum(m.ttft_le_250ms)::bigint,
        sum(m.ttft_le_600s)::bigint,
        sum(m.ttft_le_1200s)::bigint
    FROM unnest(begins, ends) AS run (begins, ends)
    CROSS JOIN LATERAL (
        SELECT * FROM usage_api.v1_record_measures AS r
        WHERE r.occurred_at >= run.begins AND r.occurred_at < run.ends
        OFFSET 0  -- one run after the other: each finds its records through the index
    ) AS m
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11;
END
$$;
COMMENT ON FUNCTION usage_internal.cut_series(timestamptz, timestamptz, text, text) IS 'The part of v1_series that lies in hours of UTC with more than one bucket.';

CREATE FUNCTION usage_api.v1_series(since timestamptz, until timestamptz, grain text, zone text DEFAULT NULL)
RETURNS SETOF usage_api.v1_series
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        usage_api.v1_day_begin(day, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_daily
    WHERE day >= usage_internal.edge_day(since, until, 3, grain, zone)
      AND day < usage_internal.edge_day(since, until, 4, grain, zone)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly
    WHERE hour >= usage_internal.edge(since, until, 1, grain, zone)
      AND hour < usage_internal.edge(since, until, 2, grain, zone)
      AND NOT usage_internal.is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly
    WHERE hour >= usage_internal.edge(since, until, 5, grain, zone)
      AND hour < usage_internal.edge(since, until, 6, grain, zone)
      AND NOT usage_internal.is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 0, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 1, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 0, grain, zone), usage_internal.edge(since, until, 1, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 2, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 3, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 2, grain, zone), usage_internal.edge(since, until, 3, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 4, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 5, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 4, grain, zone), usage_internal.edge(since, until, 5, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 6, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 7, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 6, grain, zone), usage_internal.edge(since, until, 7, grain, zone))
    UNION ALL
    SELECT
        bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s, estimated_cost_usd,
        latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, latency_le_1200s, ttft_le_50ms,
        ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_internal.cut_series(since, until, grain, zone)
$$;
COMMENT ON FUNCTION usage_api.v1_series(timestamptz, timestamptz, text, text) IS 'Usage in a window, to add up by the hours or days of a time zone: of the rollup time zone when none is named.';

CREATE FUNCTION usage_api.v1_key_series(since timestamptz, until timestamptz, grain text, zone text DEFAULT NULL)
RETURNS SETOF usage_api.v1_key_series
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        usage_api.v1_day_begin(day, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_daily_keys
    WHERE day >= usage_internal.edge_day(since, until, 3, grain, zone)
      AND day < usage_internal.edge_day(since, until, 4, grain, zone)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly_keys
    WHERE hour >= usage_internal.edge(since, until, 1, grain, zone)
      AND hour < usage_internal.edge(since, until, 2, grain, zone)
      AND NOT usage_internal.is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly_keys
    WHERE hour >= usage_internal.edge(since, until, 5, grain, zone)
      AND hour < usage_internal.edge(since, until, 6, grain, zone)
      AND NOT usage_internal.is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 0, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 1, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 0, grain, zone), usage_internal.edge(since, until, 1, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 2, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 3, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 2, grain, zone), usage_internal.edge(since, until, 3, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 4, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 5, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 4, grain, zone), usage_internal.edge(since, until, 5, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_internal.edge(since, until, 6, grain, zone)
      AND occurred_at < usage_internal.edge(since, until, 7, grain, zone)
      AND usage_internal.require_records(
          usage_internal.edge(since, until, 6, grain, zone), usage_internal.edge(since, until, 7, grain, zone))
    UNION ALL
    SELECT
        bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s, estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms,
        latency_le_600s, latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s
    FROM usage_internal.cut_series(since, until, grain, zone)
$$;
COMMENT ON FUNCTION usage_api.v1_key_series(timestamptz, timestamptz, text, text) IS 'v1_series in fewer rows: by client key and outcome.';


-- -- Single requests -----------------------------------------------------------------------------------------------
--
-- Figures that come from records: what happened to single requests, which no sum tells. Each function is one SELECT
-- that PostgreSQL puts in the place of its call, so that a window prunes partitions and a column that is not asked for
-- costs nothing.

CREATE FUNCTION usage_internal.call_period(period text) RETURNS interval
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    CASE period
        WHEN '1m' THEN RETURN interval '1 minute';
        WHEN '1h' THEN RETURN interval '1 hour';
        WHEN '8h' THEN RETURN interval '8 hours';
        WHEN '24h' THEN RETURN interval '24 hours';
        ELSE RAISE invalid_parameter_value
            USING MESSAGE = format('there is no period %L: there are 1m, 1h, 8h and 24h', period);
    END CASE;
END
$$;
COMMENT ON FUNCTION usage_internal.call_period(text) IS 'How long a period of v1_call_details is.';

CREATE FUNCTION usage_api.v1_call_details(
    period text, at timestamptz DEFAULT now(), of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL
) RETURNS SETOF usage_api.v1_records
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT r.*
    FROM usage_api.v1_records AS r
    WHERE r.occurred_at >= at - usage_internal.call_period(period) AND r.occurred_at < at
      AND (of_upstream IS NULL OR r.upstream = of_upstream)
      AND (of_channel IS NULL OR r.channel = of_channel)
    ORDER BY r.occurred_at DESC, r.event_key DESC
$$;
COMMENT ON FUNCTION usage_api.v1_call_details(text, timestamptz, text, text) IS 'The records of the last minute (1m), hour (1h), 8 hours (8h) or 24 hours (24h) before an instant, newest first.';

-- The words of a search as patterns: at most ten, of at most 100 characters, none of which means anything but itself.
CREATE FUNCTION usage_internal.search_patterns(search text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        array_agg('%' || regexp_replace(left(word, 100), '([\\%_])', '\\\1', 'g') || '%' ORDER BY place), '{}')
    FROM regexp_split_to_table(search, '\s+') WITH ORDINALITY AS words (word, place)
    WHERE word <> '' AND place <= 10 + (search ~ '^\s')::int
$$;
COMMENT ON FUNCTION usage_internal.search_patterns(text) IS 'The words of a search as patterns for ILIKE: the first ten, each cut to 100 characters.';

-- The dimensions that fit are looked for first: they are few. Then the index is walked from its end.
CREATE FUNCTION usage_api.v1_find_records(
    search text DEFAULT NULL, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL,
    page_size integer DEFAULT 100, before_at timestamptz DEFAULT NULL, before_id text DEFAULT NULL
) RETURNS SETOF usage_api.v1_records
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH fitting AS (
        SELECT dimension_id
        FROM usage_api.v1_dimensions
        WHERE concat_ws(E'\n', channel, client_key, model, alias, provider)
              ILIKE ALL (usage_internal.search_patterns(search))
          AND (of_upstream IS NULL OR upstream = of_upstream)
          AND (of_channel IS NULL OR channel = of_channel)
          AND (of_client_key IS NULL OR client_key = of_client_key)
          AND (of_model IS NULL OR model = of_model)
          AND (of_outcome IS NULL OR outcome = of_outcome)
    )
    SELECT r.*
    FROM usage_api.v1_records AS r
    WHERE r.occurred_at >= coalesce(since, '-infinity') AND r.occurred_at < coalesce(until, 'infinity')
      AND r.occurred_at <= coalesce(before_at, 'infinity')
      AND (r.occurred_at, r.event_key) < (coalesce(before_at, 'infinity'), coalesce(decode(before_id, 'hex'), ''))
      AND (coalesce(search, of_upstream, of_channel, of_client_key, of_model, of_outcome) IS NULL
           OR (EXISTS (SELECT FROM fitting) AND r.dimension_id IN (SELECT f.dimension_id FROM fitting AS f)))
    ORDER BY r.occurred_at DESC, r.event_key DESC
    LIMIT page_size
$$;
COMMENT ON FUNCTION usage_api.v1_find_records(text, timestamptz, timestamptz, text, text, text, text, text, integer, timestamptz, text) IS 'A page of records, newest first. Every word of the search is in the channel, client key, model, alias or provider. The next page comes before the last row''s occurred_at and record_id.';

CREATE TYPE usage_api.v1_count_records AS (
    records bigint
);
COMMENT ON TYPE usage_api.v1_count_records IS 'A row of the function of this name.';

-- All that can be asked for is a dimension, so that hours and days know the number.
CREATE FUNCTION usage_api.v1_count_records(
    search text DEFAULT NULL, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_count_records
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1 AS $$
    WITH combination AS MATERIALIZED (  -- so that each is searched once, and not each of its hours and days
        SELECT channel, client_key, model, alias, provider, sum(requests) AS records
        FROM usage_api.v1_usage(since, until)
        WHERE (of_upstream IS NULL OR upstream = of_upstream)
          AND (of_channel IS NULL OR channel = of_channel)
          AND (of_client_key IS NULL OR client_key = of_client_key)
          AND (of_model IS NULL OR model = of_model)
          AND (of_outcome IS NULL OR outcome = of_outcome)
        GROUP BY 1, 2, 3, 4, 5
    )
    SELECT coalesce(sum(records), 0)::bigint
    FROM combination
    WHERE concat_ws(E'\n', channel, client_key, model, alias, provider)
          ILIKE ALL (usage_internal.search_patterns(search))
$$;
COMMENT ON FUNCTION usage_api.v1_count_records(text, timestamptz, timestamptz, text, text, text, text, text) IS 'How many records v1_find_records finds on all its pages; those that have been dropped are counted as well.';

CREATE TYPE usage_internal.attempts_around AS (
    upstream text,
    client_key text,
    request_id text,
    occurred_at timestamptz,
    completed_at timestamptz,
    record_id text,
    channel text,
    model text,
    alias text,
    outcome text,
    status_code integer,
    error text,
    latency_ms bigint,
    tokens bigint,
    total_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    begins boolean,
    ends boolean,
    counts integer,
    client_key_id integer,
    dimension_id integer,
    origin_id integer,
    event_key bytea,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_internal.attempts_around IS 'A row of the function of this name.';

-- A request id has 32 random bits, and all turns of a web socket share one. So an attempt belongs to the one before it
-- with its client key and request id only if that failed and ended gap_s before at most, or began at the same instant.
-- The request id is sorted by first, and by its bytes: that is the fastest way to sort.
CREATE FUNCTION usage_internal.attempts_around(
    since timestamptz, until timestamptz, gap_s integer DEFAULT 90, margin interval DEFAULT '1 hour',
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL, of_request_id text DEFAULT NULL
) RETURNS SETOF usage_internal.attempts_around
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, client_key, request_id, occurred_at, completed_at, record_id, channel, model, alias, outcome,
        status_code, error, latency_ms,
        uncached_input_tokens + cache_read_tokens + cache_write_tokens + billed_output_tokens + unclassified_tokens,
        total_tokens, cost_usd, actual_cost_usd,
        CASE
            WHEN request_id = '' THEN true
            WHEN occurred_at = lag(occurred_at) OVER request THEN false
            ELSE coalesce(occurred_at > lag(retried_until) OVER request, true)
        END,
        CASE
            WHEN request_id = '' THEN true
            WHEN occurred_at = lead(occurred_at) OVER request THEN false
            ELSE coalesce(lead(occurred_at) OVER request > retried_until, true)
        END,
        CASE WHEN request_id <> '' AND occurred_at = lag(occurred_at) OVER request THEN 0 ELSE 1 END,
        client_key_id, dimension_id, origin_id, event_key, estimated_cost_usd
    FROM (
        SELECT
            *,
            CASE
                WHEN outcome = 'failed'
                    THEN occurred_at + (coalesce(latency_ms, 0) + gap_s * bigint '1000') * interval '1 millisecond'
            END AS retried_until
        FROM usage_api.v1_records
        WHERE outcome <> 'warmup'
    ) AS r
    WHERE occurred_at >= coalesce(since, '-infinity') - margin AND occurred_at < coalesce(until, 'infinity') + margin
      AND (of_upstream IS NULL OR upstream = of_upstream)
      AND (of_client_key IS NULL OR client_key = of_client_key)
      AND (of_request_id IS NULL OR request_id = of_request_id)
    WINDOW request AS (PARTITION BY request_id COLLATE "C", client_key_id ORDER BY occurred_at, event_key)
$$;
COMMENT ON FUNCTION usage_internal.attempts_around(timestamptz, timestamptz, integer, interval, text, text, text) IS 'All that v1_attempts reads, the margins as well: where logical requests begin and end, found in one pass.';

CREATE TYPE usage_api.v1_attempts AS (
    upstream text,
    client_key text,
    request_id text,
    started_at timestamptz,
    attempt bigint,
    attempts bigint,
    begins boolean,
    ends boolean,
    occurred_at timestamptz,
    completed_at timestamptz,
    record_id text,
    channel text,
    model text,
    alias text,
    outcome text,
    status_code integer,
    error text,
    latency_ms bigint,
    tokens bigint,
    total_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    counts integer,
    request_number bigint,
    client_key_id integer,
    dimension_id integer,
    origin_id integer,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_attempts IS 'One row per attempt, in the logical request that it belongs to.';

CREATE FUNCTION usage_api.v1_attempts(
    since timestamptz, until timestamptz, gap_s integer DEFAULT 90, margin interval DEFAULT '1 hour',
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL, of_request_id text DEFAULT NULL
) RETURNS SETOF usage_api.v1_attempts
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, client_key, request_id, started_at,
        sum(counts) OVER (
            PARTITION BY request_id COLLATE "C", client_key_id, request_number ORDER BY occurred_at, event_key
            ROWS UNBOUNDED PRECEDING),
        sum(counts) OVER (PARTITION BY request_id COLLATE "C", client_key_id, request_number),
        begins, ends,
        occurred_at, completed_at, record_id, channel, model, alias, outcome, status_code, error, latency_ms,
        tokens, total_tokens, cost_usd, actual_cost_usd,
        counts, request_number, client_key_id, dimension_id, origin_id, estimated_cost_usd
    FROM (
        SELECT
            a.*,
            sum(a.begins::integer) OVER request AS request_number,
            max(a.occurred_at) FILTER (WHERE a.begins) OVER request AS started_at
        FROM usage_internal.attempts_around(since, until, gap_s, margin, of_upstream, of_client_key, of_request_id) AS a
        WINDOW request AS (
            PARTITION BY a.request_id COLLATE "C", a.client_key_id ORDER BY a.occurred_at, a.event_key
            ROWS UNBOUNDED PRECEDING)
    ) AS numbered
    WHERE started_at >= coalesce(since, '-infinity') AND started_at < coalesce(until, 'infinity')
$$;
COMMENT ON FUNCTION usage_api.v1_attempts(timestamptz, timestamptz, integer, interval, text, text, text) IS 'The attempts of the logical requests that began in a window, warm-ups left out. An attempt belongs to the one before it with the same client key and request id if that failed and ended at most gap_s seconds before. The margin before and after the window is read as well.';

CREATE TYPE usage_api.v1_logical_requests AS (
    upstream text,
    client_key text,
    request_id text,
    started_at timestamptz,
    ended_at timestamptz,
    attempts bigint,
    failed_attempts bigint,
    has_fallback boolean,
    switched boolean,
    first_channel text,
    final_channel text,
    model text,
    alias text,
    final_outcome text,
    tokens bigint,
    total_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    unpriced_records bigint,
    client_key_id integer,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_logical_requests IS 'One row per logical request: an attempt, and what the proxy tried again after it failed.';

-- Names come last, when there is one row per request: what is sorted stays narrow.
CREATE FUNCTION usage_api.v1_logical_requests(
    since timestamptz, until timestamptz, gap_s integer DEFAULT 90, margin interval DEFAULT '1 hour',
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_logical_requests
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        final.upstream, final.client_key, q.request_id, q.started_at, q.ended_at,
        q.attempts, q.failed_attempts, q.attempts > 1, q.switched,
        first.channel, final.channel, final.model, final.alias, q.final_outcome,
        q.tokens, q.total_tokens, q.cost_usd, q.actual_cost_usd, q.unpriced_records, q.client_key_id,
        q.estimated_cost_usd
    FROM (
        SELECT
            client_key_id, request_id COLLATE "C" AS request_id,
            min(occurred_at) AS started_at,
            max(coalesce(completed_at, occurred_at)) AS ended_at,
            sum(counts) AS attempts,
            count(*) FILTER (WHERE outcome = 'failed') AS failed_attempts,
            min(origin_id) < max(origin_id) AS switched,
            max(dimension_id) FILTER (WHERE begins) AS first_dimension_id,
            max(dimension_id) FILTER (WHERE ends) AS final_dimension_id,
            max(outcome) FILTER (WHERE ends) AS final_outcome,
            sum(tokens)::bigint AS tokens,
            sum(total_tokens)::bigint AS total_tokens,
            usage_api.v1_cost(sum(cost_usd) FILTER (WHERE tokens > 0 OR cost_usd > 0),
                              count(*) FILTER (WHERE cost_usd IS NULL)) AS cost_usd,
            usage_api.v1_cost(sum(actual_cost_usd) FILTER (WHERE tokens > 0 OR cost_usd > 0),
                              count(*) FILTER (WHERE cost_usd IS NULL)) AS actual_cost_usd,
            count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_records,
            usage_api.v1_cost(sum(estimated_cost_usd) FILTER (WHERE tokens > 0 OR cost_usd > 0),
                              count(*) FILTER (WHERE cost_usd IS NULL)) AS estimated_cost_usd
        FROM (SELECT usage_internal.records_from(since, until) AS since, usage_internal.records_until(since, until) AS until
              OFFSET 0) AS known  -- asked once, and not for each attempt
        CROSS JOIN LATERAL usage_api.v1_attempts(known.since, known.until, gap_s, margin, of_upstream, of_client_key)
        GROUP BY request_id COLLATE "C", client_key_id, request_number
    ) AS q
    LEFT JOIN usage_api.v1_dimensions AS first ON first.dimension_id = q.first_dimension_id
    LEFT JOIN usage_api.v1_dimensions AS final ON final.dimension_id = q.final_dimension_id
$$;
COMMENT ON FUNCTION usage_api.v1_logical_requests(timestamptz, timestamptz, integer, interval, text, text) IS 'The logical requests whose first attempt began in a window; the rule is that of v1_attempts.';

CREATE TYPE usage_api.v1_request_outcomes AS (
    request_id text,
    started_at timestamptz,
    attempts bigint,
    switched boolean,
    outcome text,
    client_key_id integer,
    dimension_id integer
);
COMMENT ON TYPE usage_api.v1_request_outcomes IS 'A row of the function of this name.';

-- Most requests are one attempt, and need no grouping.
CREATE FUNCTION usage_api.v1_request_outcomes(
    since timestamptz, until timestamptz, gap_s integer DEFAULT 90, margin interval DEFAULT '1 hour',
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_request_outcomes
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH attempt AS MATERIALIZED (
        SELECT request_id, occurred_at, event_key, outcome, begins, ends, counts, client_key_id, dimension_id, origin_id
        FROM usage_internal.attempts_around(
            usage_internal.records_from(since, until), usage_internal.records_until(since, until), gap_s, margin,
            of_upstream, of_client_key)
    )
    SELECT request_id, occurred_at, 1, false, outcome, client_key_id, dimension_id
    FROM attempt
    WHERE begins AND ends
      AND occurred_at >= coalesce(since, '-infinity') AND occurred_at < coalesce(until, 'infinity')
    UNION ALL
    SELECT
        request_id, min(occurred_at), sum(counts), min(origin_id) < max(origin_id),
        max(outcome) FILTER (WHERE ends), client_key_id, max(dimension_id) FILTER (WHERE ends)
    FROM (
        SELECT
            a.*,
            sum(a.begins::integer) OVER (
                PARTITION BY a.request_id COLLATE "C", a.client_key_id ORDER BY a.occurred_at, a.event_key
                ROWS UNBOUNDED PRECEDING) AS request_number
        FROM attempt AS a
        WHERE NOT (a.begins AND a.ends)
    ) AS grouped
    GROUP BY request_id, client_key_id, request_number
    HAVING min(occurred_at) >= coalesce(since, '-infinity') AND min(occurred_at) < coalesce(until, 'infinity')
$$;
COMMENT ON FUNCTION usage_api.v1_request_outcomes(timestamptz, timestamptz, integer, interval, text, text) IS 'The logical requests of v1_logical_requests with how they ended and no more: what long windows are analysed by.';

CREATE TYPE usage_api.v1_fallbacks AS (
    logical_requests bigint,
    attempts bigint,
    with_fallback bigint,
    switched bigint,
    rescued bigint,
    final_succeeded bigint,
    final_failed bigint,
    success_rate numeric,
    fallback_rate numeric,
    final_cancelled bigint
);
COMMENT ON TYPE usage_api.v1_fallbacks IS 'One row: what became of the logical requests of a window.';

CREATE FUNCTION usage_api.v1_fallbacks(
    since timestamptz, until timestamptz, gap_s integer DEFAULT 90, margin interval DEFAULT '1 hour',
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_fallbacks
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        count(*), coalesce(sum(attempts), 0)::bigint,
        count(*) FILTER (WHERE attempts > 1), count(*) FILTER (WHERE switched),
        count(*) FILTER (WHERE attempts > 1 AND outcome = 'success'),
        count(*) FILTER (WHERE outcome = 'success'), count(*) FILTER (WHERE outcome = 'failed'),
        round(100.0 * count(*) FILTER (WHERE outcome = 'success')
              / nullif(count(*) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2),
        round(100.0 * count(*) FILTER (WHERE attempts > 1) / nullif(count(*), 0), 2),
        count(*) FILTER (WHERE outcome = 'cancelled')
    FROM usage_api.v1_request_outcomes(since, until, gap_s, margin, of_upstream, of_client_key)
$$;
COMMENT ON FUNCTION usage_api.v1_fallbacks(timestamptz, timestamptz, integer, interval, text, text) IS 'How many logical requests of a window took more than one attempt, and what became of them.';

CREATE TYPE usage_api.v1_record AS (
    occurred_at timestamptz,
    completed_at timestamptz,
    upstream text,
    channel text,
    channel_group text,
    channel_kind text,
    channel_rule text,
    auth_index text,
    source text,
    client_key text,
    provider text,
    endpoint text,
    auth_type text,
    model text,
    alias text,
    request_id text,
    outcome text,
    status_code integer,
    error text,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    service_tier text,
    reasoning_effort text,
    latency_ms bigint,
    ttft_ms bigint,
    synced_at timestamptz,
    record_id text,
    channel_candidates text,
    price_id integer,
    input_usd_per_mtok numeric,
    cache_read_usd_per_mtok numeric,
    cache_write_usd_per_mtok numeric,
    output_usd_per_mtok numeric,
    request_usd numeric,
    rate_multiplier numeric,
    attempt bigint,
    attempts bigint,
    response_service_tier text,
    cost_estimated boolean,
    estimated_cost_usd numeric,
    execution_id text,
    stream boolean,
    session_id text,
    parent_session_id text,
    response_model text,
    cache_write_1h_tokens bigint,
    cache_write_1h_usd_per_mtok numeric
);
COMMENT ON TYPE usage_api.v1_record IS 'A record with the prices that it was charged by, and its place in its logical request.';

CREATE FUNCTION usage_api.v1_record(occurred_at timestamptz, record_id text) RETURNS SETOF usage_api.v1_record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1 AS $$
    SELECT
        r.occurred_at, r.completed_at,
        r.upstream, r.channel, r.channel_group, r.channel_kind, r.channel_rule, r.auth_index, r.source, r.client_key,
        r.provider, r.endpoint, r.auth_type, r.model, r.alias, r.request_id, r.outcome, r.status_code, r.error,
        r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
        r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens,
        r.unclassified_tokens,
        r.cost_usd, r.actual_cost_usd, r.cache_read_cost_usd, r.cache_write_cost_usd,
        r.service_tier, r.reasoning_effort, r.latency_ms, r.ttft_ms, r.synced_at, r.record_id, r.channel_candidates,
        r.price_id,
        p.input_usd_per_mtok, p.cache_read_usd_per_mtok, p.cache_write_usd_per_mtok, p.output_usd_per_mtok,
        p.request_usd,
        trim_scale(r.actual_cost_usd / nullif(r.cost_usd, 0)),
        a.attempt, a.attempts, r.response_service_tier, r.cost_estimated, r.estimated_cost_usd, r.execution_id, r.stream,
        r.session_id, r.parent_session_id, r.response_model, r.cache_write_1h_tokens, p.cache_write_1h_usd_per_mtok
    FROM (
        SELECT *
        FROM usage_api.v1_records AS found
        WHERE found.occurred_at = v1_record.occurred_at AND found.event_key = decode(v1_record.record_id, 'hex')
        LIMIT 1  -- looked up by the key, whatever this is joined to
    ) AS r
    LEFT JOIN usage_api.v1_prices AS p ON p.price_id = r.price_id
    LEFT JOIN LATERAL (
        SELECT attempt, attempts
        FROM usage_api.v1_attempts(
            v1_record.occurred_at - interval '6 hours', v1_record.occurred_at + interval '1 microsecond',
            of_upstream => r.upstream, of_client_key => r.client_key, of_request_id => r.request_id) AS mine
        WHERE mine.occurred_at = r.occurred_at AND mine.record_id = r.record_id
    ) AS a ON true
$$;
COMMENT ON FUNCTION usage_api.v1_record(timestamptz, text) IS 'One record with the prices that it was charged by, and its place in its logical request: attempts of up to six hours before are looked for. Found by the index.';

CREATE TYPE usage_api.v1_request_gaps AS (
    occurred_at timestamptz,
    upstream text,
    client_key text,
    model text,
    gap_minutes numeric,
    gap interval,
    client_key_id integer
);
COMMENT ON TYPE usage_api.v1_request_gaps IS 'One row per successful logical request that was not the first of its client key in the window.';

CREATE FUNCTION usage_api.v1_request_gaps(
    since timestamptz, until timestamptz, of_client_key text DEFAULT NULL, of_upstream text DEFAULT NULL
) RETURNS SETOF usage_api.v1_request_gaps
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT r.started_at, d.upstream, d.client_key, d.model, extract(epoch FROM r.gap) / 60, r.gap, r.client_key_id
    FROM (
        SELECT
            started_at, client_key_id, dimension_id,
            started_at
            - lag(started_at) OVER (PARTITION BY client_key_id ORDER BY started_at, request_id, dimension_id) AS gap
        FROM usage_api.v1_request_outcomes(since, until, of_upstream => of_upstream, of_client_key => of_client_key)
        WHERE outcome = 'success'
    ) AS r
    LEFT JOIN usage_api.v1_dimensions AS d USING (dimension_id)
    WHERE r.gap IS NOT NULL
$$;
COMMENT ON FUNCTION usage_api.v1_request_gaps(timestamptz, timestamptz, text, text) IS 'The time between the begins of consecutive successful logical requests of the same client key, in a window.';

CREATE TYPE usage_api.v1_interval_timeline AS (
    occurred_at timestamptz,
    upstream text,
    client_key text,
    model text,
    gap_minutes numeric
);
COMMENT ON TYPE usage_api.v1_interval_timeline IS 'Points of a chart of gaps, in order of time: those of two hours at most, the newest.';

CREATE FUNCTION usage_api.v1_interval_timeline(
    since timestamptz, until timestamptz, max_points integer DEFAULT 10000, of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_interval_timeline
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT occurred_at, upstream, client_key, model, round(gap_minutes, 2)
    FROM (
        SELECT occurred_at, upstream, client_key, model, gap_minutes
        FROM usage_api.v1_request_gaps(since, until, of_client_key)
        WHERE gap <= interval '120 minutes'
        ORDER BY occurred_at DESC, upstream DESC, client_key DESC, gap_minutes DESC, model DESC
        LIMIT max_points
    ) AS newest
    ORDER BY occurred_at, upstream, client_key, gap_minutes, model
$$;
COMMENT ON FUNCTION usage_api.v1_interval_timeline(timestamptz, timestamptz, integer, text) IS 'The newest gaps of v1_request_gaps of at most 120 minutes, in order of time.';

CREATE TYPE usage_api.v1_cache_ttl AS (
    upstream text,
    client_key text,
    request_count bigint,
    within_5_min bigint,
    within_15_min bigint,
    within_30_min bigint,
    within_60_min bigint,
    over_60_min bigint,
    within_5_min_percent numeric,
    within_15_min_percent numeric,
    within_30_min_percent numeric,
    within_60_min_percent numeric,
    over_60_min_percent numeric,
    p50_minutes numeric,
    p75_minutes numeric,
    p90_minutes numeric,
    avg_minutes numeric,
    min_minutes numeric,
    max_minutes numeric,
    recommended_ttl_minutes integer,
    reason text,
    client_key_id integer
);
COMMENT ON TYPE usage_api.v1_cache_ttl IS 'One row per client key with two gaps or more: how long a cache should keep what it sends.';

CREATE FUNCTION usage_api.v1_cache_ttl(
    since timestamptz, until timestamptz, of_client_key text DEFAULT NULL, of_upstream text DEFAULT NULL
) RETURNS SETOF usage_api.v1_cache_ttl
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        k.upstream, k.client_key, gaps,
        upto_5, upto_15 - upto_5, upto_30 - upto_15, upto_60 - upto_30, gaps - upto_60,
        round(100.0 * upto_5 / gaps, 1), round(100.0 * (upto_15 - upto_5) / gaps, 1),
        round(100.0 * (upto_30 - upto_15) / gaps, 1), round(100.0 * (upto_60 - upto_30) / gaps, 1),
        round(100.0 * (gaps - upto_60) / gaps, 1),
        round(extract(epoch FROM percentiles[1]) / 60, 2), round(extract(epoch FROM percentiles[2]) / 60, 2),
        round(extract(epoch FROM percentiles[3]) / 60, 2),
        round(extract(epoch FROM total) / 60 / gaps, 2),
        round(extract(epoch FROM shortest) / 60, 2), round(extract(epoch FROM longest) / 60, 2),
        CASE
            WHEN percentiles[3] <= interval '5 minutes' THEN 5
            WHEN percentiles[2] <= interval '15 minutes' THEN 15
            WHEN percentiles[2] <= interval '30 minutes' THEN 30
            ELSE 60
        END,
        CASE
            WHEN percentiles[3] <= interval '5 minutes' THEN '90 % of the gaps are of 5 minutes at most'
            WHEN percentiles[2] <= interval '15 minutes' THEN '75 % of the gaps are of 15 minutes at most'
            WHEN percentiles[2] <= interval '30 minutes' THEN '75 % of the gaps are of 30 minutes at most'
            ELSE 'more than a quarter of the gaps is longer than 30 minutes'
        END,
        g.client_key_id
    FROM (
        SELECT
            client_key_id,
            count(*) AS gaps,
            count(*) FILTER (WHERE gap <= interval '5 minutes') AS upto_5,
            count(*) FILTER (WHERE gap <= interval '15 minutes') AS upto_15,
            count(*) FILTER (WHERE gap <= interval '30 minutes') AS upto_30,
            count(*) FILTER (WHERE gap <= interval '60 minutes') AS upto_60,
            percentile_cont(ARRAY[0.5, 0.75, 0.9]) WITHIN GROUP (ORDER BY gap) AS percentiles,
            sum(gap) AS total, min(gap) AS shortest, max(gap) AS longest
        FROM usage_api.v1_request_gaps(since, until, of_client_key, of_upstream)
        GROUP BY client_key_id
        HAVING count(*) >= 2
    ) AS g
    LEFT JOIN usage_api.v1_client_keys AS k ON k.client_key_id = g.client_key_id
    ORDER BY gaps DESC, k.upstream, k.client_key
$$;
COMMENT ON FUNCTION usage_api.v1_cache_ttl(timestamptz, timestamptz, text, text) IS 'How long a cache should keep what a client key sends, by the gaps between its successful requests in a window.';

CREATE TYPE usage_api.v1_cache_hits AS (
    total_requests bigint,
    requests_with_cache_hit bigint,
    request_cache_hit_rate numeric,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    token_cache_hit_rate numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    savings_usd numeric,
    savings_unknown_requests bigint,
    aether_savings_usd numeric
);
COMMENT ON TYPE usage_api.v1_cache_hits IS 'One row: what the caches of the upstreams did for the successful requests of a window.';

-- Summed by price first: there are few, and each is looked at once.
CREATE FUNCTION usage_api.v1_cache_hits(
    since timestamptz, until timestamptz,
    of_client_key text DEFAULT NULL, of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL,
    of_model text DEFAULT NULL
) RETURNS SETOF usage_api.v1_cache_hits
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1 AS $$
    SELECT
        coalesce(sum(requests), 0)::bigint, coalesce(sum(hits), 0)::bigint,
        round(100.0 * sum(hits) / nullif(sum(requests), 0), 2),
        coalesce(sum(uncached), 0)::bigint, coalesce(sum(read), 0)::bigint, coalesce(sum(written), 0)::bigint,
        round(100.0 * sum(read) / nullif(sum(uncached) + sum(read) + sum(written), 0), 2),
        usage_api.v1_cost(sum(read_cost), sum(unpriced)), usage_api.v1_cost(sum(write_cost), sum(unpriced)),
        coalesce(sum(unpriced), 0)::bigint,
        sum(read * saved_usd_per_mtok * 0.000001) FILTER (WHERE hits > 0),
        coalesce(sum(hits) FILTER (WHERE saved_usd_per_mtok IS NULL), 0)::bigint,
        9 * usage_api.v1_cost(sum(read_cost), sum(unpriced))
    FROM (
        SELECT s.*, p.input_usd_per_mtok - p.cache_read_usd_per_mtok AS saved_usd_per_mtok
        FROM (
            SELECT
                price_id,
                count(*) AS requests, count(*) FILTER (WHERE cache_read_tokens > 0) AS hits,
                sum(uncached_input_tokens) AS uncached, sum(cache_read_tokens) AS read,
                sum(cache_write_tokens) AS written,
                sum(cache_read_cost_usd) FILTER (WHERE cost_usd > 0 OR uncached_input_tokens + cache_read_tokens + cache_write_tokens + billed_output_tokens + unclassified_tokens > 0) AS read_cost,
                sum(cache_write_cost_usd) FILTER (WHERE cost_usd > 0 OR uncached_input_tokens + cache_read_tokens + cache_write_tokens + billed_output_tokens + unclassified_tokens > 0) AS write_cost,
                count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced
            FROM usage_api.v1_records
            WHERE occurred_at >= usage_internal.records_from(since, until)
              AND occurred_at < usage_internal.records_until(since, until)
              AND outcome = 'success'
              AND (of_client_key IS NULL OR client_key = of_client_key)
              AND (of_upstream IS NULL OR upstream = of_upstream)
              AND (of_channel IS NULL OR channel = of_channel)
              AND (of_model IS NULL OR model = of_model)
            GROUP BY price_id
        ) AS s
        LEFT JOIN usage_api.v1_prices AS p USING (price_id)
    ) AS priced
$$;
COMMENT ON FUNCTION usage_api.v1_cache_hits(timestamptz, timestamptz, text, text, text, text) IS 'How much of what successful requests sent was read from caches, and what that saved.';

CREATE TYPE usage_api.v1_sessions AS (
    upstream text,
    client_key text,
    session_id text,
    parent_session_id text,
    first_at timestamptz,
    last_at timestamptz,
    requests bigint,
    failed bigint,
    cancelled bigint,
    models bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    unpriced_requests bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_sessions IS 'One row per session of a client key: its attempts in the window, without warm-ups.';

CREATE FUNCTION usage_api.v1_sessions(
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, page_size integer DEFAULT 100
) RETURNS SETOF usage_api.v1_sessions
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        r.upstream, r.client_key, r.session_id, max(r.parent_session_id), min(r.occurred_at), max(r.occurred_at),
        count(*), count(*) FILTER (WHERE r.outcome = 'failed'), count(*) FILTER (WHERE r.outcome = 'cancelled'),
        count(DISTINCT r.model),
        sum(r.total_tokens)::bigint,
        sum(r.uncached_input_tokens)::bigint, sum(r.cache_read_tokens)::bigint, sum(r.cache_write_tokens)::bigint,
        sum(r.billed_output_tokens)::bigint, sum(r.unclassified_tokens)::bigint,
        usage_api.v1_cost(sum(r.cost_usd) FILTER (WHERE r.used), count(*) FILTER (WHERE r.cost_usd IS NULL)),
        usage_api.v1_cost(sum(r.actual_cost_usd) FILTER (WHERE r.used), count(*) FILTER (WHERE r.cost_usd IS NULL)),
        count(*) FILTER (WHERE r.cost_usd IS NULL),
        usage_api.v1_cost(sum(r.estimated_cost_usd) FILTER (WHERE r.used), count(*) FILTER (WHERE r.cost_usd IS NULL))
    FROM (
        SELECT *, cost_usd > 0 OR uncached_input_tokens + cache_read_tokens + cache_write_tokens + billed_output_tokens + unclassified_tokens > 0 AS used
        FROM usage_api.v1_records
    ) AS r
    WHERE r.occurred_at >= coalesce(since, '-infinity') AND r.occurred_at < coalesce(until, 'infinity')
      AND r.session_id IS NOT NULL AND r.outcome <> 'warmup'
      AND (of_upstream IS NULL OR r.upstream = of_upstream)
      AND (of_channel IS NULL OR r.channel = of_channel)
      AND (of_client_key IS NULL OR r.client_key = of_client_key)
      AND (of_model IS NULL OR r.model = of_model)
    GROUP BY r.upstream, r.client_key, r.session_id
    ORDER BY max(r.occurred_at) DESC, r.session_id
    LIMIT page_size
$$;
COMMENT ON FUNCTION usage_api.v1_sessions(timestamptz, timestamptz, text, text, text, text, integer) IS 'Sessions by their latest request, newest first: attempts, tokens and cost of those records that name a session, which the proxy tells from v8 on.';


-- -- Totals --------------------------------------------------------------------------------------------------------

CREATE TYPE usage_api.v1_period AS (
    since timestamptz,
    until timestamptz
);
COMMENT ON TYPE usage_api.v1_period IS 'The window of a period by name. today, yesterday, this_week (from Monday), this_month and last_month are whole days of the zone (NULL: of the rollups); last_hour, last_24_hours, last_7_days, last_30_days and rolling_month (back to the same day of the month before) end at the given instant; all is without end.';

CREATE FUNCTION usage_api.v1_period(name text, at timestamptz DEFAULT now(), zone text DEFAULT NULL)
RETURNS SETOF usage_api.v1_period
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        CASE chosen.name
            WHEN 'today' THEN usage_api.v1_day_begin(place.day, place.zone)
            WHEN 'yesterday' THEN usage_api.v1_day_begin(place.day - 1, place.zone)
            WHEN 'this_week' THEN usage_api.v1_day_begin(date_trunc('week', place.day::timestamp)::date, place.zone)
            WHEN 'this_month' THEN usage_api.v1_day_begin(date_trunc('month', place.day::timestamp)::date, place.zone)
            WHEN 'last_month' THEN
                usage_api.v1_day_begin((date_trunc('month', place.day::timestamp) - interval '1 month')::date,
                                       place.zone)
            WHEN 'last_hour' THEN v1_period.at - interval '1 hour'
            WHEN 'last_24_hours' THEN v1_period.at - interval '24 hours'
            WHEN 'last_7_days' THEN v1_period.at - interval '168 hours'
            WHEN 'last_30_days' THEN v1_period.at - interval '720 hours'
            WHEN 'rolling_month' THEN
                (v1_period.at AT TIME ZONE place.zone - interval '1 month') AT TIME ZONE place.zone
        END,
        CASE
            WHEN chosen.name = 'today' THEN usage_api.v1_day_begin(place.day + 1, place.zone)
            WHEN chosen.name = 'yesterday' THEN usage_api.v1_day_begin(place.day, place.zone)
            WHEN chosen.name = 'this_week' THEN
                usage_api.v1_day_begin(date_trunc('week', place.day::timestamp)::date + 7, place.zone)
            WHEN chosen.name = 'this_month' THEN
                usage_api.v1_day_begin((date_trunc('month', place.day::timestamp) + interval '1 month')::date,
                                       place.zone)
            WHEN chosen.name = 'last_month' THEN
                usage_api.v1_day_begin(date_trunc('month', place.day::timestamp)::date, place.zone)
            WHEN chosen.name <> 'all' THEN v1_period.at
        END
    FROM usage_internal.one_of(v1_period.name, 'period', ARRAY[
             'today', 'yesterday', 'this_week', 'this_month', 'last_month',
             'last_hour', 'last_24_hours', 'last_7_days', 'last_30_days', 'rolling_month', 'all']) AS chosen (name),
         (SELECT coalesce(v1_period.zone, usage_api.v1_zone()) AS zone) AS decided,
         LATERAL (SELECT decided.zone, (v1_period.at AT TIME ZONE decided.zone)::date AS day) AS place
$$;
COMMENT ON FUNCTION usage_api.v1_period(text, timestamptz, text) IS 'The window of a period by name. today, yesterday, this_week (from Monday), this_month and last_month are whole days of the zone (NULL: of the rollups); last_hour, last_24_hours, last_7_days, last_30_days and rolling_month (back to the same day of the month before) end at the given instant; all is without end.';

CREATE TYPE usage_api.v1_totals AS (
    upstream text,
    channel text,
    channel_group text,
    channel_kind text,
    client_key text,
    provider text,
    endpoint text,
    model text,
    alias text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_totals IS 'Totals over a window by any dimensions and with any filters. Dimensions whose by_… is not true are NULL; by_channel is by channel_kind, too.';

-- Grouped by the dimensions whose by_… is true, the others NULL. Each window is summed from the smallest rollup that
-- has the dimensions that are asked for (days by client key are the fewest); as these are constants in a query, the
-- planner drops the others.
CREATE FUNCTION usage_api.v1_totals(
    since timestamptz, until timestamptz,
    by_upstream boolean DEFAULT false, by_channel boolean DEFAULT false, by_channel_group boolean DEFAULT false,
    by_client_key boolean DEFAULT false, by_provider boolean DEFAULT false, by_endpoint boolean DEFAULT false,
    by_model boolean DEFAULT false, by_alias boolean DEFAULT false,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_channel_group text DEFAULT NULL,
    of_client_key text DEFAULT NULL, of_provider text DEFAULT NULL, of_endpoint text DEFAULT NULL,
    of_model text DEFAULT NULL, of_alias text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_totals
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        CASE WHEN by_upstream THEN upstream END AS upstream,
        CASE WHEN by_channel THEN channel END AS channel,
        CASE WHEN by_channel_group THEN channel_group END AS channel_group,
        CASE WHEN by_channel THEN channel_kind END AS channel_kind,
        CASE WHEN by_client_key THEN client_key END AS client_key,
        CASE WHEN by_provider THEN provider END AS provider,
        CASE WHEN by_endpoint THEN endpoint END AS endpoint,
        CASE WHEN by_model THEN model END AS model,
        CASE WHEN by_alias THEN alias END AS alias,
        coalesce(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0)::bigint AS requests,
        coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)::bigint AS succeeded,
        coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed,
        coalesce(sum(requests) FILTER (WHERE outcome = 'warmup'), 0)::bigint AS warmups,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2) AS success_rate,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2) AS error_rate,
        coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
        coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
        coalesce(sum(reasoning_tokens), 0)::bigint AS reasoning_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
        coalesce(sum(total_tokens), 0)::bigint AS total_tokens,
        coalesce(sum(uncached_input_tokens), 0)::bigint AS uncached_input_tokens,
        coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
        coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
        coalesce(sum(billed_output_tokens), 0)::bigint AS billed_output_tokens,
        coalesce(sum(unclassified_tokens), 0)::bigint AS unclassified_tokens,
        coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens) + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
        round(100 * sum(cache_read_tokens)
              / nullif(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens), 0), 2)
            AS cache_hit_rate,
        usage_api.v1_cost(sum(cost_usd), sum(unpriced_requests)) AS cost_usd,
        usage_api.v1_cost(sum(actual_cost_usd), sum(unpriced_requests)) AS actual_cost_usd,
        usage_api.v1_cost(sum(cache_read_cost_usd), sum(unpriced_requests)) AS cache_read_cost_usd,
        usage_api.v1_cost(sum(cache_write_cost_usd), sum(unpriced_requests)) AS cache_write_cost_usd,
        coalesce(sum(unpriced_requests), 0)::bigint AS unpriced_requests,
        round(sum(latency_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(latency_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_latency_ms,
        round(sum(ttft_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(ttft_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_ttft_ms,
        coalesce(sum(requests) FILTER (WHERE outcome = 'cancelled'), 0)::bigint AS cancelled,
        usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd
    FROM (
        SELECT upstream, channel, channel_group, channel_kind, NULL::text AS client_key, NULL::text AS provider,
               NULL::text AS endpoint, model, NULL::text AS alias,
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_channel_usage(v1_totals.since, v1_totals.until)
        WHERE (by_channel IS TRUE OR by_channel_group IS TRUE OR by_model IS TRUE
               OR of_channel IS NOT NULL OR of_channel_group IS NOT NULL OR of_model IS NOT NULL)
          AND NOT (by_client_key IS TRUE OR of_client_key IS NOT NULL)
          AND NOT (by_provider IS TRUE OR by_endpoint IS TRUE OR by_alias IS TRUE
                    OR of_provider IS NOT NULL OR of_endpoint IS NOT NULL OR of_alias IS NOT NULL)
          AND (v1_totals.of_upstream IS NULL OR upstream = v1_totals.of_upstream)
          AND (v1_totals.of_channel IS NULL OR channel = v1_totals.of_channel)
          AND (v1_totals.of_channel_group IS NULL OR channel_group = v1_totals.of_channel_group)
          AND (v1_totals.of_model IS NULL OR model = v1_totals.of_model)
          AND (v1_totals.of_outcome IS NULL OR outcome = v1_totals.of_outcome)
        UNION ALL
        SELECT upstream, NULL::text AS channel, NULL::text AS channel_group, NULL::text AS channel_kind,
               client_key, NULL::text AS provider, NULL::text AS endpoint, NULL::text AS model,
               NULL::text AS alias,
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_key_usage(v1_totals.since, v1_totals.until)
        WHERE NOT (by_channel IS TRUE OR by_channel_group IS TRUE OR by_model IS TRUE
                    OR of_channel IS NOT NULL OR of_channel_group IS NOT NULL OR of_model IS NOT NULL)
          AND NOT (by_provider IS TRUE OR by_endpoint IS TRUE OR by_alias IS TRUE
                    OR of_provider IS NOT NULL OR of_endpoint IS NOT NULL OR of_alias IS NOT NULL)
          AND (v1_totals.of_upstream IS NULL OR upstream = v1_totals.of_upstream)
          AND (v1_totals.of_client_key IS NULL OR client_key = v1_totals.of_client_key)
          AND (v1_totals.of_outcome IS NULL OR outcome = v1_totals.of_outcome)
        UNION ALL
        SELECT upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias,
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_usage(v1_totals.since, v1_totals.until)
        WHERE ((by_provider IS TRUE OR by_endpoint IS TRUE OR by_alias IS TRUE
                 OR of_provider IS NOT NULL OR of_endpoint IS NOT NULL OR of_alias IS NOT NULL)
               OR ((by_client_key IS TRUE OR of_client_key IS NOT NULL)
                   AND (by_channel IS TRUE OR by_channel_group IS TRUE OR by_model IS TRUE
                        OR of_channel IS NOT NULL OR of_channel_group IS NOT NULL OR of_model IS NOT NULL)))
          AND (v1_totals.of_upstream IS NULL OR upstream = v1_totals.of_upstream)
          AND (v1_totals.of_channel IS NULL OR channel = v1_totals.of_channel)
          AND (v1_totals.of_channel_group IS NULL OR channel_group = v1_totals.of_channel_group)
          AND (v1_totals.of_client_key IS NULL OR client_key = v1_totals.of_client_key)
          AND (v1_totals.of_provider IS NULL OR provider = v1_totals.of_provider)
          AND (v1_totals.of_endpoint IS NULL OR endpoint = v1_totals.of_endpoint)
          AND (v1_totals.of_model IS NULL OR model = v1_totals.of_model)
          AND (v1_totals.of_alias IS NULL OR alias = v1_totals.of_alias)
          AND (v1_totals.of_outcome IS NULL OR outcome = v1_totals.of_outcome)
        UNION ALL  -- nothing: the total of no rows is a row of zeros
        SELECT NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::text,
               NULL::text,
               'success',
               0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
               0::bigint, 0::bigint, NULL::numeric, NULL::numeric, NULL::numeric, NULL::numeric, 0::bigint, 0::bigint,
               0::bigint, 0::bigint, 0::bigint, NULL::numeric
        WHERE NOT (by_upstream IS TRUE OR by_channel IS TRUE OR by_channel_group IS TRUE OR by_client_key IS TRUE
                   OR by_provider IS TRUE OR by_endpoint IS TRUE OR by_model IS TRUE OR by_alias IS TRUE)
    ) AS used
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
$$;
COMMENT ON FUNCTION usage_api.v1_totals(timestamptz, timestamptz, boolean, boolean, boolean, boolean, boolean, boolean, boolean, boolean, text, text, text, text, text, text, text, text, text) IS 'Totals over a window by any dimensions and with any filters. Dimensions whose by_… is not true are NULL; by_channel is by channel_kind, too.';

CREATE TYPE usage_api.v1_summary AS (
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_summary IS 'Totals over a window: one row.';

CREATE FUNCTION usage_api.v1_summary(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_summary
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens, output_tokens, reasoning_tokens,
        cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms, cancelled,
        estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_summary.since, v1_summary.until,
        of_upstream => v1_summary.of_upstream, of_channel => v1_summary.of_channel,
        of_client_key => v1_summary.of_client_key, of_model => v1_summary.of_model,
        of_outcome => v1_summary.of_outcome
    )
$$;
COMMENT ON FUNCTION usage_api.v1_summary(timestamptz, timestamptz, text, text, text, text, text) IS 'Totals over a window: one row.';

CREATE TYPE usage_api.v1_by_model AS (
    model text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_by_model IS 'Totals over a window by model, most requests first.';

CREATE FUNCTION usage_api.v1_by_model(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_model
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        model, requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms, cancelled,
        estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_by_model.since, v1_by_model.until,
        by_model => true, of_upstream => v1_by_model.of_upstream, of_channel => v1_by_model.of_channel,
        of_client_key => v1_by_model.of_client_key, of_outcome => v1_by_model.of_outcome
    )
    ORDER BY requests DESC, model
$$;
COMMENT ON FUNCTION usage_api.v1_by_model(timestamptz, timestamptz, text, text, text, text) IS 'Totals over a window by model, most requests first.';

CREATE TYPE usage_api.v1_by_alias AS (
    alias text,
    model text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_by_alias IS 'Totals over a window by the model that the client asked for and the one that ran, most requests first.';

CREATE FUNCTION usage_api.v1_by_alias(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL, of_channel text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_alias
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        alias, model, requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms, cancelled,
        estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_by_alias.since, v1_by_alias.until,
        by_alias => true, by_model => true, of_upstream => v1_by_alias.of_upstream,
        of_client_key => v1_by_alias.of_client_key, of_channel => v1_by_alias.of_channel,
        of_outcome => v1_by_alias.of_outcome
    )
    ORDER BY requests DESC, alias, model
$$;
COMMENT ON FUNCTION usage_api.v1_by_alias(timestamptz, timestamptz, text, text, text, text) IS 'Totals over a window by the model that the client asked for and the one that ran, most requests first.';

CREATE TYPE usage_api.v1_by_client_key AS (
    upstream text,
    client_key text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_by_client_key IS 'Totals over a window by client key, most requests first.';

CREATE FUNCTION usage_api.v1_by_client_key(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_model text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_client_key
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, client_key, requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens,
        output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens,
        cache_write_tokens, billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd,
        actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms,
        cancelled, estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_by_client_key.since, v1_by_client_key.until,
        by_upstream => true, by_client_key => true, of_upstream => v1_by_client_key.of_upstream,
        of_channel => v1_by_client_key.of_channel, of_model => v1_by_client_key.of_model,
        of_outcome => v1_by_client_key.of_outcome
    )
    ORDER BY requests DESC, upstream, client_key
$$;
COMMENT ON FUNCTION usage_api.v1_by_client_key(timestamptz, timestamptz, text, text, text, text) IS 'Totals over a window by client key, most requests first.';

CREATE TYPE usage_api.v1_by_channel AS (
    upstream text,
    channel text,
    channel_group text,
    channel_kind text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_by_channel IS 'Totals over a window by channel, most requests first.';

CREATE FUNCTION usage_api.v1_by_channel(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_model text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_channel
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, channel, channel_group, channel_kind, requests, succeeded, failed, warmups, success_rate,
        error_rate, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate,
        cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms,
        mean_ttft_ms, cancelled, estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_by_channel.since, v1_by_channel.until,
        by_upstream => true, by_channel => true, by_channel_group => true, of_upstream => v1_by_channel.of_upstream,
        of_model => v1_by_channel.of_model, of_client_key => v1_by_channel.of_client_key,
        of_outcome => v1_by_channel.of_outcome
    )
    ORDER BY requests DESC, upstream, channel, channel_group, channel_kind
$$;
COMMENT ON FUNCTION usage_api.v1_by_channel(timestamptz, timestamptz, text, text, text, text) IS 'Totals over a window by channel, most requests first.';

CREATE TYPE usage_api.v1_by_channel_and_model AS (
    upstream text,
    channel text,
    channel_group text,
    channel_kind text,
    model text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_by_channel_and_model IS 'Totals over a window by channel and model, most requests first.';

CREATE FUNCTION usage_api.v1_by_channel_and_model(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_channel_and_model
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, channel, channel_group, channel_kind, model, requests, succeeded, failed, warmups, success_rate,
        error_rate, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate,
        cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms,
        mean_ttft_ms, cancelled, estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_by_channel_and_model.since, v1_by_channel_and_model.until,
        by_upstream => true, by_channel => true, by_channel_group => true, by_model => true,
        of_upstream => v1_by_channel_and_model.of_upstream, of_channel => v1_by_channel_and_model.of_channel,
        of_client_key => v1_by_channel_and_model.of_client_key, of_model => v1_by_channel_and_model.of_model,
        of_outcome => v1_by_channel_and_model.of_outcome
    )
    ORDER BY requests DESC, upstream, channel, channel_group, channel_kind, model
$$;
COMMENT ON FUNCTION usage_api.v1_by_channel_and_model(timestamptz, timestamptz, text, text, text, text, text) IS 'Totals over a window by channel and model, most requests first.';

CREATE TYPE usage_api.v1_by_channel_group AS (
    channel_group text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_by_channel_group IS 'Totals over a window by group of channels, most requests first.';

CREATE FUNCTION usage_api.v1_by_channel_group(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL, of_model text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_channel_group
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        channel_group, requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms, cancelled,
        estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_by_channel_group.since, v1_by_channel_group.until,
        by_channel_group => true, of_upstream => v1_by_channel_group.of_upstream,
        of_client_key => v1_by_channel_group.of_client_key, of_model => v1_by_channel_group.of_model,
        of_outcome => v1_by_channel_group.of_outcome
    )
    ORDER BY requests DESC, channel_group
$$;
COMMENT ON FUNCTION usage_api.v1_by_channel_group(timestamptz, timestamptz, text, text, text, text) IS 'Totals over a window by group of channels, most requests first.';

CREATE TYPE usage_api.v1_by_endpoint AS (
    provider text,
    endpoint text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_by_endpoint IS 'Totals over a window by provider and endpoint: by the API that was spoken, most requests first.';

CREATE FUNCTION usage_api.v1_by_endpoint(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_endpoint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        provider, endpoint, requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens,
        output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens,
        cache_write_tokens, billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd,
        actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms,
        cancelled, estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_by_endpoint.since, v1_by_endpoint.until,
        by_provider => true, by_endpoint => true, of_upstream => v1_by_endpoint.of_upstream,
        of_channel => v1_by_endpoint.of_channel, of_client_key => v1_by_endpoint.of_client_key,
        of_model => v1_by_endpoint.of_model, of_outcome => v1_by_endpoint.of_outcome
    )
    ORDER BY requests DESC, provider, endpoint
$$;
COMMENT ON FUNCTION usage_api.v1_by_endpoint(timestamptz, timestamptz, text, text, text, text, text) IS 'Totals over a window by provider and endpoint: by the API that was spoken, most requests first.';

CREATE TYPE usage_api.v1_client_key_models AS (
    client_key text,
    model text,
    alias text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_client_key_models IS 'Totals over a window by client key, model and alias: for each key, most requests first.';

CREATE FUNCTION usage_api.v1_client_key_models(
    since timestamptz, until timestamptz,
    of_client_key text DEFAULT NULL, of_upstream text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_client_key_models
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        client_key, model, alias, requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens,
        output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens,
        cache_write_tokens, billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd,
        actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms,
        cancelled, estimated_cost_usd
    FROM usage_api.v1_totals(
        v1_client_key_models.since, v1_client_key_models.until,
        by_client_key => true, by_model => true, by_alias => true,
        of_client_key => v1_client_key_models.of_client_key, of_upstream => v1_client_key_models.of_upstream,
        of_outcome => v1_client_key_models.of_outcome
    )
    ORDER BY client_key, requests DESC, model, alias
$$;
COMMENT ON FUNCTION usage_api.v1_client_key_models(timestamptz, timestamptz, text, text, text) IS 'Totals over a window by client key, model and alias: for each key, most requests first.';

CREATE TYPE usage_api.v1_channel_statistics AS (
    level text,
    channel_group text,
    channel text,
    model text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_channel_statistics IS 'Totals over a window of everything, of each group, of each channel and of each model, from one scan.';

CREATE FUNCTION usage_api.v1_channel_statistics(
    since timestamptz, until timestamptz, of_upstream text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_channel_statistics
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        CASE grouping(channel_group, channel, model)
            WHEN 7 THEN 'all' WHEN 3 THEN 'group' WHEN 1 THEN 'channel' ELSE 'model'
        END,
        channel_group, channel, model,
        coalesce(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0)::bigint AS requests,
        coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)::bigint AS succeeded,
        coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed,
        coalesce(sum(requests) FILTER (WHERE outcome = 'warmup'), 0)::bigint AS warmups,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2) AS success_rate,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2) AS error_rate,
        coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
        coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
        coalesce(sum(reasoning_tokens), 0)::bigint AS reasoning_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
        coalesce(sum(total_tokens), 0)::bigint AS total_tokens,
        coalesce(sum(uncached_input_tokens), 0)::bigint AS uncached_input_tokens,
        coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
        coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
        coalesce(sum(billed_output_tokens), 0)::bigint AS billed_output_tokens,
        coalesce(sum(unclassified_tokens), 0)::bigint AS unclassified_tokens,
        coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens) + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
        round(100 * sum(cache_read_tokens)
              / nullif(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens), 0), 2)
            AS cache_hit_rate,
        usage_api.v1_cost(sum(cost_usd), sum(unpriced_requests)) AS cost_usd,
        usage_api.v1_cost(sum(actual_cost_usd), sum(unpriced_requests)) AS actual_cost_usd,
        usage_api.v1_cost(sum(cache_read_cost_usd), sum(unpriced_requests)) AS cache_read_cost_usd,
        usage_api.v1_cost(sum(cache_write_cost_usd), sum(unpriced_requests)) AS cache_write_cost_usd,
        coalesce(sum(unpriced_requests), 0)::bigint AS unpriced_requests,
        round(sum(latency_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(latency_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_latency_ms,
        round(sum(ttft_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(ttft_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_ttft_ms,
        coalesce(sum(requests) FILTER (WHERE outcome = 'cancelled'), 0)::bigint AS cancelled,
        usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd
    FROM usage_api.v1_channel_usage(v1_channel_statistics.since, v1_channel_statistics.until)
    WHERE (v1_channel_statistics.of_upstream IS NULL OR upstream = v1_channel_statistics.of_upstream)
      AND (v1_channel_statistics.of_outcome IS NULL OR outcome = v1_channel_statistics.of_outcome)
    GROUP BY GROUPING SETS ((), (channel_group), (channel_group, channel), (model))
    ORDER BY grouping(channel_group, channel, model) = 6, grouping(channel_group, channel, model) DESC,
             requests DESC, channel_group, channel, model
$$;
COMMENT ON FUNCTION usage_api.v1_channel_statistics(timestamptz, timestamptz, text, text) IS 'Totals over a window of everything, of each group, of each channel and of each model, from one scan.';

CREATE TYPE usage_api.v1_trend AS (
    bucket timestamptz,
    label text,
    requests bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    success_rate numeric,
    error_rate numeric,
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    total_tokens bigint,
    uncached_input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    billed_output_tokens bigint,
    unclassified_tokens bigint,
    tokens bigint,
    cache_hit_rate numeric,
    cost_usd numeric,
    actual_cost_usd numeric,
    cache_read_cost_usd numeric,
    cache_write_cost_usd numeric,
    unpriced_requests bigint,
    mean_latency_ms numeric,
    mean_ttft_ms numeric,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_trend IS 'Totals over a window for each day or hour in it, in order, those without requests too. The first and the last are cut where the window is.';

-- Hours of the zone's own clock: where its offset changes by half an hour, one of them is longer or shorter. Every part
-- comes from the smallest rollup that has what is filtered by.
CREATE FUNCTION usage_api.v1_trend(
    since timestamptz, until timestamptz, grain text DEFAULT 'day', zone text DEFAULT NULL,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_trend
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        bucket,
        to_char(bucket AT TIME ZONE coalesce(v1_trend.zone, usage_api.v1_zone()),
                CASE usage_internal.one_of(v1_trend.grain, 'grain', ARRAY['day', 'hour'])
                    WHEN 'day' THEN 'YYYY-MM-DD' ELSE 'YYYY-MM-DD HH24:MI'
                END),
        coalesce(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0)::bigint AS requests,
        coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)::bigint AS succeeded,
        coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed,
        coalesce(sum(requests) FILTER (WHERE outcome = 'warmup'), 0)::bigint AS warmups,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2) AS success_rate,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2) AS error_rate,
        coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
        coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
        coalesce(sum(reasoning_tokens), 0)::bigint AS reasoning_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
        coalesce(sum(total_tokens), 0)::bigint AS total_tokens,
        coalesce(sum(uncached_input_tokens), 0)::bigint AS uncached_input_tokens,
        coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
        coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
        coalesce(sum(billed_output_tokens), 0)::bigint AS billed_output_tokens,
        coalesce(sum(unclassified_tokens), 0)::bigint AS unclassified_tokens,
        coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens) + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
        round(100 * sum(cache_read_tokens)
              / nullif(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens), 0), 2)
            AS cache_hit_rate,
        usage_api.v1_cost(sum(cost_usd), sum(unpriced_requests)) AS cost_usd,
        usage_api.v1_cost(sum(actual_cost_usd), sum(unpriced_requests)) AS actual_cost_usd,
        usage_api.v1_cost(sum(cache_read_cost_usd), sum(unpriced_requests)) AS cache_read_cost_usd,
        usage_api.v1_cost(sum(cache_write_cost_usd), sum(unpriced_requests)) AS cache_write_cost_usd,
        coalesce(sum(unpriced_requests), 0)::bigint AS unpriced_requests,
        round(sum(latency_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(latency_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_latency_ms,
        round(sum(ttft_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(ttft_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_ttft_ms,
        coalesce(sum(requests) FILTER (WHERE outcome = 'cancelled'), 0)::bigint AS cancelled,
        usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd
    FROM (
        SELECT bucket,
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_key_series(v1_trend.since, v1_trend.until, v1_trend.grain, v1_trend.zone)
        WHERE of_channel IS NULL AND of_model IS NULL
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_client_key IS NULL OR client_key = v1_trend.of_client_key)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- of a channel or a model: whole days of the rollup time zone
        SELECT usage_api.v1_day_begin(day, usage_api.v1_zone()),
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_daily_channels
        WHERE (of_channel IS NOT NULL OR of_model IS NOT NULL) AND of_client_key IS NULL
          AND day >= usage_internal.edge_day(v1_trend.since, v1_trend.until, 3, v1_trend.grain, v1_trend.zone)
          AND day < usage_internal.edge_day(v1_trend.since, v1_trend.until, 4, v1_trend.grain, v1_trend.zone)
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- what lies before whole days: of another grain or zone, everything
        SELECT bucket,
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_series(
            v1_trend.since, usage_internal.edge(v1_trend.since, v1_trend.until, 3, v1_trend.grain, v1_trend.zone),
            v1_trend.grain, v1_trend.zone
        )
        WHERE (of_channel IS NOT NULL OR of_model IS NOT NULL) AND of_client_key IS NULL
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- and after them
        SELECT bucket,
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_series(
            usage_internal.edge(v1_trend.since, v1_trend.until, 4, v1_trend.grain, v1_trend.zone), v1_trend.until,
            v1_trend.grain, v1_trend.zone
        )
        WHERE (of_channel IS NOT NULL OR of_model IS NOT NULL) AND of_client_key IS NULL
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- no rollup but the finest knows a client key's usage of a channel or a model
        SELECT bucket,
               outcome,
               requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, estimated_cost_usd
        FROM usage_api.v1_series(v1_trend.since, v1_trend.until, v1_trend.grain, v1_trend.zone)
        WHERE (of_client_key IS NOT NULL AND (of_channel IS NOT NULL OR of_model IS NOT NULL))
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_client_key IS NULL OR client_key = v1_trend.of_client_key)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- nothing, in every bucket: one without requests has a row, too
        SELECT bucket,
               'success',
               0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
               0::bigint, 0::bigint, NULL::numeric, NULL::numeric, NULL::numeric, NULL::numeric, 0::bigint, 0::bigint,
               0::bigint, 0::bigint, 0::bigint, NULL::numeric
        FROM (
            SELECT coalesce(v1_trend.zone, usage_api.v1_zone()) AS zone,
                   coalesce(nullif(v1_trend.since, '-infinity'), usage_api.v1_day_begin(
                       (SELECT min(day) FROM usage_api.v1_daily_keys), usage_api.v1_zone())),
                   coalesce(nullif(v1_trend.until, 'infinity'), usage_api.v1_day_begin(
                       (SELECT max(day) + 1 FROM usage_api.v1_daily_keys), usage_api.v1_zone()))
        ) AS span (zone, since, until)
        CROSS JOIN LATERAL (
            SELECT usage_api.v1_day_begin(day::date, span.zone)
            FROM generate_series((span.since AT TIME ZONE span.zone)::date,
                                 ((span.until - interval '1 microsecond') AT TIME ZONE span.zone)::date,
                                 interval '1 day') AS days (day)
            WHERE v1_trend.grain = 'day' AND span.since < span.until
            UNION  -- every clock shows the same hour within a quarter of one
            SELECT date_trunc('hour', greatest(quarter, span.since), span.zone)
            FROM generate_series(date_trunc('hour', span.since, 'UTC'), span.until - interval '1 microsecond',
                                 interval '15 minutes') AS quarters (quarter)
            WHERE v1_trend.grain = 'hour' AND span.since < span.until
        ) AS dense (bucket)
    ) AS used
    GROUP BY 1
    ORDER BY 1
$$;
COMMENT ON FUNCTION usage_api.v1_trend(timestamptz, timestamptz, text, text, text, text, text, text, text) IS 'Totals over a window for each day or hour in it, in order, those without requests too. The first and the last are cut where the window is.';


-- -- Figures for dashboards ----------------------------------------------------------------------------------------

CREATE TYPE usage_api.v1_heatmap AS (
    day date,
    requests bigint,
    failed bigint,
    tokens bigint,
    total_tokens bigint,
    cost_usd numeric,
    actual_cost_usd numeric,
    max_requests bigint,
    cancelled bigint,
    estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_heatmap IS 'What was used on each of the last days in the rollup time zone, in order, those without requests too. last_day is today unless given.';

CREATE FUNCTION usage_api.v1_heatmap(
    days integer DEFAULT 365, last_day date DEFAULT NULL, of_upstream text DEFAULT NULL,
    of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_heatmap
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        calendar.day,
        coalesce(used.requests, 0), coalesce(used.failed, 0), coalesce(used.tokens, 0), coalesce(used.total_tokens, 0),
        CASE WHEN used.day IS NULL THEN 0 ELSE used.cost_usd END,
        CASE WHEN used.day IS NULL THEN 0 ELSE used.actual_cost_usd END,
        coalesce(max(used.requests) OVER (), 0), coalesce(used.cancelled, 0),
        CASE WHEN used.day IS NULL THEN 0 ELSE used.estimated_cost_usd END
    FROM (
        SELECT coalesce(v1_heatmap.last_day, (now() AT TIME ZONE usage_api.v1_zone())::date) AS day
    ) AS final
    CROSS JOIN LATERAL (
        SELECT final.day - n AS day FROM generate_series(0, v1_heatmap.days - 1) AS back (n)
    ) AS calendar
    LEFT JOIN (
        SELECT
            day,
            coalesce(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0)::bigint AS requests,
            coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed,
            (sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens) + sum(billed_output_tokens) + sum(unclassified_tokens))::bigint AS tokens,
            sum(total_tokens)::bigint AS total_tokens,
            usage_api.v1_cost(sum(cost_usd), sum(unpriced_requests)) AS cost_usd,
            usage_api.v1_cost(sum(actual_cost_usd), sum(unpriced_requests)) AS actual_cost_usd,
            usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd,
            coalesce(sum(requests) FILTER (WHERE outcome = 'cancelled'), 0)::bigint AS cancelled
        FROM usage_api.v1_daily_keys
        WHERE day > coalesce(v1_heatmap.last_day, (now() AT TIME ZONE usage_api.v1_zone())::date) - v1_heatmap.days
          AND day <= coalesce(v1_heatmap.last_day, (now() AT TIME ZONE usage_api.v1_zone())::date)
          AND (v1_heatmap.of_upstream IS NULL OR upstream = v1_heatmap.of_upstream)
          AND (v1_heatmap.of_client_key IS NULL OR client_key = v1_heatmap.of_client_key)
        GROUP BY day
    ) AS used ON used.day = calendar.day
    ORDER BY calendar.day
$$;
COMMENT ON FUNCTION usage_api.v1_heatmap(integer, date, text, text) IS 'What was used on each of the last days in the rollup time zone, in order, those without requests too. last_day is today unless given.';

CREATE TYPE usage_api.v1_dashboard AS (
    total_requests bigint,
    total_succeeded bigint,
    total_failed bigint,
    total_input_tokens bigint,
    total_output_tokens bigint,
    total_cache_read_tokens bigint,
    total_cache_write_tokens bigint,
    total_tokens bigint,
    total_unclassified_tokens bigint,
    total_cost_usd numeric,
    total_actual_cost_usd numeric,
    today_requests bigint,
    today_succeeded bigint,
    today_failed bigint,
    today_input_tokens bigint,
    today_output_tokens bigint,
    today_cache_read_tokens bigint,
    today_cache_write_tokens bigint,
    today_tokens bigint,
    today_unclassified_tokens bigint,
    today_cost_usd numeric,
    today_actual_cost_usd numeric,
    mean_latency_ms numeric,
    total_client_keys bigint,
    active_client_keys bigint,
    rpm numeric,
    succeeded_rpm numeric,
    tpm numeric,
    cache_tpm numeric,
    total_cancelled bigint,
    total_estimated_cost_usd numeric,
    today_cancelled bigint,
    today_estimated_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_dashboard IS 'All of history, the day that the given instant lies in, and what goes on at that instant: one row.';

-- Which calls ended in the last five minutes can only be found among those that began before: six hours are looked at.
CREATE FUNCTION usage_api.v1_dashboard(
    of_client_key text DEFAULT NULL, at timestamptz DEFAULT now(), zone text DEFAULT NULL,
    of_upstream text DEFAULT NULL
) RETURNS SETOF usage_api.v1_dashboard
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        ever.requests, ever.succeeded, ever.failed, ever.uncached_input_tokens, ever.billed_output_tokens,
        ever.cache_read_tokens, ever.cache_write_tokens, ever.tokens - ever.unclassified_tokens,
        ever.unclassified_tokens, ever.cost_usd, ever.actual_cost_usd,
        today.requests, today.succeeded, today.failed, today.uncached_input_tokens, today.billed_output_tokens,
        today.cache_read_tokens, today.cache_write_tokens, today.tokens - today.unclassified_tokens,
        today.unclassified_tokens, today.cost_usd, today.actual_cost_usd,
        ever.mean_latency_ms,
        (
            SELECT count(DISTINCT (upstream, client_key)) FROM usage_api.v1_client_keys
            WHERE (v1_dashboard.of_upstream IS NULL OR upstream = v1_dashboard.of_upstream)
              AND (v1_dashboard.of_client_key IS NULL OR client_key = v1_dashboard.of_client_key)
        ),
        (
            SELECT count(*) FROM (
                SELECT DISTINCT upstream, client_key
                FROM usage_api.v1_key_usage(v1_dashboard.at - interval '24 hours', v1_dashboard.at)
                WHERE outcome <> 'warmup'
                  AND (v1_dashboard.of_upstream IS NULL OR upstream = v1_dashboard.of_upstream)
                  AND (v1_dashboard.of_client_key IS NULL OR client_key = v1_dashboard.of_client_key)
            ) AS active
        ),
        lately.requests * 0.2, lately.succeeded * 0.2, lately.tokens * 0.2, lately.cache_tokens * 0.2,
        ever.cancelled, ever.estimated_cost_usd, today.cancelled, today.estimated_cost_usd
    FROM (
        SELECT
            coalesce(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0)::bigint AS requests,
            coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)::bigint AS succeeded,
            coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed,
            coalesce(sum(requests) FILTER (WHERE outcome = 'cancelled'), 0)::bigint AS cancelled,
            usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd,
            coalesce(sum(uncached_input_tokens), 0)::bigint AS uncached_input_tokens,
            coalesce(sum(billed_output_tokens), 0)::bigint AS billed_output_tokens,
            coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
            coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
            coalesce(sum(unclassified_tokens), 0)::bigint AS unclassified_tokens,
            coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens) + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
            usage_api.v1_cost(sum(cost_usd), sum(unpriced_requests)) AS cost_usd,
            usage_api.v1_cost(sum(actual_cost_usd), sum(unpriced_requests)) AS actual_cost_usd,
            round(sum(latency_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(latency_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_latency_ms
        FROM usage_api.v1_daily_keys
        WHERE (v1_dashboard.of_upstream IS NULL OR upstream = v1_dashboard.of_upstream)
          AND (v1_dashboard.of_client_key IS NULL OR client_key = v1_dashboard.of_client_key)
    ) AS ever
    CROSS JOIN LATERAL (
        SELECT coalesce(v1_dashboard.zone, usage_api.v1_zone()) AS zone
    ) AS decided
    CROSS JOIN LATERAL usage_api.v1_summary(
        usage_api.v1_day_begin((v1_dashboard.at AT TIME ZONE decided.zone)::date, decided.zone),
        usage_api.v1_day_begin((v1_dashboard.at AT TIME ZONE decided.zone)::date + 1, decided.zone),
        of_upstream => v1_dashboard.of_upstream, of_client_key => v1_dashboard.of_client_key
    ) AS today
    CROSS JOIN (
        SELECT
            count(*) FILTER (WHERE outcome <> 'warmup') AS requests,
            count(*) FILTER (WHERE outcome = 'success') AS succeeded,
            coalesce(sum(uncached_input_tokens + billed_output_tokens), 0) AS tokens,
            coalesce(sum(cache_read_tokens + cache_write_tokens), 0) AS cache_tokens
        FROM usage_api.v1_records
        WHERE occurred_at >= v1_dashboard.at - interval '6 hours' AND occurred_at < v1_dashboard.at
          AND coalesce(completed_at, occurred_at) >= v1_dashboard.at - interval '5 minutes'
          AND coalesce(completed_at, occurred_at) < v1_dashboard.at
          AND (v1_dashboard.of_upstream IS NULL OR upstream = v1_dashboard.of_upstream)
          AND (v1_dashboard.of_client_key IS NULL OR client_key = v1_dashboard.of_client_key)
    ) AS lately
$$;
COMMENT ON FUNCTION usage_api.v1_dashboard(text, timestamptz, text, text) IS 'All of history, the day that the given instant lies in, and what goes on at that instant: one row.';

CREATE TYPE usage_api.v1_client_key_costs AS (
    upstream text,
    client_key text,
    today_requests bigint,
    last_30_days_requests bigint,
    total_requests bigint,
    today_actual_cost_usd numeric,
    last_30_days_actual_cost_usd numeric,
    total_actual_cost_usd numeric
);
COMMENT ON TYPE usage_api.v1_client_key_costs IS 'For each client key, what it really cost on the day that the given instant lies in, in the 30 times 24 hours before that instant, and ever; the dearest first.';

CREATE FUNCTION usage_api.v1_client_key_costs(
    at timestamptz DEFAULT now(), zone text DEFAULT NULL, of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_client_key_costs
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, client_key,
        coalesce(sum(requests) FILTER (WHERE period = 'today' AND outcome <> 'warmup'), 0)::bigint,
        coalesce(sum(requests) FILTER (WHERE period = 'last_30_days' AND outcome <> 'warmup'), 0)::bigint,
        coalesce(sum(requests) FILTER (WHERE period = 'all' AND outcome <> 'warmup'), 0)::bigint,
        usage_api.v1_cost(sum(actual_cost_usd) FILTER (WHERE period = 'today'), sum(unpriced_requests) FILTER (WHERE period = 'today')),
        usage_api.v1_cost(sum(actual_cost_usd) FILTER (WHERE period = 'last_30_days'), sum(unpriced_requests) FILTER (WHERE period = 'last_30_days')),
        usage_api.v1_cost(sum(actual_cost_usd) FILTER (WHERE period = 'all'), sum(unpriced_requests) FILTER (WHERE period = 'all'))
    FROM (
        SELECT 'all' AS period, upstream, client_key, outcome, requests, actual_cost_usd, unpriced_requests
        FROM usage_api.v1_daily_keys
        UNION ALL
        SELECT 'last_30_days', upstream, client_key, outcome, requests, actual_cost_usd, unpriced_requests
        FROM usage_api.v1_key_usage(v1_client_key_costs.at - interval '720 hours', v1_client_key_costs.at)
        UNION ALL
        SELECT 'today', upstream, client_key, outcome, requests, actual_cost_usd, unpriced_requests
        FROM usage_api.v1_key_usage(
            usage_api.v1_day_begin(
                (v1_client_key_costs.at AT TIME ZONE coalesce(v1_client_key_costs.zone, usage_api.v1_zone()))::date,
                coalesce(v1_client_key_costs.zone, usage_api.v1_zone())),
            usage_api.v1_day_begin(
                (v1_client_key_costs.at AT TIME ZONE coalesce(v1_client_key_costs.zone, usage_api.v1_zone()))::date + 1,
                coalesce(v1_client_key_costs.zone, usage_api.v1_zone())))
        UNION ALL  -- a key without any usage has a row, too
        SELECT 'all', upstream, client_key, 'success', 0::bigint, NULL::numeric, 0::bigint FROM usage_api.v1_client_keys
    ) AS used
    WHERE (v1_client_key_costs.of_upstream IS NULL OR upstream = v1_client_key_costs.of_upstream)
      AND (v1_client_key_costs.of_client_key IS NULL OR client_key = v1_client_key_costs.of_client_key)
    GROUP BY upstream, client_key
    ORDER BY 8 DESC NULLS LAST, upstream, client_key
$$;
COMMENT ON FUNCTION usage_api.v1_client_key_costs(timestamptz, text, text, text) IS 'For each client key, what it really cost on the day that the given instant lies in, in the 30 times 24 hours before that instant, and ever; the dearest first.';

CREATE TYPE usage_api.v1_latency_percentiles AS (
    measure text,
    name text,
    samples bigint,
    p50_ms numeric,
    p50_from_ms bigint,
    p50_to_ms bigint,
    p75_ms numeric,
    p75_from_ms bigint,
    p75_to_ms bigint,
    p90_ms numeric,
    p90_from_ms bigint,
    p90_to_ms bigint,
    p95_ms numeric,
    p95_from_ms bigint,
    p95_to_ms bigint,
    p99_ms numeric,
    p99_from_ms bigint,
    p99_to_ms bigint
);
COMMENT ON TYPE usage_api.v1_latency_percentiles IS 'Percentiles of the latency and of the time to the first token over a window, by all, channel, channel_group or model. Each lies between its two bounds; where between is estimated.';

-- From the counts of requests within each bound: the value that the given share of the requests does not exceed lies
-- between the last bound that too few requests are within and the next, and is taken for as far between them as its
-- place among the requests counted there. A bound within which it is not known how many requests are is left out.
CREATE FUNCTION usage_api.v1_latency_percentiles(
    since timestamptz, until timestamptz, by text DEFAULT 'all', of_upstream text DEFAULT NULL,
    of_channel text DEFAULT NULL, of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_latency_percentiles
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        measure, name, samples,
        max(ms) FILTER (WHERE share = 0.5) AS p50_ms,
        max(from_ms) FILTER (WHERE share = 0.5) AS p50_from_ms,
        max(to_ms) FILTER (WHERE share = 0.5) AS p50_to_ms,
        max(ms) FILTER (WHERE share = 0.75) AS p75_ms,
        max(from_ms) FILTER (WHERE share = 0.75) AS p75_from_ms,
        max(to_ms) FILTER (WHERE share = 0.75) AS p75_to_ms,
        max(ms) FILTER (WHERE share = 0.9) AS p90_ms,
        max(from_ms) FILTER (WHERE share = 0.9) AS p90_from_ms,
        max(to_ms) FILTER (WHERE share = 0.9) AS p90_to_ms,
        max(ms) FILTER (WHERE share = 0.95) AS p95_ms,
        max(from_ms) FILTER (WHERE share = 0.95) AS p95_from_ms,
        max(to_ms) FILTER (WHERE share = 0.95) AS p95_to_ms,
        max(ms) FILTER (WHERE share = 0.99) AS p99_ms,
        max(from_ms) FILTER (WHERE share = 0.99) AS p99_from_ms,
        max(to_ms) FILTER (WHERE share = 0.99) AS p99_to_ms
    FROM (
        SELECT
            CASE usage_internal.one_of(
                v1_latency_percentiles.by, 'grouping', ARRAY['all', 'channel', 'channel_group', 'model'])
                WHEN 'channel' THEN channel WHEN 'channel_group' THEN channel_group WHEN 'model' THEN model ELSE 'all'
            END AS name,
            coalesce(sum(latency_samples), 0)::bigint AS latency_samples,
            ARRAY[sum(latency_le_50ms), sum(latency_le_100ms), sum(latency_le_250ms), sum(latency_le_500ms),
                  sum(latency_le_1s), sum(latency_le_2500ms), sum(latency_le_5s), sum(latency_le_10s),
                  sum(latency_le_30s), sum(latency_le_60s), sum(latency_le_120s), sum(latency_le_300s),
                  sum(latency_le_600s), sum(latency_le_1200s)] AS latency_within,
            coalesce(sum(ttft_samples), 0)::bigint AS ttft_samples,
            ARRAY[sum(ttft_le_50ms), sum(ttft_le_100ms), sum(ttft_le_250ms), sum(ttft_le_500ms), sum(ttft_le_1s),
                  sum(ttft_le_2500ms), sum(ttft_le_5s), sum(ttft_le_10s), sum(ttft_le_30s), sum(ttft_le_60s),
                  sum(ttft_le_120s), sum(ttft_le_300s), sum(ttft_le_600s), sum(ttft_le_1200s)] AS ttft_within
        FROM usage_api.v1_channel_usage(v1_latency_percentiles.since, v1_latency_percentiles.until)
        WHERE outcome <> 'warmup'
          AND (v1_latency_percentiles.of_upstream IS NULL OR upstream = v1_latency_percentiles.of_upstream)
          AND (v1_latency_percentiles.of_channel IS NULL OR channel = v1_latency_percentiles.of_channel)
          AND (v1_latency_percentiles.of_model IS NULL OR model = v1_latency_percentiles.of_model)
          AND (v1_latency_percentiles.of_outcome IS NULL OR outcome = v1_latency_percentiles.of_outcome)
        GROUP BY 1
    ) AS used
    CROSS JOIN LATERAL (
        VALUES ('latency', latency_samples, latency_within), ('ttft', ttft_samples, ttft_within)
    ) AS measured (measure, samples, within)
    CROSS JOIN unnest(ARRAY[0.5, 0.75, 0.9, 0.95, 0.99]) AS shares (share)
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN samples > 0 THEN coalesce(max(bound_ms) FILTER (WHERE counted < share * samples), 0) END
                AS from_ms,
            CASE WHEN samples > 0 THEN min(bound_ms) FILTER (WHERE counted >= share * samples) END AS to_ms,
            coalesce(max(counted) FILTER (WHERE counted < share * samples), 0) AS below,
            min(counted) FILTER (WHERE counted >= share * samples) AS up_to
        FROM unnest(within, ARRAY[50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000, 600000, 1200000]::bigint[]) AS bounds (counted, bound_ms)
    ) AS place
    CROSS JOIN LATERAL (
        SELECT round(from_ms + coalesce((to_ms - from_ms) * (share * samples - below) / (up_to - below), 0), 2) AS ms
    ) AS value
    GROUP BY measure, name, samples
    ORDER BY measure, samples DESC, name
$$;
COMMENT ON FUNCTION usage_api.v1_latency_percentiles(timestamptz, timestamptz, text, text, text, text, text) IS 'Percentiles of the latency and of the time to the first token over a window, by all, channel, channel_group or model. Each lies between its two bounds; where between is estimated.';

CREATE TYPE usage_api.v1_calls AS (
    period text,
    since timestamptz,
    until timestamptz,
    total bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint,
    cancelled bigint
);
COMMENT ON TYPE usage_api.v1_calls IS 'A row of the function of this name.';

CREATE FUNCTION usage_api.v1_calls(
    at timestamptz DEFAULT now(), zone text DEFAULT NULL, of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL
) RETURNS SETOF usage_api.v1_calls
LANGUAGE sql STABLE PARALLEL SAFE ROWS 4 AS $$
    SELECT period, since, at, succeeded + failed + cancelled, succeeded, failed, warmups, cancelled
    FROM (
        SELECT
            1 AS place, '1m' AS period, at - interval '1 minute' AS since,
            count(*) FILTER (WHERE outcome = 'success') AS succeeded,
            count(*) FILTER (WHERE outcome = 'failed') AS failed,
            count(*) FILTER (WHERE outcome = 'warmup') AS warmups,
            count(*) FILTER (WHERE outcome = 'cancelled') AS cancelled
        FROM usage_api.v1_records
        WHERE occurred_at >= usage_internal.records_from(at - interval '1 minute', at)
          AND occurred_at < usage_internal.records_until(at - interval '1 minute', at)
          AND (of_upstream IS NULL OR upstream = of_upstream)
          AND (of_channel IS NULL OR channel = of_channel)
        UNION ALL
        SELECT
            2, '1h', at - interval '1 hour',
            count(*) FILTER (WHERE outcome = 'success'),
            count(*) FILTER (WHERE outcome = 'failed'),
            count(*) FILTER (WHERE outcome = 'warmup'),
            count(*) FILTER (WHERE outcome = 'cancelled')
        FROM usage_api.v1_records
        WHERE occurred_at >= usage_internal.records_from(at - interval '1 hour', at)
          AND occurred_at < usage_internal.records_until(at - interval '1 hour', at)
          AND (of_upstream IS NULL OR upstream = of_upstream)
          AND (of_channel IS NULL OR channel = of_channel)
        UNION ALL
        SELECT 3, '24h', at - interval '24 hours', succeeded, failed, warmups, cancelled
        FROM usage_api.v1_summary(
            at - interval '24 hours', at, of_upstream => v1_calls.of_upstream, of_channel => v1_calls.of_channel)
        UNION ALL
        SELECT
            4, 'month',
            usage_api.v1_day_begin(date_trunc('month', at AT TIME ZONE coalesce(zone, usage_api.v1_zone()))::date,
                                   coalesce(zone, usage_api.v1_zone())),
            succeeded, failed, warmups, cancelled
        FROM usage_api.v1_summary(
            usage_api.v1_day_begin(date_trunc('month', at AT TIME ZONE coalesce(zone, usage_api.v1_zone()))::date,
                                   coalesce(zone, usage_api.v1_zone())),
            at, of_upstream => v1_calls.of_upstream, of_channel => v1_calls.of_channel)
    ) AS counted
    ORDER BY place
$$;
COMMENT ON FUNCTION usage_api.v1_calls(timestamptz, text, text, text) IS 'Calls in the last minute, hour and 24 hours before an instant, and in its calendar month so far, of a time zone: of the rollup time zone when none is named.';


-- -- What everything is -------------------------------------------------------------------------------------------

-- Columns by their names.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT n.nspname, c.relname, a.attname, said.description
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN (VALUES
        ('upstream', 'Name of the proxy instance the usage was pulled from.'),
        ('client_key', 'Label or mask of the client''s own API key; never the key.'),
        ('request_id', 'The proxy''s request id; an empty one joins nothing.'),
        ('started_at', 'When the first attempt began.'),
        ('attempt', 'Its place in the logical request, from 1; the same for what began at the same instant.'),
        ('attempts', 'How many attempts it took; what began at the same instant counts once.'),
        ('begins', 'Whether it is the first record of the logical request.'),
        ('ends', 'Whether it is the last record of the logical request: its outcome is that of the request.'),
        ('occurred_at', 'When the attempt at the upstream began, to the microsecond.'),
        ('completed_at', 'When it ended; NULL when the latency was not measured.'),
        ('record_id', 'The record''s identity.'),
        ('channel', 'The credential''s name: provider/account for an auth file, the provider''s name or base URL for an API key, or unknown.'),
        ('model', 'The model that the upstream ran.'),
        ('alias', 'The model name that the client asked for.'),
        ('outcome', 'success, failed, cancelled (by the client), or warmup (a call that asked for no generation).'),
        ('status_code', 'HTTP status of the upstream; NULL when the payload had none.'),
        ('error', 'Class of the error of a failed or cancelled attempt; NULL for the others.'),
        ('latency_ms', 'Milliseconds from its begin to its end; NULL when not measured.'),
        ('tokens', 'The sum of the five counts that exclude one another: uncached input, cache reads, cache writes, output and unclassified.'),
        ('cost_usd', 'Cost in US dollars of what has a price; NULL when something was used and nothing of it has one.'),
        ('counts', '1, or 0 where it began at the same instant as the one before it in the logical request.'),
        ('request_number', 'Number of the logical request among those of the same client key and request id in the window.'),
        ('client_key_id', 'Number of the client key, in v1_client_keys.'),
        ('dimension_id', 'Number of its combination of dimensions, in v1_dimensions.'),
        ('origin_id', 'Number of the credential, as in v1_records.'),
        ('event_key', 'record_id as bytes.'),
        ('requests', 'Attempts at an upstream, warm-ups not counted.'),
        ('succeeded', 'Requests that succeeded.'),
        ('failed', 'Requests that failed.'),
        ('warmups', 'Calls that asked for no generation. Their tokens and costs are counted, they are not.'),
        ('success_rate', 'Of the requests that succeeded or failed, the percentage that succeeded, to two decimals; NULL where there are none.'),
        ('error_rate', 'Of the requests that succeeded or failed, the percentage that failed, to two decimals; NULL where there are none.'),
        ('cache_hit_rate', 'Percentage of the input tokens that were read from a cache, to two decimals; NULL where there are none.'),
        ('unpriced_requests', 'Records without a price, warm-ups too: they are not in the costs.'),
        ('mean_latency_ms', 'Mean of the measured latencies of requests, in milliseconds, to two decimals; NULL when none was measured.'),
        ('mean_ttft_ms', 'Mean of the measured times to the first token, in milliseconds, to two decimals; NULL when none was measured.'),
        ('cancelled', 'Requests that the client cancelled: they are neither succeeded nor failed, and in neither rate. Their tokens and costs are counted.'),
        ('channel_group', 'The channel''s group: the provider for an auth file, the channel''s own name for an API key, or unknown.'),
        ('channel_kind', 'auth (an auth file), apikey (a configured key) or unknown.'),
        ('provider', 'The proxy''s provider id, such as codex or openai-compatible-openrouter; empty when the payload had none.'),
        ('endpoint', 'Method and route that the client called; empty when the payload had none.'),
        ('total_requests', 'Number of successful requests.'),
        ('requests_with_cache_hit', 'Those of which tokens were read from a cache.'),
        ('request_cache_hit_rate', 'requests_with_cache_hit of total_requests, in percent; NULL when there were none.'),
        ('token_cache_hit_rate', 'cache_read_tokens of all three, in percent; NULL when there were none.'),
        ('savings_usd', 'What the tokens read from caches would have cost more as uncached input, each at the price its request was charged by; NULL when that is known of no hit.'),
        ('savings_unknown_requests', 'Requests with a hit that are not in savings_usd: they have no price, or one without a price for input or cache reads.'),
        ('aether_savings_usd', 'Nine times cache_read_cost_usd: the savings if reading from a cache cost a tenth, as Aether estimates them.'),
        ('request_count', 'Number of gaps between its successful requests.'),
        ('within_5_min', 'Gaps of 5 minutes at most.'),
        ('within_15_min', 'Gaps of more than 5 and at most 15 minutes.'),
        ('within_30_min', 'Gaps of more than 15 and at most 30 minutes.'),
        ('within_60_min', 'Gaps of more than 30 and at most 60 minutes.'),
        ('over_60_min', 'Gaps of more than 60 minutes.'),
        ('within_5_min_percent', 'within_5_min of all gaps, in percent.'),
        ('within_15_min_percent', 'within_15_min of all gaps, in percent.'),
        ('within_30_min_percent', 'within_30_min of all gaps, in percent.'),
        ('within_60_min_percent', 'within_60_min of all gaps, in percent.'),
        ('over_60_min_percent', 'over_60_min of all gaps, in percent.'),
        ('p50_minutes', 'Half of the gaps are no longer, in minutes; between two gaps, in proportion.'),
        ('p75_minutes', '75 % of the gaps are no longer, in minutes.'),
        ('p90_minutes', '90 % of the gaps are no longer, in minutes.'),
        ('avg_minutes', 'Mean gap in minutes.'),
        ('min_minutes', 'Shortest gap in minutes.'),
        ('max_minutes', 'Longest gap in minutes.'),
        ('recommended_ttl_minutes', '5, 15, 30 or 60: see reason.'),
        ('reason', 'Which percentile the recommendation comes from.'),
        ('period', '1m, 1h, 24h, or month: the calendar month so far.'),
        ('since', 'Begin of the period.'),
        ('until', 'End of the period, which is not in it any more.'),
        ('total', 'Attempts that began in the period, warm-ups left out.'),
        ('level', 'What the row is about: all, group (channel_group), channel (channel_group and channel) or model; the other names are NULL.'),
        ('configured_name', 'What the proxy''s configuration calls it; channel shows an operator''s label instead where there is one.'),
        ('configured', 'Whether the proxy''s last good directory still lists it.'),
        ('linked_to', 'The channel that its usage is booked on, by an operator''s word; NULL for most.'),
        ('rate_multiplier', 'What a request over this channel really costs now, as a multiple of its cost.'),
        ('first_seen_at', 'When it was first seen.'),
        ('last_seen_at', 'When it was last seen.'),
        ('channel_id', 'Number of the channel, in v1_channels.'),
        ('today_requests', 'Requests of the day, warm-ups not counted.'),
        ('last_30_days_requests', 'Requests of the 720 hours before the instant, warm-ups not counted.'),
        ('today_actual_cost_usd', 'What the day really cost in US dollars; NULL when nothing that was used has a price.'),
        ('last_30_days_actual_cost_usd', 'What the 720 hours before the instant really cost in US dollars; NULL when nothing that was used has a price.'),
        ('total_actual_cost_usd', 'What everything really cost in US dollars; NULL when nothing that was used has a price.'),
        ('mask', 'At most the last four characters of the key, and six digits that tell it from others.'),
        ('perhaps_several', 'Whether the proxy masks client keys, as forks and CLIProxyAPIHome do: several keys may look like this one.'),
        ('records', 'Number of records, exactly.'),
        ('day', 'The day on which the requests began, in the rollup time zone.'),
        ('total_succeeded', 'Requests ever that succeeded.'),
        ('total_failed', 'Requests ever that failed.'),
        ('total_input_tokens', 'Input tokens ever neither read from nor written to a cache.'),
        ('total_output_tokens', 'Output tokens ever, reasoning included once.'),
        ('total_cache_read_tokens', 'Input tokens ever read from a cache.'),
        ('total_cache_write_tokens', 'Input tokens ever written to a cache.'),
        ('total_unclassified_tokens', 'Tokens ever that could not be told apart as input or output.'),
        ('total_cost_usd', 'Cost ever in US dollars; NULL when something was used and nothing of it has a price.'),
        ('today_succeeded', 'Requests on the day that succeeded.'),
        ('today_failed', 'Requests on the day that failed.'),
        ('today_input_tokens', 'Input tokens on the day neither read from nor written to a cache.'),
        ('today_output_tokens', 'Output tokens on the day, reasoning included once.'),
        ('today_cache_read_tokens', 'Input tokens on the day read from a cache.'),
        ('today_cache_write_tokens', 'Input tokens on the day written to a cache.'),
        ('today_tokens', 'The sum of these four.'),
        ('today_unclassified_tokens', 'Tokens on the day that could not be told apart as input or output.'),
        ('today_cost_usd', 'Cost on the day in US dollars; NULL when something was used and nothing of it has a price.'),
        ('total_client_keys', 'Client keys ever seen. Requests without a key count as one.'),
        ('active_client_keys', 'Client keys with a request in the 24 hours before the instant.'),
        ('rpm', 'Requests per minute among those that ended in the five minutes before the instant. A call of more than six hours is not seen.'),
        ('succeeded_rpm', 'The same of successful requests.'),
        ('tpm', 'Uncached input and output tokens per minute of the same five minutes.'),
        ('cache_tpm', 'Tokens read from and written to caches per minute of the same five minutes.'),
        ('total_cancelled', 'Requests ever that the client cancelled.'),
        ('total_estimated_cost_usd', 'The part of total_cost_usd that is an estimate; NULL as it.'),
        ('today_cancelled', 'Requests on the day that the client cancelled.'),
        ('today_estimated_cost_usd', 'The part of today_cost_usd that is an estimate; NULL as it.'),
        ('logical_requests', 'Number of logical requests.'),
        ('with_fallback', 'Those that took more than one attempt.'),
        ('switched', 'Whether it went over more than one credential.'),
        ('rescued', 'Those that failed at first and succeeded at last.'),
        ('final_succeeded', 'Those whose last attempt succeeded.'),
        ('final_failed', 'Those whose last attempt failed.'),
        ('fallback_rate', 'with_fallback of logical_requests, in percent; NULL when there were none.'),
        ('final_cancelled', 'Those whose last attempt the client cancelled: they are in no success_rate.'),
        ('last_pass_at', 'When the last pass ended.'),
        ('last_success_at', 'When the last pass without an error ended.'),
        ('newest_record_at', 'The newest record''s occurred_at, those from the future left aside.'),
        ('journal_entries', 'Payloads that waited on the worker''s disk when its last pass ended.'),
        ('journal_bytes', 'Their bytes.'),
        ('timezone', 'The IANA time zone of the days in v1_daily.'),
        ('records_complete_from', 'The first day whose records are all still here; NULL when none was ever dropped.'),
        ('records_dropped_before', 'Records from before this instant have been dropped, and none from before is taken any more; NULL when none ever was.'),
        ('last_failure_at', 'When the last pass with an error ended; NULL when none did.'),
        ('last_error', 'Why that pass failed.'),
        ('future_record_at', 'The latest occurred_at that is still to come, by more than 15 minutes: somebody''s clock is or was wrong. NULL when there is none.'),
        ('max_requests', 'The most requests of any day shown: the same in each row.'),
        ('hour', 'The instant at which the hour began; hours are UTC.'),
        ('gap_minutes', 'Minutes since the client key''s successful request before it began, with two decimals.'),
        ('bucket', 'The instant at which the hour or day began, which may lie before the window.'),
        ('measure', 'latency, or ttft (the time to the first token).'),
        ('name', 'The channel, group or model; all when they are not told apart.'),
        ('samples', 'Measured requests.'),
        ('p50_ms', 'Milliseconds that 50 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.'),
        ('p50_from_ms', 'It is more than this.'),
        ('p50_to_ms', 'It is this at most; NULL beyond the last bound.'),
        ('p75_ms', 'Milliseconds that 75 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.'),
        ('p75_from_ms', 'It is more than this.'),
        ('p75_to_ms', 'It is this at most; NULL beyond the last bound.'),
        ('p90_ms', 'Milliseconds that 90 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.'),
        ('p90_from_ms', 'It is more than this.'),
        ('p90_to_ms', 'It is this at most; NULL beyond the last bound.'),
        ('p95_ms', 'Milliseconds that 95 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.'),
        ('p95_from_ms', 'It is more than this.'),
        ('p95_to_ms', 'It is this at most; NULL beyond the last bound.'),
        ('p99_ms', 'Milliseconds that 99 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.'),
        ('p99_from_ms', 'It is more than this.'),
        ('p99_to_ms', 'It is this at most; NULL beyond the last bound.'),
        ('ended_at', 'When the last attempt ended; of one whose latency was not measured, its begin.'),
        ('failed_attempts', 'How many of its records failed.'),
        ('has_fallback', 'Whether it took more than one attempt.'),
        ('first_channel', 'The channel of the first attempt.'),
        ('final_channel', 'The channel of the last attempt.'),
        ('final_outcome', 'success, failed or cancelled, as the last attempt ended.'),
        ('unpriced_records', 'Records without a price: they are not in the costs.'),
        ('price_id', 'Number of the price; v1_records names it.'),
        ('source', 'The account or auth file named by the payload, or the mask of a key.'),
        ('vendor', 'Whose list in the dataset it comes from; empty for an operator''s price.'),
        ('service_tier', 'Service tier that was asked for.'),
        ('above_input_tokens', 'It holds for requests whose whole input is longer than this.'),
        ('valid_from', 'It holds for requests that began then or later; NULL for no such limit.'),
        ('valid_to', 'It holds for requests that began before then; NULL for no such limit.'),
        ('hours_from', 'Where it holds for some hours of the day only: their begin, UTC; NULL elsewhere.'),
        ('hours_to', 'The end of these hours, UTC.'),
        ('input_usd_per_mtok', 'US dollars per million uncached input tokens; NULL when unknown.'),
        ('cache_read_usd_per_mtok', 'US dollars per million input tokens read from a cache; NULL when unknown.'),
        ('cache_write_usd_per_mtok', 'US dollars per million input tokens written to a cache; NULL when unknown.'),
        ('output_usd_per_mtok', 'US dollars per million output tokens, reasoning included; NULL when unknown.'),
        ('request_usd', 'US dollars per successful request; NULL for none.'),
        ('origin', 'The state of the dataset it comes from; empty for an operator''s price.'),
        ('entered_at', 'When it was entered.'),
        ('dropped_at', 'When it was withdrawn: from then on no record is charged by it; NULL while it is in force.'),
        ('estimated', 'What of it is an estimate: nothing (empty), its rate for cache_write where a record does not tell for how long the cache is kept, or all. It may be one as well for requests that another vendor served.'),
        ('cache_write_1h_usd_per_mtok', 'US dollars per million input tokens written to a cache for an hour, for records that tell how many these are; NULL where it is cache_write_usd_per_mtok.'),
        ('channel_rule', 'How the channel was found: auth_index, api_key, account (only with channels.match_account), none (not found) or ambiguous (several fit).'),
        ('auth_index', 'The proxy''s index of the credential; empty when the payload had none.'),
        ('auth_type', 'apikey, oauth or unknown; empty when the payload had none.'),
        ('reasoning_effort', 'Reasoning effort that was asked for; empty when none was.'),
        ('ttft_ms', 'Milliseconds to the first token; NULL when not measured.'),
        ('synced_at', 'When it was loaded; NULL where that has been forgotten.'),
        ('channel_candidates', 'The channels between which nothing decides, where the rule is ambiguous; NULL elsewhere.'),
        ('response_service_tier', 'Service tier that the upstream said it used; empty when it did not say.'),
        ('cost_estimated', 'Whether the cost is an estimate, by a price that is a guess and no vendor''s or operator''s word; false where there is no cost.'),
        ('execution_id', 'What the proxy gives each attempt at an upstream, from v8 on; the records of one that used several models share it. Of CLIProxyAPIHome, usage_id: and its number. NULL when not told.'),
        ('stream', 'Whether the client asked for a stream; NULL when not told.'),
        ('session_id', 'The session of the client that the request belongs to, as the proxy made it out; NULL when not told.'),
        ('parent_session_id', 'The session that this one was begun by, such as an agent''s; NULL when not told.'),
        ('response_model', 'The model that the upstream said it used; NULL when not told.'),
        ('cache_write_1h_tokens', 'Of cache_write_tokens, those that are kept for an hour instead of five minutes; NULL when not told.'),
        ('gap', 'The same as an interval.'),
        ('first_at', 'When its first request in the window began.'),
        ('last_at', 'When its last request in the window began.'),
        ('models', 'How many models they used.'),
        ('run_id', 'Number of the pass.'),
        ('kind', 'sync (a pass over the proxy), import (files) or retry (quarantine).'),
        ('mode', 'queue, snapshot or home; NULL when the pass ended before that was known.'),
        ('finished_at', 'When the pass ended; NULL while it runs, or when it was killed.'),
        ('pulled', 'Records in the payloads that the pass read.'),
        ('inserted', 'Records that were new.'),
        ('duplicates', 'Records that were there already.'),
        ('quarantined', 'Records that could not be read and were set aside with a reason.'),
        ('unknown_channel', 'New records whose channel was not found.'),
        ('possible_loss', 'Pops whose answer never arrived whole: what was in it may be lost.'),
        ('statistics_enabled', 'Whether the proxy was recording usage at all; NULL when it did not say.'),
        ('too_old', 'Records that were not taken, since those of their time have been dropped.'),
        ('label', 'The day, or the day and the hour, as the zone''s calendar and clock show it.')
        ) AS said (name, description) ON said.name = a.attname
        WHERE n.nspname IN ('usage_api', 'usage_internal') AND c.relkind IN ('v', 'c')
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I.%I IS %L',
                       described.nspname, described.relname, described.attname, described.description);
    END LOOP;
END
$$;

-- Measures, as rollups and what is summed from them hold them.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT c.relname, a.attname, said.description
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN (VALUES
        ('requests', 'Number of records: one for each attempt at an upstream.'),
        ('input_tokens', 'Input tokens as reported; what they include differs by provider.'),
        ('output_tokens', 'Output tokens as reported; what they include differs by provider.'),
        ('reasoning_tokens', 'Reasoning tokens as reported.'),
        ('cached_tokens', 'Cached tokens as reported.'),
        ('total_tokens', 'Total tokens as reported.'),
        ('uncached_input_tokens', 'Input tokens neither read from nor written to a cache. This and the next four exclude one another.'),
        ('cache_read_tokens', 'Input tokens read from a cache.'),
        ('cache_write_tokens', 'Input tokens written to a cache.'),
        ('billed_output_tokens', 'Output tokens, reasoning included once.'),
        ('unclassified_tokens', 'Tokens that could not be told apart as input or output.'),
        ('cost_usd', 'Cost in US dollars of the priced requests; NULL when none that used something has a price: so costs can be added up by sum().'),
        ('actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL as cost_usd.'),
        ('cache_read_cost_usd', 'The part of cost_usd for cache reads; NULL as cost_usd.'),
        ('cache_write_cost_usd', 'The part of cost_usd for cache writes; NULL as cost_usd.'),
        ('unpriced_requests', 'Requests without a price: they are not in the costs.'),
        ('latency_ms_sum', 'Sum of the measured latencies, in milliseconds.'),
        ('latency_samples', 'Number of requests with a measured latency.'),
        ('ttft_ms_sum', 'Sum of the measured times to the first token, in milliseconds.'),
        ('ttft_samples', 'Number of requests with a measured time to the first token.'),
        ('latency_le_500ms', 'Requests measured at 500 ms or less (cumulative).'),
        ('latency_le_1s', 'Requests measured at 1 s or less (cumulative).'),
        ('latency_le_2500ms', 'Requests measured at 2.5 s or less (cumulative).'),
        ('latency_le_5s', 'Requests measured at 5 s or less (cumulative).'),
        ('latency_le_10s', 'Requests measured at 10 s or less (cumulative).'),
        ('latency_le_30s', 'Requests measured at 30 s or less (cumulative).'),
        ('latency_le_60s', 'Requests measured at 60 s or less (cumulative).'),
        ('latency_le_120s', 'Requests measured at 120 s or less (cumulative).'),
        ('latency_le_300s', 'Requests measured at 300 s or less (cumulative).'),
        ('ttft_le_500ms', 'Requests whose first token came after 500 ms or less (cumulative).'),
        ('ttft_le_1s', 'Requests whose first token came after 1 s or less (cumulative).'),
        ('ttft_le_2500ms', 'Requests whose first token came after 2.5 s or less (cumulative).'),
        ('ttft_le_5s', 'Requests whose first token came after 5 s or less (cumulative).'),
        ('ttft_le_10s', 'Requests whose first token came after 10 s or less (cumulative).'),
        ('ttft_le_30s', 'Requests whose first token came after 30 s or less (cumulative).'),
        ('ttft_le_60s', 'Requests whose first token came after 60 s or less (cumulative).'),
        ('ttft_le_120s', 'Requests whose first token came after 120 s or less (cumulative).'),
        ('ttft_le_300s', 'Requests whose first token came after 300 s or less (cumulative).'),
        ('estimated_cost_usd', 'The part of cost_usd that is an estimate, by a price that is a guess and no vendor''s or operator''s word; NULL as cost_usd.'),
        ('latency_le_50ms', 'Requests measured at 50 ms or less (cumulative).'),
        ('latency_le_100ms', 'Requests measured at 100 ms or less (cumulative).'),
        ('latency_le_250ms', 'Requests measured at 250 ms or less (cumulative).'),
        ('latency_le_600s', 'Requests measured at 600 s or less (cumulative).'),
        ('latency_le_1200s', 'Requests measured at 1200 s or less (cumulative).'),
        ('ttft_le_50ms', 'Requests whose first token came after 50 ms or less (cumulative).'),
        ('ttft_le_100ms', 'Requests whose first token came after 100 ms or less (cumulative).'),
        ('ttft_le_250ms', 'Requests whose first token came after 250 ms or less (cumulative).'),
        ('ttft_le_600s', 'Requests whose first token came after 600 s or less (cumulative).'),
        ('ttft_le_1200s', 'Requests whose first token came after 1200 s or less (cumulative).')
        ) AS said (name, description) ON said.name = a.attname
        WHERE c.relnamespace = 'usage_api'::regnamespace
          AND (col_description(c.oid, a.attnum) IS NULL OR EXISTS (
              SELECT FROM pg_attribute AS sum WHERE sum.attrelid = c.oid AND sum.attname = 'latency_ms_sum'))
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L',
                       described.relname, described.attname, described.description);
    END LOOP;
END
$$;

-- What means something else than elsewhere.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT * FROM (VALUES
        ('usage_api.v1_attempts', 'started_at', 'When the first attempt of its logical request began.'),
        ('usage_api.v1_attempts', 'attempts', 'How many attempts the logical request took; what began at the same instant counts once.'),
        ('usage_api.v1_attempts', 'occurred_at', 'When the attempt began.'),
        ('usage_api.v1_attempts', 'channel', 'The channel that it went over.'),
        ('usage_api.v1_attempts', 'outcome', 'success, failed or cancelled (by the client).'),
        ('usage_api.v1_attempts', 'tokens', 'Sum of the five token counts that exclude one another.'),
        ('usage_api.v1_attempts', 'cost_usd', 'Cost in US dollars; NULL without a price.'),
        ('usage_api.v1_attempts', 'actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL without a price.'),
        ('usage_internal.attempts_around', 'occurred_at', 'When the attempt began.'),
        ('usage_internal.attempts_around', 'channel', 'The channel that it went over.'),
        ('usage_internal.attempts_around', 'outcome', 'success, failed or cancelled (by the client).'),
        ('usage_internal.attempts_around', 'tokens', 'Sum of the five token counts that exclude one another.'),
        ('usage_internal.attempts_around', 'cost_usd', 'Cost in US dollars; NULL without a price.'),
        ('usage_internal.attempts_around', 'actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL without a price.'),
        ('usage_api.v1_cache_hits', 'uncached_input_tokens', 'Input tokens neither read from nor written to a cache.'),
        ('usage_api.v1_cache_hits', 'cache_read_cost_usd', 'Cost of the cache reads in US dollars; NULL when something was used and nothing of it has a price.'),
        ('usage_api.v1_cache_hits', 'cache_write_cost_usd', 'Cost of the cache writes in US dollars; NULL as that of the reads.'),
        ('usage_api.v1_cache_hits', 'unpriced_requests', 'Requests without a price: they are not in the costs.'),
        ('usage_api.v1_calls', 'succeeded', 'Attempts that succeeded.'),
        ('usage_api.v1_calls', 'failed', 'Attempts that failed.'),
        ('usage_api.v1_calls', 'warmups', 'Calls that asked for no generation: they are in none of the others.'),
        ('usage_api.v1_channels', 'channel_id', 'Number of the channel, for `worker channels`.'),
        ('usage_api.v1_client_key_costs', 'total_requests', 'All requests, warm-ups not counted.'),
        ('usage_api.v1_client_keys', 'client_key_id', 'Number of the client key, for `worker keys`.'),
        ('usage_api.v1_dashboard', 'total_requests', 'Requests ever, warm-ups not counted.'),
        ('usage_api.v1_dashboard', 'total_tokens', 'The sum of these four.'),
        ('usage_api.v1_dashboard', 'total_actual_cost_usd', 'Cost ever times the channels'' rate multipliers, in US dollars; NULL as the cost.'),
        ('usage_api.v1_dashboard', 'today_requests', 'Requests on the day, warm-ups not counted.'),
        ('usage_api.v1_dashboard', 'today_actual_cost_usd', 'Cost on the day times the channels'' rate multipliers, in US dollars; NULL as the cost.'),
        ('usage_api.v1_dashboard', 'mean_latency_ms', 'Mean of all measured latencies of requests ever, in milliseconds, to two decimals.'),
        ('usage_api.v1_dimensions', 'dimension_id', 'Number of the combination; v1_records names it.'),
        ('usage_api.v1_fallbacks', 'attempts', 'Attempts that they took.'),
        ('usage_api.v1_fallbacks', 'switched', 'Those that went over more than one credential.'),
        ('usage_api.v1_fallbacks', 'success_rate', 'final_succeeded of final_succeeded and final_failed, in percent; NULL when there were none.'),
        ('usage_api.v1_heatmap', 'day', 'The day, in the rollup time zone.'),
        ('usage_api.v1_interval_timeline', 'occurred_at', 'When the request began.'),
        ('usage_api.v1_logical_requests', 'request_id', 'The proxy''s request id: not unique; empty when the payload had none.'),
        ('usage_api.v1_logical_requests', 'model', 'The model of the last attempt.'),
        ('usage_api.v1_logical_requests', 'alias', 'The model name that the client asked for, of the last attempt.'),
        ('usage_api.v1_logical_requests', 'tokens', 'Sum of the five token counts that exclude one another, over all attempts.'),
        ('usage_api.v1_logical_requests', 'total_tokens', 'Total tokens as reported, over all attempts.'),
        ('usage_api.v1_logical_requests', 'cost_usd', 'Cost of the attempts that have a price, in US dollars; NULL when something was used and nothing of it has one.'),
        ('usage_api.v1_logical_requests', 'actual_cost_usd', 'Cost times the channels'' rate multipliers, in US dollars; NULL as cost_usd.'),
        ('usage_api.v1_period', 'since', 'Its begin; NULL for none.'),
        ('usage_api.v1_period', 'until', 'Its end, which does not belong to it; NULL for none.'),
        ('usage_api.v1_prices', 'source', 'operator (worker prices set), config (a configuration file) or dataset (price lists shipped with the worker).'),
        ('usage_api.v1_prices', 'model', 'The model it is for; * stands for any characters.'),
        ('usage_api.v1_prices', 'provider', 'The proxy''s provider id it is for; empty for all.'),
        ('usage_api.v1_prices', 'channel', 'The channel it is for; empty for all.'),
        ('usage_api.v1_prices', 'service_tier', 'The service tier it is for; empty for the standard one, * for every one without a price of its own.'),
        ('usage_api.v1_record', 'completed_at', 'When it ended: occurred_at plus latency; NULL when the latency was not measured.'),
        ('usage_api.v1_record', 'request_id', 'The proxy''s request id: shared by retries, and not unique.'),
        ('usage_api.v1_record', 'error', 'Class of the error of a failed or cancelled request; NULL for the others.'),
        ('usage_api.v1_record', 'cost_usd', 'Cost in US dollars; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_record', 'actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_record', 'cache_read_cost_usd', 'The part of cost_usd for cache reads; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_record', 'cache_write_cost_usd', 'The part of cost_usd for cache writes; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_record', 'latency_ms', 'Milliseconds from the attempt''s begin to its end; NULL when not measured.'),
        ('usage_api.v1_record', 'record_id', 'The record''s identity, 32 hex digits: stable over replays and over both ways of reading usage.'),
        ('usage_api.v1_record', 'price_id', 'The price it was charged by, in v1_prices; NULL when it has no cost, or costs nothing for having consumed nothing.'),
        ('usage_api.v1_record', 'rate_multiplier', 'What the request really cost, as a multiple of its cost; NULL when it cost nothing or has no price.'),
        ('usage_api.v1_record', 'attempt', 'Its place in its logical request, from 1; NULL for a warm-up, and where that began more than six hours before.'),
        ('usage_api.v1_record', 'attempts', 'How many attempts its logical request took; NULL where attempt is.'),
        ('usage_api.v1_records', 'completed_at', 'When it ended: occurred_at plus latency; NULL when the latency was not measured.'),
        ('usage_api.v1_records', 'request_id', 'The proxy''s request id: shared by retries, and not unique.'),
        ('usage_api.v1_records', 'error', 'Class of the error of a failed or cancelled request; NULL for the others.'),
        ('usage_api.v1_records', 'cost_usd', 'Cost in US dollars; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_records', 'actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_records', 'cache_read_cost_usd', 'The part of cost_usd for cache reads; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_records', 'cache_write_cost_usd', 'The part of cost_usd for cache writes; NULL without a price, 0 when nothing was used.'),
        ('usage_api.v1_records', 'latency_ms', 'Milliseconds from the attempt''s begin to its end; NULL when not measured.'),
        ('usage_api.v1_records', 'record_id', 'The record''s identity, 32 hex digits: stable over replays and over both ways of reading usage.'),
        ('usage_api.v1_records', 'price_id', 'The price it was charged by, in v1_prices; NULL when it has no cost, or costs nothing for having consumed nothing or being served for nothing.'),
        ('usage_api.v1_records', 'event_key', 'record_id as bytes; with occurred_at, what the index is on.'),
        ('usage_api.v1_records', 'origin_id', 'Number of the credential as records name it: the same for the same auth_index, source and auth_type.'),
        ('usage_api.v1_request_gaps', 'occurred_at', 'When the request began.'),
        ('usage_api.v1_request_gaps', 'gap_minutes', 'Minutes since the client key''s successful request before it began.'),
        ('usage_api.v1_request_outcomes', 'request_id', 'The proxy''s request id: not unique; empty when the payload had none.'),
        ('usage_api.v1_request_outcomes', 'outcome', 'success, failed or cancelled, as the last attempt ended.'),
        ('usage_api.v1_request_outcomes', 'dimension_id', 'Number of the last attempt''s combination of dimensions, in v1_dimensions.'),
        ('usage_api.v1_sessions', 'session_id', 'The session, as the proxy made it out.'),
        ('usage_api.v1_sessions', 'parent_session_id', 'The session that this one was begun by; NULL when there is none.'),
        ('usage_api.v1_sessions', 'requests', 'Number of attempts, whatever became of them.'),
        ('usage_api.v1_sessions', 'failed', 'Of them, those that failed.'),
        ('usage_api.v1_sessions', 'cancelled', 'Of them, those that the client cancelled.'),
        ('usage_api.v1_sessions', 'uncached_input_tokens', 'Input tokens that were neither read from nor written to a cache.'),
        ('usage_api.v1_sessions', 'billed_output_tokens', 'Output tokens including reasoning.'),
        ('usage_api.v1_sessions', 'unclassified_tokens', 'Tokens that are known only as a sum.'),
        ('usage_api.v1_sessions', 'cost_usd', 'Cost in US dollars; NULL when something was used and nothing of it has a price.'),
        ('usage_api.v1_sessions', 'unpriced_requests', 'Number of attempts without a cost.'),
        ('usage_api.v1_sessions', 'estimated_cost_usd', 'The part of cost_usd by prices that are an estimate.'),
        ('usage_api.v1_sync_runs', 'started_at', 'When the pass began.'),
        ('usage_api.v1_sync_runs', 'error', 'Why the pass failed; NULL when it did not.'),
        ('usage_api.v1_timezone', 'timezone', 'Name of an IANA time zone.'),
        ('usage_api.v1_trend', 'bucket', 'When the day or the hour began.')
        ) AS said (relation, name, description)
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L',
                       described.relation::regclass, described.name, described.description);
    END LOOP;
END
$$;

COMMENT ON VIEW usage_api.v1_channels IS 'One row per channel ever seen.';
COMMENT ON VIEW usage_api.v1_client_keys IS 'One row per client key ever seen.';
COMMENT ON VIEW usage_api.v1_daily IS 'Usage per day and combination of dimensions. Days belong to the time zone that v1_freshness names.';
COMMENT ON VIEW usage_api.v1_daily_channels IS 'Usage per day by channel, model and outcome: v1_daily in fewer rows.';
COMMENT ON VIEW usage_api.v1_daily_keys IS 'Usage per day by client key and outcome: v1_daily in fewer rows.';
COMMENT ON VIEW usage_api.v1_dimensions IS 'One row per combination of dimensions that a record ever had. There are few: what is looked for among them is found at once.';
COMMENT ON VIEW usage_api.v1_freshness IS 'One row per upstream: how current its usage is.';
COMMENT ON VIEW usage_api.v1_hourly IS 'Usage per hour and combination of dimensions.';
COMMENT ON VIEW usage_api.v1_hourly_keys IS 'Usage per hour by client key and outcome: v1_hourly in fewer rows.';
COMMENT ON VIEW usage_api.v1_prices IS 'One row per price ever entered, those withdrawn included.';
COMMENT ON VIEW usage_api.v1_record_measures IS 'One row per record, with the dimensions and measures of v1_hourly.';
COMMENT ON VIEW usage_api.v1_records IS 'One row per record.';
COMMENT ON VIEW usage_api.v1_sync_runs IS 'One row per pass.';
COMMENT ON VIEW usage_api.v1_timezone IS 'One row: the time zone of the days in every daily view; UTC until the first pass has settled it.';

-- -- Who may do what -----------------------------------------------------------------------------------------------

-- Three roles to grant to people and programs. A worker that may not create roles runs as a plain owner and does
-- without: nothing else depends on them.
DO $$
DECLARE
    wanted text;
BEGIN
    IF NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        RETURN;
    END IF;
    FOREACH wanted IN ARRAY ARRAY['usage_owner', 'usage_writer', 'usage_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            RAISE DEBUG 'role % is already there', wanted;
        END;
    END LOOP;
END
$$;

-- What each of them may. What the owner's functions do with the owner's rights is not for everybody.
DO $$
BEGIN
    REVOKE ALL ON FUNCTION usage.ensure_record_partition(date), usage.drop_record_partition(date) FROM PUBLIC;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_reader') THEN
        GRANT USAGE ON SCHEMA usage_api, usage_internal TO usage_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA usage_api TO usage_reader;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api, usage_internal TO usage_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA usage_api GRANT SELECT ON TABLES TO usage_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        GRANT USAGE ON SCHEMA usage, usage_api, usage_internal TO usage_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA usage TO usage_writer;
        GRANT SELECT ON ALL TABLES IN SCHEMA usage_api TO usage_writer;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api, usage_internal TO usage_writer;
        REVOKE INSERT, UPDATE, DELETE ON usage.schema_version FROM usage_writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA usage GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO usage_writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA usage_api GRANT SELECT ON TABLES TO usage_writer;
        GRANT EXECUTE ON FUNCTION usage.ensure_record_partition(date), usage.drop_record_partition(date) TO usage_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_owner') THEN
        GRANT USAGE, CREATE ON SCHEMA usage, usage_api, usage_internal TO usage_owner;
    END IF;
END
$$;
