-- Figures that come from records: what happened to single requests, which no sum tells.
--
-- Each function is one SELECT that PostgreSQL puts in the place of its call, so that a window prunes partitions and
-- a column that is not asked for costs nothing. They run with their caller's rights and read views of usage_api only.

-- Joins that can be left out when nothing of them is asked for: every id has its row, so that the rows are the same.
CREATE OR REPLACE VIEW usage_api.v1_records AS
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
    r.event_key, r.dimension_id, d.channel_id, d.client_key_id, r.origin_id
FROM usage.record AS r
LEFT JOIN usage.dimension AS d USING (dimension_id)
LEFT JOIN usage.channel AS c USING (channel_id)
LEFT JOIN usage.client_key AS k USING (client_key_id)
LEFT JOIN usage.origin AS o USING (origin_id)
LEFT JOIN usage.batch AS b USING (batch_id)
LEFT JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;
COMMENT ON COLUMN usage_api.v1_records.event_key IS 'record_id as bytes; with occurred_at, what the index is on.';
COMMENT ON COLUMN usage_api.v1_records.dimension_id IS 'Number of its combination of dimensions, in v1_dimensions.';
COMMENT ON COLUMN usage_api.v1_records.channel_id IS 'Number of the channel, in v1_channels.';
COMMENT ON COLUMN usage_api.v1_records.client_key_id IS 'Number of the client key, in v1_client_keys.';
COMMENT ON COLUMN usage_api.v1_records.origin_id IS 'Number of the credential as records name it: the same for the same auth_index, source and auth_type.';

CREATE VIEW usage_api.v1_dimensions AS
SELECT
    d.dimension_id,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    coalesce(k.label, k.mask) AS client_key,
    d.provider, d.endpoint, d.model, d.alias, d.outcome,
    d.channel_id, d.client_key_id
FROM usage.dimension AS d
LEFT JOIN usage.channel AS c USING (channel_id)
LEFT JOIN usage.client_key AS k USING (client_key_id)
LEFT JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;
COMMENT ON VIEW usage_api.v1_dimensions IS 'One row per combination of dimensions that a record ever had. There are few: what is looked for among them is found at once.';
COMMENT ON COLUMN usage_api.v1_dimensions.dimension_id IS 'Number of the combination; v1_records names it.';
COMMENT ON COLUMN usage_api.v1_dimensions.upstream IS 'Name of the proxy instance the usage was pulled from.';
COMMENT ON COLUMN usage_api.v1_dimensions.channel IS 'The credential''s name: provider/account for an auth file, the provider''s name or base URL for an API key, or unknown.';
COMMENT ON COLUMN usage_api.v1_dimensions.channel_group IS 'The channel''s group: the provider for an auth file, the channel''s own name for an API key, or unknown.';
COMMENT ON COLUMN usage_api.v1_dimensions.channel_kind IS 'auth (an auth file), apikey (a configured key) or unknown.';
COMMENT ON COLUMN usage_api.v1_dimensions.client_key IS 'Label or mask of the client''s own API key; never the key.';
COMMENT ON COLUMN usage_api.v1_dimensions.provider IS 'The proxy''s provider id, such as codex or openai-compatible-openrouter; empty when the payload had none.';
COMMENT ON COLUMN usage_api.v1_dimensions.endpoint IS 'Method and route that the client called; empty when the payload had none.';
COMMENT ON COLUMN usage_api.v1_dimensions.model IS 'The model that the upstream ran.';
COMMENT ON COLUMN usage_api.v1_dimensions.alias IS 'The model name that the client asked for.';
COMMENT ON COLUMN usage_api.v1_dimensions.outcome IS 'success, failed, or warmup (a call that asked for no generation).';
COMMENT ON COLUMN usage_api.v1_dimensions.channel_id IS 'Number of the channel, in v1_channels.';
COMMENT ON COLUMN usage_api.v1_dimensions.client_key_id IS 'Number of the client key, in v1_client_keys.';

-- -- Records ----------------------------------------------------------------------------------------------------

CREATE FUNCTION usage_api.v1_call_period(period text) RETURNS interval
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    CASE period
        WHEN '1m' THEN RETURN interval '1 minute';
        WHEN '1h' THEN RETURN interval '1 hour';
        WHEN '8h' THEN RETURN interval '8 hours';
        WHEN '24h' THEN RETURN interval '24 hours';
        ELSE RAISE invalid_parameter_value USING MESSAGE = format('there is no period %L: there are 1m, 1h, 8h and 24h', period);
    END CASE;
