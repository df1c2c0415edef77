-- Private tables live in schema usage; what other tools read lives in schema usage_api.
-- So that the schema can be distributed when one server is too small: unique keys contain the column it would be
-- distributed by, no trigger, no function of the clock in an upsert.

CREATE SCHEMA usage_api;

CREATE TABLE usage.setting (
    key text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE usage.setting IS 'What belongs to the database and not to one worker: the time zone of the days, the pepper of the digests.';

CREATE TABLE usage.upstream (
    upstream_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    newest_record_at timestamptz,
    records_complete_from date,
    resolve_pending boolean NOT NULL DEFAULT false
);
COMMENT ON COLUMN usage.upstream.resolve_pending IS 'Whether the directory learned something since unknown records were last looked at.';
COMMENT ON COLUMN usage.upstream.records_complete_from IS 'The first day whose records are all still here; NULL when none was ever dropped.';

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
    rate_multiplier numeric NOT NULL DEFAULT 1 CHECK (rate_multiplier >= 0),
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

CREATE TABLE usage.credential (
    credential_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
    outcome text NOT NULL CHECK (outcome IN ('success', 'failed', 'warmup')),
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
COMMENT ON COLUMN usage.origin.candidates IS 'The channels between which nothing decides, where it is ambiguous.';
COMMENT ON TABLE usage.origin IS 'What records say of the credential that served them: all that resolving a channel needs.';

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
    possible_loss bigint NOT NULL DEFAULT 0,
    statistics_enabled boolean,
    journal_entries bigint NOT NULL DEFAULT 0,
    journal_bytes bigint NOT NULL DEFAULT 0,
    error text
);
CREATE INDEX sync_run_upstream_started ON usage.sync_run (upstream_id, started_at DESC);

CREATE TABLE usage.batch (
    batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry_id text NOT NULL UNIQUE,
    upstream_id integer NOT NULL REFERENCES usage.upstream,
    run_id bigint REFERENCES usage.sync_run,
    loaded_at timestamptz NOT NULL,
    pulled bigint NOT NULL,
    inserted bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0
);
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
COMMENT ON COLUMN usage.quarantine.payload IS 'The record as it came, every secret in it already replaced by its digest.';

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
    PRIMARY KEY (occurred_at, event_key)  -- in this order: time is local, a hash is not
) PARTITION BY RANGE (occurred_at);

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
    PRIMARY KEY (hour, dimension_id)
) WITH (fillfactor = 70);  -- room on the page, so that adding to a row moves no index entry

CREATE TABLE usage.daily (LIKE usage.hourly INCLUDING DEFAULTS);
ALTER TABLE usage.daily RENAME COLUMN hour TO day;
ALTER TABLE usage.daily ALTER COLUMN day TYPE date USING day::date;
ALTER TABLE usage.daily ADD PRIMARY KEY (day, dimension_id);
ALTER TABLE usage.daily SET (fillfactor = 70);

-- One record as the measures it adds to a rollup. rollup.py sums the same while it loads; verify holds the one
-- against the other.
CREATE VIEW usage.record_measure AS
SELECT
    occurred_at,
    dimension_id,
    1::bigint AS requests,
    input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
    uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens,
    coalesce(cost_usd, 0) AS cost_usd,
    coalesce(actual_cost_usd, 0) AS actual_cost_usd,
    coalesce(cache_read_cost_usd, 0) AS cache_read_cost_usd,
    coalesce(cache_write_cost_usd, 0) AS cache_write_cost_usd,
    (cost_usd IS NULL)::int::bigint AS unpriced_requests,
    coalesce(latency_ms, 0) AS latency_ms_sum,
    (latency_ms IS NOT NULL)::int::bigint AS latency_samples,
    coalesce(ttft_ms, 0) AS ttft_ms_sum,
    (ttft_ms IS NOT NULL)::int::bigint AS ttft_samples,
    (coalesce(latency_ms <= 500, false))::int::bigint AS latency_le_500ms,
    (coalesce(latency_ms <= 1000, false))::int::bigint AS latency_le_1s,
    (coalesce(latency_ms <= 2500, false))::int::bigint AS latency_le_2500ms,
    (coalesce(latency_ms <= 5000, false))::int::bigint AS latency_le_5s,
    (coalesce(latency_ms <= 10000, false))::int::bigint AS latency_le_10s,
    (coalesce(latency_ms <= 30000, false))::int::bigint AS latency_le_30s,
    (coalesce(latency_ms <= 60000, false))::int::bigint AS latency_le_60s,
    (coalesce(latency_ms <= 120000, false))::int::bigint AS latency_le_120s,
    (coalesce(latency_ms <= 300000, false))::int::bigint AS latency_le_300s
FROM usage.record;

