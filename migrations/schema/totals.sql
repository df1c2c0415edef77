{% import 'macros.sql' as m with context %}
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

{% set nothing = [] %}
{% for name in totals.summed %}{{ '' if nothing.append('NULL::numeric' if name in costs else '0::bigint') }}{% endfor %}
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
{{ m.totals_columns() }}
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
        {{ m.totals_of_rows() }}
    FROM (
        SELECT upstream, channel, channel_group, channel_kind, NULL::text AS client_key, NULL::text AS provider,
               NULL::text AS endpoint, model, NULL::text AS alias,
               outcome,
               {{ totals.summed | listed(15) }}
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
               {{ totals.summed | listed(15) }}
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
               {{ totals.summed | listed(15) }}
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
               {{ nothing | listed(15) }}
        WHERE NOT (by_upstream IS TRUE OR by_channel IS TRUE OR by_channel_group IS TRUE OR by_client_key IS TRUE
                   OR by_provider IS TRUE OR by_endpoint IS TRUE OR by_model IS TRUE OR by_alias IS TRUE)
    ) AS used
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
$$;
COMMENT ON FUNCTION usage_api.v1_totals(timestamptz, timestamptz, boolean, boolean, boolean, boolean, boolean, boolean, boolean, boolean, text, text, text, text, text, text, text, text, text) IS 'Totals over a window by any dimensions and with any filters. Dimensions whose by_… is not true are NULL; by_channel is by channel_kind, too.';

CREATE TYPE usage_api.v1_summary AS (
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_summary IS 'Totals over a window: one row.';

CREATE FUNCTION usage_api.v1_summary(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_summary
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ ([] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_by_model IS 'Totals over a window by model, most requests first.';

CREATE FUNCTION usage_api.v1_by_model(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_model
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['model'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_by_alias IS 'Totals over a window by the model that the client asked for and the one that ran, most requests first.';

CREATE FUNCTION usage_api.v1_by_alias(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL, of_channel text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_alias
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['alias', 'model'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_by_client_key IS 'Totals over a window by client key, most requests first.';

CREATE FUNCTION usage_api.v1_by_client_key(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_model text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_client_key
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['upstream', 'client_key'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_by_channel IS 'Totals over a window by channel, most requests first.';

CREATE FUNCTION usage_api.v1_by_channel(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_model text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_channel
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['upstream', 'channel', 'channel_group', 'channel_kind'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_by_channel_and_model IS 'Totals over a window by channel and model, most requests first.';

CREATE FUNCTION usage_api.v1_by_channel_and_model(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_channel_and_model
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['upstream', 'channel', 'channel_group', 'channel_kind', 'model'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_by_channel_group IS 'Totals over a window by group of channels, most requests first.';

CREATE FUNCTION usage_api.v1_by_channel_group(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_client_key text DEFAULT NULL, of_model text DEFAULT NULL,
    of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_channel_group
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['channel_group'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_by_endpoint IS 'Totals over a window by provider and endpoint: by the API that was spoken, most requests first.';

CREATE FUNCTION usage_api.v1_by_endpoint(
    since timestamptz, until timestamptz,
    of_upstream text DEFAULT NULL, of_channel text DEFAULT NULL, of_client_key text DEFAULT NULL,
    of_model text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_by_endpoint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['provider', 'endpoint'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
);
COMMENT ON TYPE usage_api.v1_client_key_models IS 'Totals over a window by client key, model and alias: for each key, most requests first.';

CREATE FUNCTION usage_api.v1_client_key_models(
    since timestamptz, until timestamptz,
    of_client_key text DEFAULT NULL, of_upstream text DEFAULT NULL, of_outcome text DEFAULT NULL
) RETURNS SETOF usage_api.v1_client_key_models
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        {{ (['client_key', 'model', 'alias'] + totals.columns | list) | listed }}
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
{{ m.totals_columns() }}
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
        {{ m.totals_of_rows() }}
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
{{ m.totals_columns() }}
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
        {{ m.totals_of_rows() }}
    FROM (
        SELECT bucket,
               outcome,
               {{ totals.summed | listed(15) }}
        FROM usage_api.v1_key_series(v1_trend.since, v1_trend.until, v1_trend.grain, v1_trend.zone)
        WHERE of_channel IS NULL AND of_model IS NULL
          AND (v1_trend.of_upstream IS NULL OR upstream = v1_trend.of_upstream)
          AND (v1_trend.of_client_key IS NULL OR client_key = v1_trend.of_client_key)
          AND (v1_trend.of_outcome IS NULL OR outcome = v1_trend.of_outcome)
        UNION ALL  -- of a channel or a model: whole days of the rollup time zone
        SELECT usage_api.v1_day_begin(day, usage_api.v1_zone()),
               outcome,
               {{ totals.summed | listed(15) }}
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
               {{ totals.summed | listed(15) }}
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
               {{ totals.summed | listed(15) }}
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
               {{ totals.summed | listed(15) }}
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
               {{ nothing | listed(15) }}
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

