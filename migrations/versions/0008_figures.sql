-- The figures that readers expect, from the rollups: one function for each, over any window [since, until) of instants
-- (NULL: without that end). Requests are attempts at an upstream and no warm-ups; tokens and costs are of all that was
-- consumed. Each function reads nothing but usage_api and is one plain SELECT, so that the planner puts it into the
-- query that calls it and computes no column but those that are asked for.

-- A value that stands for one of a few known words: anything else is refused by name, instead of finding nothing.
CREATE FUNCTION usage_api.v1_one_of(given text, what text, known text[]) RETURNS text
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
COMMENT ON FUNCTION usage_api.v1_one_of(text, text, text[]) IS 'The given word, or an error that names the known ones when it is none of them.';

-- -- periods ------------------------------------------------------------------------------------------------------

CREATE TYPE usage_api.v1_period AS (since timestamptz, until timestamptz);
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
    FROM usage_api.v1_one_of(v1_period.name, 'period', ARRAY[
             'today', 'yesterday', 'this_week', 'this_month', 'last_month',
             'last_hour', 'last_24_hours', 'last_7_days', 'last_30_days', 'rolling_month', 'all']) AS chosen (name),
         (SELECT coalesce(v1_period.zone, usage_api.v1_zone()) AS zone) AS decided,
         LATERAL (SELECT decided.zone, (v1_period.at AT TIME ZONE decided.zone)::date AS day) AS place
$$;

-- -- totals of anything by anything -----------------------------------------------------------------------------