END
$$;
COMMENT ON FUNCTION usage_api.v1_call_period(text) IS 'How long a period of v1_call_details is.';

CREATE FUNCTION usage_api.v1_call_details(
    period text, at timestamptz DEFAULT now(), of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL
) RETURNS SETOF usage_api.v1_records
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT r.*
    FROM usage_api.v1_records AS r
    WHERE r.occurred_at >= at - usage_api.v1_call_period(period) AND r.occurred_at < at
      AND (of_upstream IS NULL OR r.upstream = of_upstream)
      AND (of_channel IS NULL OR r.channel = of_channel)
    ORDER BY r.occurred_at DESC, r.event_key DESC
$$;
COMMENT ON FUNCTION usage_api.v1_call_details(text, timestamptz, text, text) IS 'The records of the last minute (1m), hour (1h), 8 hours (8h) or 24 hours (24h) before an instant, newest first.';

-- The words of a search as patterns: at most ten, of at most 100 characters, none of which means anything but itself.
CREATE FUNCTION usage_api.v1_search_patterns(search text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        array_agg('%' || regexp_replace(left(word, 100), '([\\%_])', '\\\1', 'g') || '%' ORDER BY place), '{}')
    FROM regexp_split_to_table(search, '\s+') WITH ORDINALITY AS words (word, place)
    WHERE word <> '' AND place <= 10 + (search ~ '^\s')::int
$$;
COMMENT ON FUNCTION usage_api.v1_search_patterns(text) IS 'The words of a search as patterns for ILIKE: the first ten, each cut to 100 characters.';

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
              ILIKE ALL (usage_api.v1_search_patterns(search))
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
COMMENT ON COLUMN usage_api.v1_count_records.records IS 'Number of records, exactly.';

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
          ILIKE ALL (usage_api.v1_search_patterns(search))
$$;
COMMENT ON FUNCTION usage_api.v1_count_records(text, timestamptz, timestamptz, text, text, text, text, text) IS 'How many records v1_find_records finds on all its pages; those that have been dropped are counted as well.';

-- -- Attempts and logical requests ------------------------------------------------------------------------------

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
    origin_id integer
);
COMMENT ON TYPE usage_api.v1_attempts IS 'One row per attempt, in the logical request that it belongs to.';
COMMENT ON COLUMN usage_api.v1_attempts.upstream IS 'Name of the proxy instance the usage was pulled from.';
COMMENT ON COLUMN usage_api.v1_attempts.client_key IS 'Label or mask of the client''s own API key; never the key.';
COMMENT ON COLUMN usage_api.v1_attempts.request_id IS 'The proxy''s request id; an empty one joins nothing.';
COMMENT ON COLUMN usage_api.v1_attempts.started_at IS 'When the first attempt of its logical request began.';
COMMENT ON COLUMN usage_api.v1_attempts.attempt IS 'Its place in the logical request, from 1; the same for what began at the same instant.';
COMMENT ON COLUMN usage_api.v1_attempts.attempts IS 'How many attempts the logical request took; what began at the same instant counts once.';
COMMENT ON COLUMN usage_api.v1_attempts.begins IS 'Whether it is the first record of the logical request.';
COMMENT ON COLUMN usage_api.v1_attempts.ends IS 'Whether it is the last record of the logical request: its outcome is that of the request.';
COMMENT ON COLUMN usage_api.v1_attempts.occurred_at IS 'When the attempt began.';
COMMENT ON COLUMN usage_api.v1_attempts.completed_at IS 'When it ended; NULL when the latency was not measured.';
COMMENT ON COLUMN usage_api.v1_attempts.record_id IS 'The record''s identity.';
COMMENT ON COLUMN usage_api.v1_attempts.channel IS 'The channel that it went over.';
COMMENT ON COLUMN usage_api.v1_attempts.model IS 'The model that the upstream ran.';
COMMENT ON COLUMN usage_api.v1_attempts.alias IS 'The model name that the client asked for.';
COMMENT ON COLUMN usage_api.v1_attempts.outcome IS 'success or failed.';
COMMENT ON COLUMN usage_api.v1_attempts.status_code IS 'HTTP status of the upstream; NULL when the payload had none.';
COMMENT ON COLUMN usage_api.v1_attempts.error IS 'Class of the error of a failed attempt; NULL for the others.';
COMMENT ON COLUMN usage_api.v1_attempts.latency_ms IS 'Milliseconds from its begin to its end; NULL when not measured.';
COMMENT ON COLUMN usage_api.v1_attempts.tokens IS 'Sum of the five token counts that exclude one another.';
COMMENT ON COLUMN usage_api.v1_attempts.total_tokens IS 'Total tokens as reported.';
COMMENT ON COLUMN usage_api.v1_attempts.cost_usd IS 'Cost in US dollars; NULL without a price.';
COMMENT ON COLUMN usage_api.v1_attempts.actual_cost_usd IS 'Cost times the channel''s rate multiplier, in US dollars; NULL without a price.';
COMMENT ON COLUMN usage_api.v1_attempts.counts IS '1, or 0 where it began at the same instant as the one before it in the logical request.';
COMMENT ON COLUMN usage_api.v1_attempts.request_number IS 'Number of the logical request among those of the same client key and request id in the window.';
COMMENT ON COLUMN usage_api.v1_attempts.client_key_id IS 'Number of the client key, in v1_client_keys.';
COMMENT ON COLUMN usage_api.v1_attempts.dimension_id IS 'Number of its combination of dimensions, in v1_dimensions.';
COMMENT ON COLUMN usage_api.v1_attempts.origin_id IS 'Number of the credential, as in v1_records.';