-- What the rollups must hold, summed anew from the records: verify compares with it, rebuild puts it there.
CREATE FUNCTION usage.hourly_from_records(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly
LANGUAGE sql STABLE AS $$
    SELECT
        date_trunc('hour', occurred_at, 'UTC'), dimension_id, sum(requests)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint, sum(unclassified_tokens)::bigint,
        sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint, sum(latency_samples)::bigint, sum(ttft_ms_sum)::bigint, sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint, sum(latency_le_1s)::bigint, sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint, sum(latency_le_10s)::bigint, sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint, sum(latency_le_120s)::bigint, sum(latency_le_300s)::bigint
    FROM usage.record_measure
    WHERE occurred_at >= since AND occurred_at < until
    GROUP BY 1, 2
$$;

-- The days come with the instants at which they begin and end, which the caller's time zone data says.
CREATE FUNCTION usage.daily_from_records(days date[], begins timestamptz[], ends timestamptz[]) RETURNS SETOF usage.daily
LANGUAGE sql STABLE AS $$
    SELECT
        bound.day, dimension_id, sum(requests)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint, sum(unclassified_tokens)::bigint,
        sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint, sum(latency_samples)::bigint, sum(ttft_ms_sum)::bigint, sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint, sum(latency_le_1s)::bigint, sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint, sum(latency_le_10s)::bigint, sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint, sum(latency_le_120s)::bigint, sum(latency_le_300s)::bigint
    FROM unnest(days, begins, ends) AS bound (day, begins, ends)
    JOIN usage.record_measure ON occurred_at >= bound.begins AND occurred_at < bound.ends
    GROUP BY 1, 2
$$;

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

CREATE VIEW usage_api.v1_daily AS
SELECT
    r.day,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind, coalesce(k.label, k.mask) AS client_key,
    d.provider, d.endpoint, d.model, d.alias, d.outcome,
    r.requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum, r.latency_samples, r.ttft_ms_sum, r.ttft_samples,
    r.latency_le_500ms, r.latency_le_1s, r.latency_le_2500ms, r.latency_le_5s, r.latency_le_10s,
    r.latency_le_30s, r.latency_le_60s, r.latency_le_120s, r.latency_le_300s
FROM usage.daily AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_hourly AS
SELECT
    r.hour,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind, coalesce(k.label, k.mask) AS client_key,
    d.provider, d.endpoint, d.model, d.alias, d.outcome,
    r.requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum, r.latency_samples, r.ttft_ms_sum, r.ttft_samples,
    r.latency_le_500ms, r.latency_le_1s, r.latency_le_2500ms, r.latency_le_5s, r.latency_le_10s,
    r.latency_le_30s, r.latency_le_60s, r.latency_le_120s, r.latency_le_300s
FROM usage.hourly AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0;

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
    CASE WHEN r.channel_rule = 'ambiguous' THEN o.candidates END AS channel_candidates
FROM usage.record AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.origin AS o USING (origin_id)
JOIN usage.batch AS b USING (batch_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

CREATE VIEW usage_api.v1_channels AS
SELECT u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
       c.name AS configured_name, c.configured, coalesce(l.label, l.name) AS linked_to, c.rate_multiplier,
       c.first_seen_at, c.last_seen_at, c.channel_id
FROM usage.channel AS c
JOIN usage.upstream AS u USING (upstream_id)
LEFT JOIN usage.channel AS l ON l.channel_id = c.linked_to;

CREATE VIEW usage_api.v1_client_keys AS
SELECT u.name AS upstream, coalesce(k.label, k.mask) AS client_key, k.mask, k.first_seen_at, k.last_seen_at,
       k.client_key_id
FROM usage.client_key AS k
JOIN usage.upstream AS u USING (upstream_id);

CREATE VIEW usage_api.v1_sync_runs AS
SELECT s.run_id, u.name AS upstream, s.kind, s.mode, s.started_at, s.finished_at,
       s.pulled, s.inserted, s.duplicates, s.quarantined, s.unknown_channel, s.possible_loss,
       s.statistics_enabled, s.error
FROM usage.sync_run AS s
JOIN usage.upstream AS u USING (upstream_id);

CREATE VIEW usage_api.v1_freshness AS
SELECT
    u.name AS upstream,
    last_pass.finished_at AS last_pass_at,
    last_success.finished_at AS last_success_at,
    u.newest_record_at,
    coalesce(last_pass.journal_entries, 0) AS journal_entries,
    coalesce(last_pass.journal_bytes, 0) AS journal_bytes,
    (SELECT value FROM usage.setting WHERE key = 'timezone') AS timezone,
    u.records_complete_from
FROM usage.upstream AS u
LEFT JOIN LATERAL (
    SELECT finished_at, journal_entries, journal_bytes FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL
    ORDER BY s.started_at DESC LIMIT 1
) AS last_pass ON true
LEFT JOIN LATERAL (
    SELECT finished_at FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL AND s.error IS NULL
    ORDER BY s.started_at DESC LIMIT 1
) AS last_success ON true;