CREATE TYPE usage_api.v1_totals AS (
    upstream text, channel text, channel_group text, channel_kind text, client_key text, provider text, endpoint text,
    model text, alias text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
              / nullif(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS success_rate,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS error_rate,
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
        coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens)
                 + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
        round(100 * sum(cache_read_tokens)
              / nullif(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens), 0), 2)
            AS cache_hit_rate,
        coalesce(sum(cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cost_usd,
        coalesce(sum(actual_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS actual_cost_usd,
        coalesce(sum(cache_read_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cache_read_cost_usd,
        coalesce(sum(cache_write_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cache_write_cost_usd,
        coalesce(sum(unpriced_requests), 0)::bigint AS unpriced_requests,
        round(sum(latency_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(latency_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_latency_ms,
        round(sum(ttft_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(ttft_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_ttft_ms
    FROM (
        SELECT upstream, channel, channel_group, channel_kind, NULL::text AS client_key, NULL::text AS provider,
               NULL::text AS endpoint, model, NULL::text AS alias,
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples
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
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples
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
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd,
               unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples
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
               'success', 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
               0::bigint, 0::bigint, 0::bigint, NULL::numeric, NULL::numeric, NULL::numeric, NULL::numeric, 0::bigint,
               0::bigint, 0::bigint, 0::bigint, 0::bigint
        WHERE NOT (by_upstream IS TRUE OR by_channel IS TRUE OR by_channel_group IS TRUE OR by_client_key IS TRUE
                   OR by_provider IS TRUE OR by_endpoint IS TRUE OR by_model IS TRUE OR by_alias IS TRUE)
    ) AS used
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
$$;

-- -- the usual groupings of them ----------------------------------------------------------------------------------

CREATE TYPE usage_api.v1_summary AS (
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_summary.since, v1_summary.until,
        of_upstream => v1_summary.of_upstream, of_channel => v1_summary.of_channel,
        of_client_key => v1_summary.of_client_key, of_model => v1_summary.of_model,
        of_outcome => v1_summary.of_outcome
    )
$$;

CREATE TYPE usage_api.v1_by_model AS (
    model text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_by_model.since, v1_by_model.until,
        by_model => true, of_upstream => v1_by_model.of_upstream, of_channel => v1_by_model.of_channel,
        of_client_key => v1_by_model.of_client_key, of_outcome => v1_by_model.of_outcome
    )
    ORDER BY requests DESC, model
$$;

CREATE TYPE usage_api.v1_by_alias AS (
    alias text, model text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_by_alias.since, v1_by_alias.until,
        by_alias => true, by_model => true, of_upstream => v1_by_alias.of_upstream,
        of_client_key => v1_by_alias.of_client_key, of_channel => v1_by_alias.of_channel,
        of_outcome => v1_by_alias.of_outcome
    )
    ORDER BY requests DESC, alias, model
$$;

CREATE TYPE usage_api.v1_by_client_key AS (
    upstream text, client_key text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_by_client_key.since, v1_by_client_key.until,
        by_upstream => true, by_client_key => true, of_upstream => v1_by_client_key.of_upstream,
        of_channel => v1_by_client_key.of_channel, of_model => v1_by_client_key.of_model,
        of_outcome => v1_by_client_key.of_outcome
    )
    ORDER BY requests DESC, upstream, client_key
$$;

CREATE TYPE usage_api.v1_by_channel AS (
    upstream text, channel text, channel_group text, channel_kind text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_by_channel.since, v1_by_channel.until,
        by_upstream => true, by_channel => true, by_channel_group => true, of_upstream => v1_by_channel.of_upstream,
        of_model => v1_by_channel.of_model, of_client_key => v1_by_channel.of_client_key,
        of_outcome => v1_by_channel.of_outcome
    )
    ORDER BY requests DESC, upstream, channel, channel_group, channel_kind
$$;

CREATE TYPE usage_api.v1_by_channel_and_model AS (
    upstream text, channel text, channel_group text, channel_kind text, model text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_by_channel_and_model.since, v1_by_channel_and_model.until,
        by_upstream => true, by_channel => true, by_channel_group => true, by_model => true,
        of_upstream => v1_by_channel_and_model.of_upstream, of_channel => v1_by_channel_and_model.of_channel,
        of_client_key => v1_by_channel_and_model.of_client_key, of_model => v1_by_channel_and_model.of_model,
        of_outcome => v1_by_channel_and_model.of_outcome
    )
    ORDER BY requests DESC, upstream, channel, channel_group, channel_kind, model
$$;

CREATE TYPE usage_api.v1_by_channel_group AS (
    channel_group text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_by_channel_group.since, v1_by_channel_group.until,
        by_channel_group => true, of_upstream => v1_by_channel_group.of_upstream,
        of_client_key => v1_by_channel_group.of_client_key, of_model => v1_by_channel_group.of_model,
        of_outcome => v1_by_channel_group.of_outcome
    )
    ORDER BY requests DESC, channel_group
$$;

CREATE TYPE usage_api.v1_by_endpoint AS (
    provider text, endpoint text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
        actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_by_endpoint.since, v1_by_endpoint.until,
        by_provider => true, by_endpoint => true, of_upstream => v1_by_endpoint.of_upstream,
        of_channel => v1_by_endpoint.of_channel, of_client_key => v1_by_endpoint.of_client_key,
        of_model => v1_by_endpoint.of_model, of_outcome => v1_by_endpoint.of_outcome
    )
    ORDER BY requests DESC, provider, endpoint
$$;

CREATE TYPE usage_api.v1_client_key_models AS (
    client_key text, model text, alias text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

CREATE FUNCTION usage_api.v1_client_key_models(
    since timestamptz, until timestamptz,
    of_client_key text DEFAULT NULL, of_upstream text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_client_key_models
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        client_key, model, alias, requests, succeeded, failed, warmups, success_rate, error_rate, input_tokens,
        output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens,
        cache_write_tokens, billed_output_tokens, unclassified_tokens, tokens, cache_hit_rate, cost_usd,
        actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, mean_latency_ms, mean_ttft_ms
    FROM usage_api.v1_totals(
        v1_client_key_models.since, v1_client_key_models.until,
        by_client_key => true, by_model => true, by_alias => true,
        of_client_key => v1_client_key_models.of_client_key, of_upstream => v1_client_key_models.of_upstream,
        of_outcome => v1_client_key_models.of_outcome
    )
    ORDER BY client_key, requests DESC, model, alias
$$;

-- -- statistics of channels: several groupings of one scan --------------------------------------------------------

CREATE TYPE usage_api.v1_channel_statistics AS (
    level text, channel_group text, channel text, model text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
              / nullif(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS success_rate,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS error_rate,
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
        coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens)
                 + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
        round(100 * sum(cache_read_tokens)
              / nullif(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens), 0), 2)
            AS cache_hit_rate,
        coalesce(sum(cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cost_usd,
        coalesce(sum(actual_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS actual_cost_usd,
        coalesce(sum(cache_read_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cache_read_cost_usd,
        coalesce(sum(cache_write_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cache_write_cost_usd,
        coalesce(sum(unpriced_requests), 0)::bigint AS unpriced_requests,
        round(sum(latency_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(latency_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_latency_ms,
        round(sum(ttft_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(ttft_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_ttft_ms
    FROM usage_api.v1_channel_usage(v1_channel_statistics.since, v1_channel_statistics.until)
    WHERE (v1_channel_statistics.of_upstream IS NULL OR upstream = v1_channel_statistics.of_upstream)
      AND (v1_channel_statistics.of_outcome IS NULL OR outcome = v1_channel_statistics.of_outcome)
    GROUP BY GROUPING SETS ((), (channel_group), (channel_group, channel), (model))
    ORDER BY grouping(channel_group, channel, model) = 6, grouping(channel_group, channel, model) DESC,
             requests DESC, channel_group, channel, model
$$;

-- -- series -------------------------------------------------------------------------------------------------------

CREATE TYPE usage_api.v1_trend AS (
    bucket timestamptz, label text,
    requests bigint, succeeded bigint, failed bigint, warmups bigint, success_rate numeric, error_rate numeric,
    input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cached_tokens bigint, total_tokens bigint,
    uncached_input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, billed_output_tokens bigint,
    unclassified_tokens bigint, tokens bigint, cache_hit_rate numeric, cost_usd numeric, actual_cost_usd numeric,
    cache_read_cost_usd numeric, cache_write_cost_usd numeric, unpriced_requests bigint, mean_latency_ms numeric,
    mean_ttft_ms numeric
);

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
                CASE usage_api.v1_one_of(v1_trend.grain, 'grain', ARRAY['day', 'hour'])
                    WHEN 'day' THEN 'YYYY-MM-DD' ELSE 'YYYY-MM-DD HH24:MI'
                END),
        coalesce(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0)::bigint AS requests,
        coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)::bigint AS succeeded,
        coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed,
        coalesce(sum(requests) FILTER (WHERE outcome = 'warmup'), 0)::bigint AS warmups,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS success_rate,
        round(100 * coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS error_rate,
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
        coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens)
                 + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
        round(100 * sum(cache_read_tokens)
              / nullif(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens), 0), 2)
            AS cache_hit_rate,
        coalesce(sum(cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cost_usd,
        coalesce(sum(actual_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS actual_cost_usd,
        coalesce(sum(cache_read_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cache_read_cost_usd,
        coalesce(sum(cache_write_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cache_write_cost_usd,
        coalesce(sum(unpriced_requests), 0)::bigint AS unpriced_requests,
        round(sum(latency_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(latency_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_latency_ms,
        round(sum(ttft_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum(ttft_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2) AS mean_ttft_ms
    FROM (
        SELECT bucket,
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
               cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples,
               ttft_ms_sum, ttft_samples
        FROM usage_api.v1_key_series(v1_trend.since, v1_trend.until, v1_trend.grain, v1_trend.zone)
        WHERE of_channel IS NULL AND of_model IS NULL
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_client_key IS NULL OR client_key = v1_trend.of_client_key)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- of a channel or a model: whole days of the rollup time zone
        SELECT usage_api.v1_day_begin(day, usage_api.v1_zone()),
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
               cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples,
               ttft_ms_sum, ttft_samples
        FROM usage_api.v1_daily_channels
        WHERE (of_channel IS NOT NULL OR of_model IS NOT NULL) AND of_client_key IS NULL
          AND day >= usage_api.v1_edge_day(v1_trend.since, v1_trend.until, 3, v1_trend.grain, v1_trend.zone)
          AND day < usage_api.v1_edge_day(v1_trend.since, v1_trend.until, 4, v1_trend.grain, v1_trend.zone)
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- what lies before whole days: of another grain or zone, everything
        SELECT bucket,
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
               cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples,
               ttft_ms_sum, ttft_samples
        FROM usage_api.v1_series(
            v1_trend.since, usage_api.v1_edge(v1_trend.since, v1_trend.until, 3, v1_trend.grain, v1_trend.zone),
            v1_trend.grain, v1_trend.zone
        )
        WHERE (of_channel IS NOT NULL OR of_model IS NOT NULL) AND of_client_key IS NULL
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- and after them
        SELECT bucket,
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
               cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples,
               ttft_ms_sum, ttft_samples
        FROM usage_api.v1_series(
            usage_api.v1_edge(v1_trend.since, v1_trend.until, 4, v1_trend.grain, v1_trend.zone), v1_trend.until,
            v1_trend.grain, v1_trend.zone
        )
        WHERE (of_channel IS NOT NULL OR of_model IS NOT NULL) AND of_client_key IS NULL
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- no rollup but the finest knows a client key's usage of a channel or a model
        SELECT bucket,
               outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
               uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
               unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
               cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples,
               ttft_ms_sum, ttft_samples
        FROM usage_api.v1_series(v1_trend.since, v1_trend.until, v1_trend.grain, v1_trend.zone)
        WHERE (of_client_key IS NOT NULL AND (of_channel IS NOT NULL OR of_model IS NOT NULL))
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_channel IS NULL OR channel = v1_trend.of_channel)
          AND (v1_trend.of_client_key IS NULL OR client_key = v1_trend.of_client_key)
          AND (v1_trend.of_model IS NULL OR model = v1_trend.of_model)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- nothing, in every bucket: one without requests has a row, too
        SELECT bucket,
               'success', 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
               0::bigint, 0::bigint, 0::bigint, NULL::numeric, NULL::numeric, NULL::numeric,
               NULL::numeric, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint
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

CREATE TYPE usage_api.v1_heatmap AS (
    day date, requests bigint, failed bigint, tokens bigint, total_tokens bigint, cost_usd numeric,
    actual_cost_usd numeric, max_requests bigint
);
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
        coalesce(max(used.requests) OVER (), 0)
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
            (sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens)
             + sum(billed_output_tokens) + sum(unclassified_tokens))::bigint AS tokens,
            sum(total_tokens)::bigint AS total_tokens,
            sum(cost_usd) AS cost_usd, sum(actual_cost_usd) AS actual_cost_usd
        FROM usage_api.v1_daily_keys
        WHERE day > coalesce(v1_heatmap.last_day, (now() AT TIME ZONE usage_api.v1_zone())::date) - v1_heatmap.days
          AND day <= coalesce(v1_heatmap.last_day, (now() AT TIME ZONE usage_api.v1_zone())::date)
          AND (v1_heatmap.of_upstream IS NULL OR upstream = v1_heatmap.of_upstream)
          AND (v1_heatmap.of_client_key IS NULL OR client_key = v1_heatmap.of_client_key)
        GROUP BY day
    ) AS used ON used.day = calendar.day
    ORDER BY calendar.day
$$;

-- -- one page of everything ----------------------------------------------------------------------------------------

CREATE TYPE usage_api.v1_dashboard AS (
    total_requests bigint, total_succeeded bigint, total_failed bigint, total_input_tokens bigint,
    total_output_tokens bigint, total_cache_read_tokens bigint, total_cache_write_tokens bigint, total_tokens bigint,
    total_unclassified_tokens bigint, total_cost_usd numeric, total_actual_cost_usd numeric, today_requests bigint,
    today_succeeded bigint, today_failed bigint, today_input_tokens bigint, today_output_tokens bigint,
    today_cache_read_tokens bigint, today_cache_write_tokens bigint, today_tokens bigint,
    today_unclassified_tokens bigint, today_cost_usd numeric, today_actual_cost_usd numeric, mean_latency_ms numeric,
    total_client_keys bigint, active_client_keys bigint, rpm numeric, succeeded_rpm numeric, tpm numeric,
    cache_tpm numeric
);
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
        lately.requests * 0.2, lately.succeeded * 0.2, lately.tokens * 0.2, lately.cache_tokens * 0.2
    FROM (
        SELECT
            coalesce(sum(requests) FILTER (WHERE outcome <> 'warmup'), 0)::bigint AS requests,
            coalesce(sum(requests) FILTER (WHERE outcome = 'success'), 0)::bigint AS succeeded,
            coalesce(sum(requests) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed,
            coalesce(sum(uncached_input_tokens), 0)::bigint AS uncached_input_tokens,
            coalesce(sum(billed_output_tokens), 0)::bigint AS billed_output_tokens,
            coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
            coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
            coalesce(sum(unclassified_tokens), 0)::bigint AS unclassified_tokens,
            coalesce(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens)
                     + sum(billed_output_tokens) + sum(unclassified_tokens), 0)::bigint AS tokens,
            coalesce(sum(cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS cost_usd,
            coalesce(sum(actual_cost_usd), CASE WHEN coalesce(sum(requests), 0) = 0 THEN 0 END) AS actual_cost_usd,
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

CREATE TYPE usage_api.v1_client_key_costs AS (
    upstream text, client_key text,
    today_requests bigint, last_30_days_requests bigint, total_requests bigint,
    today_actual_cost_usd numeric, last_30_days_actual_cost_usd numeric, total_actual_cost_usd numeric
);
CREATE FUNCTION usage_api.v1_client_key_costs(
    at timestamptz DEFAULT now(), zone text DEFAULT NULL, of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL
) RETURNS SETOF usage_api.v1_client_key_costs
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, client_key,
        coalesce(sum(requests) FILTER (WHERE period = 'today' AND outcome <> 'warmup'), 0)::bigint,
        coalesce(sum(requests) FILTER (WHERE period = 'last_30_days' AND outcome <> 'warmup'), 0)::bigint,
        coalesce(sum(requests) FILTER (WHERE period = 'all' AND outcome <> 'warmup'), 0)::bigint,
        coalesce(sum(actual_cost_usd) FILTER (WHERE period = 'today'),
                 CASE WHEN coalesce(sum(requests) FILTER (WHERE period = 'today'), 0) = 0 THEN 0 END),
        coalesce(sum(actual_cost_usd) FILTER (WHERE period = 'last_30_days'),
                 CASE WHEN coalesce(sum(requests) FILTER (WHERE period = 'last_30_days'), 0) = 0 THEN 0 END),
        coalesce(sum(actual_cost_usd) FILTER (WHERE period = 'all'),
                 CASE WHEN coalesce(sum(requests) FILTER (WHERE period = 'all'), 0) = 0 THEN 0 END)
    FROM (
        SELECT 'all' AS period, upstream, client_key, outcome, requests, actual_cost_usd
        FROM usage_api.v1_daily_keys
        UNION ALL
        SELECT 'last_30_days', upstream, client_key, outcome, requests, actual_cost_usd
        FROM usage_api.v1_key_usage(v1_client_key_costs.at - interval '720 hours', v1_client_key_costs.at)
        UNION ALL
        SELECT 'today', upstream, client_key, outcome, requests, actual_cost_usd
        FROM usage_api.v1_key_usage(
            usage_api.v1_day_begin(
                (v1_client_key_costs.at AT TIME ZONE coalesce(v1_client_key_costs.zone, usage_api.v1_zone()))::date,
                coalesce(v1_client_key_costs.zone, usage_api.v1_zone())),
            usage_api.v1_day_begin(
                (v1_client_key_costs.at AT TIME ZONE coalesce(v1_client_key_costs.zone, usage_api.v1_zone()))::date + 1,
                coalesce(v1_client_key_costs.zone, usage_api.v1_zone())))
        UNION ALL  -- a key without any usage has a row, too
        SELECT 'all', upstream, client_key, 'success', 0::bigint, NULL::numeric FROM usage_api.v1_client_keys
    ) AS used
    WHERE (v1_client_key_costs.of_upstream IS NULL OR upstream = v1_client_key_costs.of_upstream)
      AND (v1_client_key_costs.of_client_key IS NULL OR client_key = v1_client_key_costs.of_client_key)
    GROUP BY upstream, client_key
    ORDER BY 8 DESC NULLS LAST, upstream, client_key
$$;

-- -- percentiles ---------------------------------------------------------------------------------------------------

CREATE TYPE usage_api.v1_latency_percentiles AS (
    measure text, name text, samples bigint, p50_ms numeric, p50_from_ms bigint, p50_to_ms bigint, p75_ms numeric,
    p75_from_ms bigint, p75_to_ms bigint, p90_ms numeric, p90_from_ms bigint, p90_to_ms bigint, p95_ms numeric,
    p95_from_ms bigint, p95_to_ms bigint, p99_ms numeric, p99_from_ms bigint, p99_to_ms bigint
);
-- From the counts of requests within each bound: the value that the given share of the requests does not exceed lies
-- between the bounds, and is taken for as far between them as its place among the requests counted there.
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
            CASE usage_api.v1_one_of(
                v1_latency_percentiles.by, 'grouping', ARRAY['all', 'channel', 'channel_group', 'model'])
                WHEN 'channel' THEN channel WHEN 'channel_group' THEN channel_group WHEN 'model' THEN model ELSE 'all'
            END AS name,
            coalesce(sum(latency_samples), 0)::bigint AS latency_samples,
            coalesce(sum(ttft_samples) FILTER (WHERE ttft_le_500ms IS NOT NULL), 0)::bigint AS ttft_samples,
            ARRAY[sum(latency_le_500ms), sum(latency_le_1s), sum(latency_le_2500ms), sum(latency_le_5s),
                  sum(latency_le_10s), sum(latency_le_30s), sum(latency_le_60s), sum(latency_le_120s),
                  sum(latency_le_300s)] AS latency_within,
            ARRAY[sum(ttft_le_500ms), sum(ttft_le_1s), sum(ttft_le_2500ms), sum(ttft_le_5s), sum(ttft_le_10s),
                  sum(ttft_le_30s), sum(ttft_le_60s), sum(ttft_le_120s), sum(ttft_le_300s)] AS ttft_within
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
        -- the number of bounds that too few requests are within: the value lies beyond the last of them
        SELECT count(*)::integer AS below FROM unnest(within) AS counted WHERE counted < share * samples
    ) AS place
    CROSS JOIN (
        SELECT ARRAY[0, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000]::bigint[] AS bound_ms
    ) AS bounds
    LEFT JOIN LATERAL (
        SELECT
            bound_ms[below + 1] AS from_ms,
            bound_ms[below + 2] AS to_ms,
            round(bound_ms[below + 1] + coalesce(
                (bound_ms[below + 2] - bound_ms[below + 1]) * (share * samples - coalesce(within[below], 0))
                / nullif(within[below + 1] - coalesce(within[below], 0), 0), 0), 2) AS ms
        WHERE samples > 0
    ) AS value ON true
    GROUP BY measure, name, samples
    ORDER BY measure, samples DESC, name
$$;

CREATE TYPE usage_api.v1_calls AS (
    period text,
    since timestamptz,
    until timestamptz,
    total bigint,
    succeeded bigint,
    failed bigint,
    warmups bigint
);
COMMENT ON TYPE usage_api.v1_calls IS 'A row of the function of this name.';
COMMENT ON COLUMN usage_api.v1_calls.period IS '1m, 1h, 24h, or month: the calendar month so far.';
COMMENT ON COLUMN usage_api.v1_calls.since IS 'Begin of the period.';
COMMENT ON COLUMN usage_api.v1_calls.until IS 'End of the period, which is not in it any more.';
COMMENT ON COLUMN usage_api.v1_calls.total IS 'Attempts that began in the period, warm-ups left out.';
COMMENT ON COLUMN usage_api.v1_calls.succeeded IS 'Attempts that succeeded.';
COMMENT ON COLUMN usage_api.v1_calls.failed IS 'Attempts that failed.';
COMMENT ON COLUMN usage_api.v1_calls.warmups IS 'Calls that asked for no generation: they are in none of the others.';

CREATE FUNCTION usage_api.v1_calls(
    at timestamptz DEFAULT now(), zone text DEFAULT NULL, of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL
) RETURNS SETOF usage_api.v1_calls
LANGUAGE sql STABLE PARALLEL SAFE ROWS 4 AS $$
    SELECT period, since, at, succeeded + failed, succeeded, failed, warmups
    FROM (
        SELECT
            1 AS place, '1m' AS period, at - interval '1 minute' AS since,
            count(*) FILTER (WHERE outcome = 'success') AS succeeded,
            count(*) FILTER (WHERE outcome = 'failed') AS failed,
            count(*) FILTER (WHERE outcome = 'warmup') AS warmups
        FROM usage_api.v1_records
        WHERE occurred_at >= usage_api.v1_records_from(at - interval '1 minute', at)
          AND occurred_at < usage_api.v1_records_until(at - interval '1 minute', at)
          AND (of_upstream IS NULL OR upstream = of_upstream)
          AND (of_channel IS NULL OR channel = of_channel)
        UNION ALL
        SELECT
            2, '1h', at - interval '1 hour',
            count(*) FILTER (WHERE outcome = 'success'),
            count(*) FILTER (WHERE outcome = 'failed'),
            count(*) FILTER (WHERE outcome = 'warmup')
        FROM usage_api.v1_records
        WHERE occurred_at >= usage_api.v1_records_from(at - interval '1 hour', at)
          AND occurred_at < usage_api.v1_records_until(at - interval '1 hour', at)
          AND (of_upstream IS NULL OR upstream = of_upstream)
          AND (of_channel IS NULL OR channel = of_channel)
        UNION ALL
        SELECT 3, '24h', at - interval '24 hours', succeeded, failed, warmups
        FROM usage_api.v1_summary(
            at - interval '24 hours', at, of_upstream => v1_calls.of_upstream, of_channel => v1_calls.of_channel)
        UNION ALL
        SELECT
            4, 'month',
            usage_api.v1_day_begin(date_trunc('month', at AT TIME ZONE coalesce(zone, usage_api.v1_zone()))::date,
                                   coalesce(zone, usage_api.v1_zone())),
            succeeded, failed, warmups
        FROM usage_api.v1_summary(
            usage_api.v1_day_begin(date_trunc('month', at AT TIME ZONE coalesce(zone, usage_api.v1_zone()))::date,
                                   coalesce(zone, usage_api.v1_zone())),
            at, of_upstream => v1_calls.of_upstream, of_channel => v1_calls.of_channel)
    ) AS counted
    ORDER BY place
$$;
COMMENT ON FUNCTION usage_api.v1_calls(timestamptz, text, text, text) IS 'Calls in the last minute, hour and 24 hours before an instant, and in its calendar month so far, of a time zone: of the rollup time zone when none is named.';

-- -- what they are ---------------------------------------------------------------------------------------------------

DO $$
DECLARE
    described record;
BEGIN
    -- A function and the type of its rows have one name and one description.
    FOR described IN
        SELECT f.name, f.comment, p.oid::regprocedure AS function
        FROM (VALUES
            ('v1_period', 'The window of a period by name. today, yesterday, this_week (from Monday), this_month and last_month are whole days of the zone (NULL: of the rollups); last_hour, last_24_hours, last_7_days, last_30_days and rolling_month (back to the same day of the month before) end at the given instant; all is without end.'),
            ('v1_totals', 'Totals over a window by any dimensions and with any filters. Dimensions whose by_… is not true are NULL; by_channel is by channel_kind, too.'),
            ('v1_summary', 'Totals over a window: one row.'),
            ('v1_by_model', 'Totals over a window by model, most requests first.'),
            ('v1_by_alias', 'Totals over a window by the model that the client asked for and the one that ran, most requests first.'),
            ('v1_by_client_key', 'Totals over a window by client key, most requests first.'),
            ('v1_by_channel', 'Totals over a window by channel, most requests first.'),
            ('v1_by_channel_and_model', 'Totals over a window by channel and model, most requests first.'),
            ('v1_by_channel_group', 'Totals over a window by group of channels, most requests first.'),
            ('v1_by_endpoint', 'Totals over a window by provider and endpoint: by the API that was spoken, most requests first.'),
            ('v1_client_key_models', 'Totals over a window by client key, model and alias: for each key, most requests first.'),
            ('v1_channel_statistics', 'Totals over a window of everything, of each group, of each channel and of each model, from one scan.'),
            ('v1_trend', 'Totals over a window for each day or hour in it, in order, those without requests too. The first and the last are cut where the window is.'),
            ('v1_heatmap', 'What was used on each of the last days in the rollup time zone, in order, those without requests too. last_day is today unless given.'),
            ('v1_dashboard', 'All of history, the day that the given instant lies in, and what goes on at that instant: one row.'),
            ('v1_client_key_costs', 'For each client key, what it really cost on the day that the given instant lies in, in the 30 times 24 hours before that instant, and ever; the dearest first.'),
            ('v1_latency_percentiles', 'Percentiles of the latency and of the time to the first token over a window, by all, channel, channel_group or model. Each lies between its two bounds; where between is estimated.')
        ) AS f (name, comment)
        JOIN pg_proc AS p ON p.proname = f.name AND p.pronamespace = 'usage_api'::regnamespace
    LOOP
        EXECUTE format('COMMENT ON FUNCTION %s IS %L', described.function, described.comment);
        EXECUTE format('COMMENT ON TYPE usage_api.%I IS %L', described.name, described.comment);
    END LOOP;

    -- Dimensions and counts of tokens are what they are in v1_daily.
    FOR described IN
        SELECT t.relname AS type, a.attname AS name,
               coalesce(own.comment, shared.comment, col_description('usage_api.v1_daily'::regclass, d.attnum)) AS comment
        FROM pg_class AS t
        JOIN pg_proc AS p ON p.proname = t.relname AND p.pronamespace = t.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0
        LEFT JOIN pg_attribute AS d ON d.attrelid = 'usage_api.v1_daily'::regclass AND d.attname = a.attname
        LEFT JOIN (
            VALUES
                ('v1_channel_statistics', 'level', 'What the row is about: all, group (channel_group), channel (channel_group and channel) or model; the other names are NULL.'),
                ('v1_period', 'since', 'Its begin; NULL for none.'),
                ('v1_period', 'until', 'Its end, which does not belong to it; NULL for none.'),
                ('v1_trend', 'bucket', 'When the day or the hour began.'),
                ('v1_trend', 'label', 'The day, or the day and the hour, as the zone''s calendar and clock show it.'),
                ('v1_heatmap', 'day', 'The day, in the rollup time zone.'),
                ('v1_heatmap', 'max_requests', 'The most requests of any day shown: the same in each row.'),
                ('v1_dashboard', 'mean_latency_ms', 'Mean of all measured latencies of requests ever, in milliseconds, to two decimals.'),
                ('v1_dashboard', 'total_client_keys', 'Client keys ever seen. Requests without a key count as one.'),
                ('v1_dashboard', 'active_client_keys', 'Client keys with a request in the 24 hours before the instant.'),
                ('v1_dashboard', 'rpm', 'Requests per minute among those that ended in the five minutes before the instant. A call of more than six hours is not seen.'),
                ('v1_dashboard', 'succeeded_rpm', 'The same of successful requests.'),
                ('v1_dashboard', 'tpm', 'Uncached input and output tokens per minute of the same five minutes.'),
                ('v1_dashboard', 'cache_tpm', 'Tokens read from and written to caches per minute of the same five minutes.'),
                ('v1_client_key_costs', 'today_requests', 'Requests of the day, warm-ups not counted.'),
                ('v1_client_key_costs', 'last_30_days_requests', 'Requests of the 720 hours before the instant, warm-ups not counted.'),
                ('v1_client_key_costs', 'total_requests', 'All requests, warm-ups not counted.'),
                ('v1_client_key_costs', 'today_actual_cost_usd', 'What the day really cost in US dollars; NULL when nothing that was used has a price.'),
                ('v1_client_key_costs', 'last_30_days_actual_cost_usd', 'What the 720 hours before the instant really cost in US dollars; NULL when nothing that was used has a price.'),
                ('v1_client_key_costs', 'total_actual_cost_usd', 'What everything really cost in US dollars; NULL when nothing that was used has a price.'),
                ('v1_latency_percentiles', 'measure', 'latency, or ttft (the time to the first token).'),
                ('v1_latency_percentiles', 'name', 'The channel, group or model; all when they are not told apart.'),
                ('v1_latency_percentiles', 'samples', 'Measured requests. Times to the first token are left out where records were dropped before they were counted by bounds.')
            UNION ALL
            SELECT 'v1_dashboard', period.name || '_' || figure.name, replace(figure.comment, '…', period.meaning)
            FROM (VALUES ('total', 'ever'), ('today', 'on the day')) AS period (name, meaning)
            CROSS JOIN (VALUES
                ('requests', 'Requests …, warm-ups not counted.'),
                ('succeeded', 'Requests … that succeeded.'),
                ('failed', 'Requests … that failed.'),
                ('input_tokens', 'Input tokens … neither read from nor written to a cache.'),
                ('output_tokens', 'Output tokens …, reasoning included once.'),
                ('cache_read_tokens', 'Input tokens … read from a cache.'),
                ('cache_write_tokens', 'Input tokens … written to a cache.'),
                ('tokens', 'The sum of these four.'),
                ('unclassified_tokens', 'Tokens … that could not be told apart as input or output.'),
                ('cost_usd', 'Cost … in US dollars; NULL when something was used and nothing of it has a price.'),
                ('actual_cost_usd', 'Cost … times the channels'' rate multipliers, in US dollars; NULL as the cost.')
            ) AS figure (name, comment)
            UNION ALL
            SELECT 'v1_latency_percentiles', share.name || edge.name, replace(edge.comment, '…', share.percent)
            FROM (VALUES ('p50', '50'), ('p75', '75'), ('p90', '90'), ('p95', '95'), ('p99', '99')) AS share (name, percent)
            CROSS JOIN (VALUES
                ('_ms', 'Milliseconds that … % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.'),
                ('_from_ms', 'It is more than this.'),
                ('_to_ms', 'It is this at most; NULL beyond the last bound.')
            ) AS edge (name, comment)
        ) AS own (type, name, comment) ON own.type = t.relname AND own.name = a.attname
        LEFT JOIN (VALUES
            ('requests', 'Attempts at an upstream, warm-ups not counted.'),
            ('succeeded', 'Requests that succeeded.'),
            ('failed', 'Requests that failed.'),
            ('warmups', 'Calls that asked for no generation. Their tokens and costs are counted, they are not.'),
            ('success_rate', 'Percentage of requests that succeeded, to two decimals; NULL where there is no request.'),
            ('error_rate', 'Percentage of requests that failed, to two decimals; NULL where there is no request.'),
            ('tokens', 'The sum of the five counts that exclude one another: uncached input, cache reads, cache writes, output and unclassified.'),
            ('cache_hit_rate', 'Percentage of the input tokens that were read from a cache, to two decimals; NULL where there are none.'),
            ('cost_usd', 'Cost in US dollars of what has a price; NULL when something was used and nothing of it has one.'),
            ('actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL as cost_usd.'),
            ('cache_read_cost_usd', 'The part of cost_usd for cache reads; NULL as cost_usd.'),
            ('cache_write_cost_usd', 'The part of cost_usd for cache writes; NULL as cost_usd.'),
            ('unpriced_requests', 'Records without a price, warm-ups too: they are not in the costs.'),
            ('mean_latency_ms', 'Mean of the measured latencies of requests, in milliseconds, to two decimals; NULL when none was measured.'),
            ('mean_ttft_ms', 'Mean of the measured times to the first token, in milliseconds, to two decimals; NULL when none was measured.')
        ) AS shared (name, comment) ON shared.name = a.attname
        WHERE t.relnamespace = 'usage_api'::regnamespace AND t.relkind = 'c'
          AND col_description(t.oid, a.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L', described.type, described.name, described.comment);
    END LOOP;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_reader') THEN
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api TO usage_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api TO usage_writer;
    END IF;
END
$$;
