{% import 'macros.sql' as m with context %}
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
        {{ m.tokens() }},
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
                sum(cache_read_cost_usd) FILTER (WHERE {{ m.used() }}) AS read_cost,
                sum(cache_write_cost_usd) FILTER (WHERE {{ m.used() }}) AS write_cost,
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
        SELECT *, {{ m.used() }} AS used
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

