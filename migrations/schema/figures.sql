{% import 'macros.sql' as m with context %}
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
            {{ m.requests_that("outcome <> 'warmup'") }} AS requests,
            {{ m.requests_that("outcome = 'failed'") }} AS failed,
            ({{ m.sum_of_tokens() }})::bigint AS tokens,
            sum(total_tokens)::bigint AS total_tokens,
            {{ m.cost('cost_usd') }} AS cost_usd,
            {{ m.cost('actual_cost_usd') }} AS actual_cost_usd,
            {{ m.cost('estimated_cost_usd') }} AS estimated_cost_usd,
            {{ m.requests_that("outcome = 'cancelled'") }} AS cancelled
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
            {{ m.requests_that("outcome <> 'warmup'") }} AS requests,
            {{ m.requests_that("outcome = 'success'") }} AS succeeded,
            {{ m.requests_that("outcome = 'failed'") }} AS failed,
            {{ m.requests_that("outcome = 'cancelled'") }} AS cancelled,
            {{ m.cost('estimated_cost_usd') }} AS estimated_cost_usd,
            coalesce(sum(uncached_input_tokens), 0)::bigint AS uncached_input_tokens,
            coalesce(sum(billed_output_tokens), 0)::bigint AS billed_output_tokens,
            coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
            coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
            coalesce(sum(unclassified_tokens), 0)::bigint AS unclassified_tokens,
            coalesce({{ m.sum_of_tokens() }}, 0)::bigint AS tokens,
            {{ m.cost('cost_usd') }} AS cost_usd,
            {{ m.cost('actual_cost_usd') }} AS actual_cost_usd,
            {{ m.mean('latency') }} AS mean_latency_ms
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
        {{ m.requests_that("period = 'today' AND outcome <> 'warmup'") }},
        {{ m.requests_that("period = 'last_30_days' AND outcome <> 'warmup'") }},
        {{ m.requests_that("period = 'all' AND outcome <> 'warmup'") }},
        {{ m.cost('actual_cost_usd', "period = 'today'") }},
        {{ m.cost('actual_cost_usd', "period = 'last_30_days'") }},
        {{ m.cost('actual_cost_usd', "period = 'all'") }}
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
{% for measured in ('latency', 'ttft') %}
            coalesce(sum({{ measured }}_samples), 0)::bigint AS {{ measured }}_samples,
            ARRAY[{{ bounds | map('prefixed', measured ~ '_le_') | map('called', 'sum') | listed(18) }}] AS {{ measured }}_within{{ '' if loop.last else ',' }}
{% endfor %}
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
        FROM unnest(within, ARRAY[{{ bounds.values() | join(', ') }}]::bigint[]) AS bounds (counted, bound_ms)
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