CREATE TYPE usage_api.v1_attempts_around AS (
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
    event_key bytea
);
COMMENT ON TYPE usage_api.v1_attempts_around IS 'A row of the function of this name.';
COMMENT ON COLUMN usage_api.v1_attempts_around.event_key IS 'record_id as bytes.';
-- The others mean what they mean in v1_attempts.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT t.attname, col_description(known.attrelid, known.attnum) AS meaning
        FROM pg_attribute AS t
        JOIN pg_attribute AS known ON known.attrelid = 'usage_api.v1_attempts'::regclass AND known.attname = t.attname
        WHERE t.attrelid = 'usage_api.v1_attempts_around'::regclass AND t.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.v1_attempts_around.%I IS %L', described.attname, described.meaning);
    END LOOP;
END
$$;

-- A request id has 32 random bits, and all turns of a web socket share one. So an attempt belongs to the one before it
-- with its client key and request id only if that failed and ended gap_s before at most, or began at the same instant.
-- The request id is sorted by first, and by its bytes: that is the fastest way to sort.
CREATE FUNCTION usage_api.v1_attempts_around(
    since timestamptz, until timestamptz, gap_s integer DEFAULT 90, margin interval DEFAULT '1 hour',
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL, of_request_id text DEFAULT NULL
) RETURNS SETOF usage_api.v1_attempts_around
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
        client_key_id, dimension_id, origin_id, event_key
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
COMMENT ON FUNCTION usage_api.v1_attempts_around(timestamptz, timestamptz, integer, interval, text, text, text) IS 'All that v1_attempts reads, the margins as well: where logical requests begin and end, found in one pass.';

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
        counts, request_number, client_key_id, dimension_id, origin_id
    FROM (
        SELECT
            a.*,
            sum(a.begins::integer) OVER request AS request_number,
            max(a.occurred_at) FILTER (WHERE a.begins) OVER request AS started_at
        FROM usage_api.v1_attempts_around(since, until, gap_s, margin, of_upstream, of_client_key, of_request_id) AS a
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
    client_key_id integer
);
COMMENT ON TYPE usage_api.v1_logical_requests IS 'One row per logical request: an attempt, and what the proxy tried again after it failed.';
COMMENT ON COLUMN usage_api.v1_logical_requests.upstream IS 'Name of the proxy instance the usage was pulled from.';
COMMENT ON COLUMN usage_api.v1_logical_requests.client_key IS 'Label or mask of the client''s own API key; never the key.';
COMMENT ON COLUMN usage_api.v1_logical_requests.request_id IS 'The proxy''s request id: not unique; empty when the payload had none.';
COMMENT ON COLUMN usage_api.v1_logical_requests.started_at IS 'When the first attempt began.';
COMMENT ON COLUMN usage_api.v1_logical_requests.ended_at IS 'When the last attempt ended; of one whose latency was not measured, its begin.';
COMMENT ON COLUMN usage_api.v1_logical_requests.attempts IS 'How many attempts it took; what began at the same instant counts once.';
COMMENT ON COLUMN usage_api.v1_logical_requests.failed_attempts IS 'How many of its records failed.';
COMMENT ON COLUMN usage_api.v1_logical_requests.has_fallback IS 'Whether it took more than one attempt.';
COMMENT ON COLUMN usage_api.v1_logical_requests.switched IS 'Whether it went over more than one credential.';
COMMENT ON COLUMN usage_api.v1_logical_requests.first_channel IS 'The channel of the first attempt.';
COMMENT ON COLUMN usage_api.v1_logical_requests.final_channel IS 'The channel of the last attempt.';
COMMENT ON COLUMN usage_api.v1_logical_requests.model IS 'The model of the last attempt.';
COMMENT ON COLUMN usage_api.v1_logical_requests.alias IS 'The model name that the client asked for, of the last attempt.';
COMMENT ON COLUMN usage_api.v1_logical_requests.final_outcome IS 'success or failed, as the last attempt ended.';
COMMENT ON COLUMN usage_api.v1_logical_requests.tokens IS 'Sum of the five token counts that exclude one another, over all attempts.';
COMMENT ON COLUMN usage_api.v1_logical_requests.total_tokens IS 'Total tokens as reported, over all attempts.';
COMMENT ON COLUMN usage_api.v1_logical_requests.cost_usd IS 'Cost of the attempts that have a price, in US dollars; NULL when none has one.';
COMMENT ON COLUMN usage_api.v1_logical_requests.actual_cost_usd IS 'Cost times the channels'' rate multipliers, in US dollars; NULL when no attempt has a price.';
COMMENT ON COLUMN usage_api.v1_logical_requests.unpriced_records IS 'Records without a price: they are not in the costs.';
COMMENT ON COLUMN usage_api.v1_logical_requests.client_key_id IS 'Number of the client key, in v1_client_keys.';

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
        q.tokens, q.total_tokens, q.cost_usd, q.actual_cost_usd, q.unpriced_records, q.client_key_id
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
            sum(cost_usd) AS cost_usd,
            sum(actual_cost_usd) AS actual_cost_usd,
            count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_records
        FROM (SELECT usage_api.v1_records_from(since, until) AS since, usage_api.v1_records_until(since, until) AS until
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
COMMENT ON COLUMN usage_api.v1_request_outcomes.request_id IS 'The proxy''s request id: not unique; empty when the payload had none.';
COMMENT ON COLUMN usage_api.v1_request_outcomes.started_at IS 'When the first attempt began.';
COMMENT ON COLUMN usage_api.v1_request_outcomes.attempts IS 'How many attempts it took; what began at the same instant counts once.';
COMMENT ON COLUMN usage_api.v1_request_outcomes.switched IS 'Whether it went over more than one credential.';
COMMENT ON COLUMN usage_api.v1_request_outcomes.outcome IS 'success or failed, as the last attempt ended.';
COMMENT ON COLUMN usage_api.v1_request_outcomes.client_key_id IS 'Number of the client key, in v1_client_keys.';
COMMENT ON COLUMN usage_api.v1_request_outcomes.dimension_id IS 'Number of the last attempt''s combination of dimensions, in v1_dimensions.';

-- Most requests are one attempt, and need no grouping.
CREATE FUNCTION usage_api.v1_request_outcomes(
    since timestamptz, until timestamptz, gap_s integer DEFAULT 90, margin interval DEFAULT '1 hour',
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_request_outcomes
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH attempt AS MATERIALIZED (
        SELECT request_id, occurred_at, event_key, outcome, begins, ends, counts, client_key_id, dimension_id, origin_id
        FROM usage_api.v1_attempts_around(
            usage_api.v1_records_from(since, until), usage_api.v1_records_until(since, until), gap_s, margin,
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
    fallback_rate numeric
);
COMMENT ON TYPE usage_api.v1_fallbacks IS 'One row: what became of the logical requests of a window.';
COMMENT ON COLUMN usage_api.v1_fallbacks.logical_requests IS 'Number of logical requests.';
COMMENT ON COLUMN usage_api.v1_fallbacks.attempts IS 'Attempts that they took.';
COMMENT ON COLUMN usage_api.v1_fallbacks.with_fallback IS 'Those that took more than one attempt.';
COMMENT ON COLUMN usage_api.v1_fallbacks.switched IS 'Those that went over more than one credential.';
COMMENT ON COLUMN usage_api.v1_fallbacks.rescued IS 'Those that failed at first and succeeded at last.';
COMMENT ON COLUMN usage_api.v1_fallbacks.final_succeeded IS 'Those whose last attempt succeeded.';
COMMENT ON COLUMN usage_api.v1_fallbacks.final_failed IS 'Those whose last attempt failed.';
COMMENT ON COLUMN usage_api.v1_fallbacks.success_rate IS 'final_succeeded of logical_requests, in percent; NULL when there were none.';
COMMENT ON COLUMN usage_api.v1_fallbacks.fallback_rate IS 'with_fallback of logical_requests, in percent; NULL when there were none.';

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
        round(100.0 * count(*) FILTER (WHERE outcome = 'success') / nullif(count(*), 0), 2),
        round(100.0 * count(*) FILTER (WHERE attempts > 1) / nullif(count(*), 0), 2)
    FROM usage_api.v1_request_outcomes(since, until, gap_s, margin, of_upstream, of_client_key)
$$;
COMMENT ON FUNCTION usage_api.v1_fallbacks(timestamptz, timestamptz, integer, interval, text, text) IS 'How many logical requests of a window took more than one attempt, and what became of them.';

-- -- One record -------------------------------------------------------------------------------------------------

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
    attempts bigint
);
COMMENT ON TYPE usage_api.v1_record IS 'A record with the prices that it was charged by, and its place in its logical request.';
COMMENT ON COLUMN usage_api.v1_record.rate_multiplier IS 'What the request really cost, as a multiple of its cost; NULL when it cost nothing or has no price.';
COMMENT ON COLUMN usage_api.v1_record.attempt IS 'Its place in its logical request, from 1; NULL for a warm-up, and where that began more than six hours before.';
COMMENT ON COLUMN usage_api.v1_record.attempts IS 'How many attempts its logical request took; NULL where attempt is.';
-- The others mean what they mean in the views that they come from.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT t.attname, coalesce(col_description(r.attrelid, r.attnum), col_description(p.attrelid, p.attnum)) AS meaning
        FROM pg_attribute AS t
        LEFT JOIN pg_attribute AS r ON r.attrelid = 'usage_api.v1_records'::regclass AND r.attname = t.attname
        LEFT JOIN pg_attribute AS p ON p.attrelid = 'usage_api.v1_prices'::regclass AND p.attname = t.attname
        WHERE t.attrelid = 'usage_api.v1_record'::regclass AND col_description(t.attrelid, t.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.v1_record.%I IS %L', described.attname, described.meaning);
    END LOOP;
END
$$;

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
        a.attempt, a.attempts
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

-- -- Gaps between requests, and the cache -----------------------------------------------------------------------

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
COMMENT ON COLUMN usage_api.v1_request_gaps.occurred_at IS 'When the request began.';
COMMENT ON COLUMN usage_api.v1_request_gaps.upstream IS 'Name of the proxy instance the usage was pulled from.';
COMMENT ON COLUMN usage_api.v1_request_gaps.client_key IS 'Label or mask of the client''s own API key; never the key.';
COMMENT ON COLUMN usage_api.v1_request_gaps.model IS 'The model that the upstream ran.';
COMMENT ON COLUMN usage_api.v1_request_gaps.gap_minutes IS 'Minutes since the client key''s successful request before it began.';
COMMENT ON COLUMN usage_api.v1_request_gaps.gap IS 'The same as an interval.';
COMMENT ON COLUMN usage_api.v1_request_gaps.client_key_id IS 'Number of the client key, in v1_client_keys.';

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
COMMENT ON COLUMN usage_api.v1_interval_timeline.occurred_at IS 'When the request began.';
COMMENT ON COLUMN usage_api.v1_interval_timeline.upstream IS 'Name of the proxy instance the usage was pulled from.';
COMMENT ON COLUMN usage_api.v1_interval_timeline.client_key IS 'Label or mask of the client''s own API key; never the key.';
COMMENT ON COLUMN usage_api.v1_interval_timeline.model IS 'The model that the upstream ran.';
COMMENT ON COLUMN usage_api.v1_interval_timeline.gap_minutes IS 'Minutes since the client key''s successful request before it began, with two decimals.';

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
COMMENT ON COLUMN usage_api.v1_cache_ttl.upstream IS 'Name of the proxy instance the usage was pulled from.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.client_key IS 'Label or mask of the client''s own API key; never the key.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.request_count IS 'Number of gaps between its successful requests.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_5_min IS 'Gaps of 5 minutes at most.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_15_min IS 'Gaps of more than 5 and at most 15 minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_30_min IS 'Gaps of more than 15 and at most 30 minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_60_min IS 'Gaps of more than 30 and at most 60 minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.over_60_min IS 'Gaps of more than 60 minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_5_min_percent IS 'within_5_min of all gaps, in percent.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_15_min_percent IS 'within_15_min of all gaps, in percent.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_30_min_percent IS 'within_30_min of all gaps, in percent.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.within_60_min_percent IS 'within_60_min of all gaps, in percent.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.over_60_min_percent IS 'over_60_min of all gaps, in percent.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.p50_minutes IS 'Half of the gaps are no longer, in minutes; between two gaps, in proportion.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.p75_minutes IS '75 % of the gaps are no longer, in minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.p90_minutes IS '90 % of the gaps are no longer, in minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.avg_minutes IS 'Mean gap in minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.min_minutes IS 'Shortest gap in minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.max_minutes IS 'Longest gap in minutes.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.recommended_ttl_minutes IS '5, 15, 30 or 60: see reason.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.reason IS 'Which percentile the recommendation comes from.';
COMMENT ON COLUMN usage_api.v1_cache_ttl.client_key_id IS 'Number of the client key, in v1_client_keys.';

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
COMMENT ON COLUMN usage_api.v1_cache_hits.total_requests IS 'Number of successful requests.';
COMMENT ON COLUMN usage_api.v1_cache_hits.requests_with_cache_hit IS 'Those of which tokens were read from a cache.';
COMMENT ON COLUMN usage_api.v1_cache_hits.request_cache_hit_rate IS 'requests_with_cache_hit of total_requests, in percent; NULL when there were none.';
COMMENT ON COLUMN usage_api.v1_cache_hits.uncached_input_tokens IS 'Input tokens neither read from nor written to a cache.';
COMMENT ON COLUMN usage_api.v1_cache_hits.cache_read_tokens IS 'Input tokens read from a cache.';
COMMENT ON COLUMN usage_api.v1_cache_hits.cache_write_tokens IS 'Input tokens written to a cache.';
COMMENT ON COLUMN usage_api.v1_cache_hits.token_cache_hit_rate IS 'cache_read_tokens of all three, in percent; NULL when there were none.';
COMMENT ON COLUMN usage_api.v1_cache_hits.cache_read_cost_usd IS 'Cost of the cache reads in US dollars; NULL when no request has a price.';
COMMENT ON COLUMN usage_api.v1_cache_hits.cache_write_cost_usd IS 'Cost of the cache writes in US dollars; NULL when no request has a price.';
COMMENT ON COLUMN usage_api.v1_cache_hits.unpriced_requests IS 'Requests without a price: they are not in the costs.';
COMMENT ON COLUMN usage_api.v1_cache_hits.savings_usd IS 'What the tokens read from caches would have cost more as uncached input, each at the price its request was charged by; NULL when that is known of no hit.';
COMMENT ON COLUMN usage_api.v1_cache_hits.savings_unknown_requests IS 'Requests with a hit that are not in savings_usd: they have no price, or one without a price for input or cache reads.';
COMMENT ON COLUMN usage_api.v1_cache_hits.aether_savings_usd IS 'Nine times cache_read_cost_usd: the savings if reading from a cache cost a tenth, as Aether estimates them.';

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
        sum(read_cost), sum(write_cost), coalesce(sum(unpriced), 0)::bigint,
        sum(read * saved_usd_per_mtok * 0.000001) FILTER (WHERE hits > 0),
        coalesce(sum(hits) FILTER (WHERE saved_usd_per_mtok IS NULL), 0)::bigint,
        9 * sum(read_cost)
    FROM (
        SELECT s.*, p.input_usd_per_mtok - p.cache_read_usd_per_mtok AS saved_usd_per_mtok
        FROM (
            SELECT
                price_id,
                count(*) AS requests, count(*) FILTER (WHERE cache_read_tokens > 0) AS hits,
                sum(uncached_input_tokens) AS uncached, sum(cache_read_tokens) AS read,
                sum(cache_write_tokens) AS written,
                sum(cache_read_cost_usd) AS read_cost, sum(cache_write_cost_usd) AS write_cost,
                count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced
            FROM usage_api.v1_records
            WHERE occurred_at >= usage_api.v1_records_from(since, until)
              AND occurred_at < usage_api.v1_records_until(since, until)
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

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['usage_reader', 'usage_writer'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('GRANT SELECT ON usage_api.v1_dimensions TO %I', role);
            EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api TO %I', role);
        END IF;
    END LOOP;
END
$$;
