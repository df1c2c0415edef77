-- Usage between any two instants, from the rollups as far as they reach: whole days of the rollup zone, whole hours
-- of what is left at either end, and records for the ragged rest. Functions that return rows are single statements
-- in SQL, so that a query that calls one is planned as a whole; they read views alone, with their caller's rights.

CREATE VIEW usage_api.v1_timezone AS
SELECT coalesce((SELECT value FROM usage.setting WHERE key = 'timezone'), 'UTC') AS timezone;
COMMENT ON VIEW usage_api.v1_timezone IS 'One row: the time zone of the days in every daily view; UTC until the first pass has settled it.';
COMMENT ON COLUMN usage_api.v1_timezone.timezone IS 'Name of an IANA time zone.';

CREATE OR REPLACE VIEW usage_api.v1_freshness AS
SELECT
    u.name AS upstream,
    last_pass.finished_at AS last_pass_at,
    last_success.finished_at AS last_success_at,
    u.newest_record_at,
    coalesce(last_pass.journal_entries, 0) AS journal_entries,
    coalesce(last_pass.journal_bytes, 0) AS journal_bytes,
    (SELECT value FROM usage.setting WHERE key = 'timezone') AS timezone,
    u.records_complete_from,
    u.records_dropped_before
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
COMMENT ON COLUMN usage_api.v1_freshness.records_dropped_before IS 'Records from before this instant have been dropped, and none from before is taken any more; NULL when none ever was.';

-- One record as the measures that it adds to an hour.
CREATE VIEW usage_api.v1_record_measures AS
SELECT
    r.occurred_at,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    coalesce(k.label, k.mask) AS client_key, d.provider, d.endpoint, d.model, d.alias, d.outcome,
    1::bigint AS requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    r.cost_usd, r.actual_cost_usd, r.cache_read_cost_usd, r.cache_write_cost_usd,
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
    (coalesce(r.ttft_ms <= 300000, false))::int::bigint AS ttft_le_300s
FROM usage.record AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;
COMMENT ON VIEW usage_api.v1_record_measures IS 'One row per record, with the dimensions and measures of v1_hourly.';
COMMENT ON COLUMN usage_api.v1_record_measures.occurred_at IS 'When the attempt at the upstream began, to the microsecond.';

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
CREATE FUNCTION usage_api.v1_edge(
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
COMMENT ON FUNCTION usage_api.v1_edge(timestamptz, timestamptz, integer, text, text) IS 'Where a window is cut: edges 0 to 7 bound records, hours, records, days, records, hours and records.';

CREATE FUNCTION usage_api.v1_edge_day(
    since timestamptz, until timestamptz, edge integer, grain text DEFAULT 'day', zone text DEFAULT NULL
) RETURNS date
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    day_zone text;
BEGIN
    SELECT timezone INTO day_zone FROM usage_api.v1_timezone;
    RETURN (usage_api.v1_edge(since, until, edge, grain, zone) AT TIME ZONE day_zone)::date;
END
$$;
COMMENT ON FUNCTION usage_api.v1_edge_day(timestamptz, timestamptz, integer, text, text) IS 'The day that begins at edge 3 or 4 of a window.';

CREATE FUNCTION usage_api.v1_require_records(since timestamptz, until timestamptz) RETURNS boolean
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
COMMENT ON FUNCTION usage_api.v1_require_records(timestamptz, timestamptz) IS 'Whether there is anything between two instants to read from records; an error where those have been dropped.';

-- A condition beside the window would not be asked where the planner knows that the window holds no partition any more:
-- as the bounds of the window themselves, which only the executor knows, it always is.
CREATE FUNCTION usage_api.v1_records_from(since timestamptz, until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    PERFORM usage_api.v1_require_records(coalesce(since, '-infinity'), coalesce(until, 'infinity'));
    RETURN coalesce(since, '-infinity');
END
$$;
COMMENT ON FUNCTION usage_api.v1_records_from(timestamptz, timestamptz) IS 'The begin of a window that is read from records; an error where those have been dropped.';

CREATE FUNCTION usage_api.v1_records_until(since timestamptz, until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    PERFORM usage_api.v1_require_records(coalesce(since, '-infinity'), coalesce(until, 'infinity'));
    RETURN coalesce(until, 'infinity');
END
$$;
COMMENT ON FUNCTION usage_api.v1_records_until(timestamptz, timestamptz) IS 'The end of a window that is read from records; an error where those have been dropped.';

CREATE FUNCTION usage_api.v1_bucket(at timestamptz, grain text, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE grain WHEN 'day' THEN usage_api.v1_day_begin((at AT TIME ZONE zone)::date, zone)
                      WHEN 'hour' THEN date_trunc('hour', at, zone) END
$$;
COMMENT ON FUNCTION usage_api.v1_bucket(timestamptz, text, text) IS 'The begin of the hour or day of a time zone that an instant lies in.';

-- The planner sees through a comparison, and would expect next to no hour to pass it; it does not through coalesce.
CREATE FUNCTION usage_api.v1_is_cut(hour timestamptz, grain text, zone text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(CASE grain
        WHEN 'day' THEN (hour AT TIME ZONE zone)::date
                        <> ((hour + interval '59 minutes 59.999999 seconds') AT TIME ZONE zone)::date
        ELSE date_trunc('hour', hour, zone) <> hour
             OR date_trunc('hour', hour + interval '59 minutes 59.999999 seconds', zone) <> hour
    END, true)
$$;
COMMENT ON FUNCTION usage_api.v1_is_cut(timestamptz, text, text) IS 'Whether an hour of UTC lies in more than one hour or day of a time zone.';

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
    ttft_le_300s bigint
);

CREATE FUNCTION usage_api.v1_usage(since timestamptz, until timestamptz) RETURNS SETOF usage_api.v1_usage
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_daily
    WHERE day >= usage_api.v1_edge_day(since, until, 3) AND day < usage_api.v1_edge_day(since, until, 4)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_api.v1_edge(since, until, 1) AND hour < usage_api.v1_edge(since, until, 2)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_api.v1_edge(since, until, 5) AND hour < usage_api.v1_edge(since, until, 6)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 0) AND occurred_at < usage_api.v1_edge(since, until, 1)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 0), usage_api.v1_edge(since, until, 1))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 2) AND occurred_at < usage_api.v1_edge(since, until, 3)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 2), usage_api.v1_edge(since, until, 3))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 4) AND occurred_at < usage_api.v1_edge(since, until, 5)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 4), usage_api.v1_edge(since, until, 5))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 6) AND occurred_at < usage_api.v1_edge(since, until, 7)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 6), usage_api.v1_edge(since, until, 7))
$$;
COMMENT ON TYPE usage_api.v1_usage IS 'A row of the function of this name.';
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
    ttft_le_300s bigint
);

CREATE FUNCTION usage_api.v1_channel_usage(since timestamptz, until timestamptz) RETURNS SETOF usage_api.v1_channel_usage
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_daily_channels
    WHERE day >= usage_api.v1_edge_day(since, until, 3) AND day < usage_api.v1_edge_day(since, until, 4)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_api.v1_edge(since, until, 1) AND hour < usage_api.v1_edge(since, until, 2)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_hourly
    WHERE hour >= usage_api.v1_edge(since, until, 5) AND hour < usage_api.v1_edge(since, until, 6)
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 0) AND occurred_at < usage_api.v1_edge(since, until, 1)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 0), usage_api.v1_edge(since, until, 1))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 2) AND occurred_at < usage_api.v1_edge(since, until, 3)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 2), usage_api.v1_edge(since, until, 3))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 4) AND occurred_at < usage_api.v1_edge(since, until, 5)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 4), usage_api.v1_edge(since, until, 5))
    UNION ALL
    SELECT
        upstream, channel, channel_group, channel_kind, model, outcome, requests, input_tokens, output_tokens,
        reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens,
        billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd,
        cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples,
        latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s,
        latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s,
        ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 6) AND occurred_at < usage_api.v1_edge(since, until, 7)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 6), usage_api.v1_edge(since, until, 7))
$$;
COMMENT ON TYPE usage_api.v1_channel_usage IS 'A row of the function of this name.';
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
    ttft_le_300s bigint
);

CREATE FUNCTION usage_api.v1_key_usage(since timestamptz, until timestamptz) RETURNS SETOF usage_api.v1_key_usage
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_daily_keys
    WHERE day >= usage_api.v1_edge_day(since, until, 3) AND day < usage_api.v1_edge_day(since, until, 4)
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_hourly_keys
    WHERE hour >= usage_api.v1_edge(since, until, 1) AND hour < usage_api.v1_edge(since, until, 2)
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_hourly_keys
    WHERE hour >= usage_api.v1_edge(since, until, 5) AND hour < usage_api.v1_edge(since, until, 6)
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 0) AND occurred_at < usage_api.v1_edge(since, until, 1)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 0), usage_api.v1_edge(since, until, 1))
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 2) AND occurred_at < usage_api.v1_edge(since, until, 3)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 2), usage_api.v1_edge(since, until, 3))
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 4) AND occurred_at < usage_api.v1_edge(since, until, 5)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 4), usage_api.v1_edge(since, until, 5))
    UNION ALL
    SELECT
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 6) AND occurred_at < usage_api.v1_edge(since, until, 7)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 6), usage_api.v1_edge(since, until, 7))
$$;
COMMENT ON TYPE usage_api.v1_key_usage IS 'A row of the function of this name.';
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
    ttft_le_300s bigint
);

-- What hours of UTC cannot tell of the hours and days of another zone, from records. In zones with whole hours there is
-- nothing of this kind.
CREATE FUNCTION usage_api.v1_cut_series(since timestamptz, until timestamptz, grain text, zone text)
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
            FROM generate_series(greatest(usage_api.v1_edge(since, until, 1, grain, zone), first_hour),
                                 least(usage_api.v1_edge(since, until, 2, grain, zone) - interval '1 hour', last_hour),
                                 interval '1 hour') AS hour
            WHERE usage_api.v1_is_cut(hour, grain, day_zone)
        ) AS cut
        GROUP BY run
    ) AS run;
    IF begins IS NULL THEN
        RETURN;
    END IF;
    PERFORM usage_api.v1_require_records(run.begins, run.ends) FROM unnest(begins, ends) AS run (begins, ends);
    RETURN QUERY
    SELECT
        usage_api.v1_bucket(m.occurred_at, grain, day_zone),
        m.upstream, m.channel, m.channel_group, m.channel_kind, m.client_key, m.provider, m.endpoint, m.model,
        m.alias, m.outcome,
        sum(m.requests)::bigint, sum(m.input_tokens)::bigint, sum(m.output_tokens)::bigint,
        sum(m.reasoning_tokens)::bigint, sum(m.cached_tokens)::bigint, sum(m.total_tokens)::bigint,
        sum(m.uncached_input_tokens)::bigint, sum(m.cache_read_tokens)::bigint, sum(m.cache_write_tokens)::bigint,
        sum(m.billed_output_tokens)::bigint, sum(m.unclassified_tokens)::bigint, sum(m.cost_usd),
        sum(m.actual_cost_usd), sum(m.cache_read_cost_usd), sum(m.cache_write_cost_usd),
        sum(m.unpriced_requests)::bigint, sum(m.latency_ms_sum)::bigint, sum(m.latency_samples)::bigint,
        sum(m.ttft_ms_sum)::bigint, sum(m.ttft_samples)::bigint, sum(m.latency_le_500ms)::bigint,
        sum(m.latency_le_1s)::bigint, sum(m.latency_le_2500ms)::bigint, sum(m.latency_le_5s)::bigint,
        sum(m.latency_le_10s)::bigint, sum(m.latency_le_30s)::bigint, sum(m.latency_le_60s)::bigint,
        sum(m.latency_le_120s)::bigint, sum(m.latency_le_300s)::bigint, sum(m.ttft_le_500ms)::bigint,
        sum(m.ttft_le_1s)::bigint, sum(m.ttft_le_2500ms)::bigint, sum(m.ttft_le_5s)::bigint,
        sum(m.ttft_le_10s)::bigint, sum(m.ttft_le_30s)::bigint, sum(m.ttft_le_60s)::bigint,
        sum(m.ttft_le_120s)::bigint, sum(m.ttft_le_300s)::bigint
    FROM unnest(begins, ends) AS run (begins, ends)
    CROSS JOIN LATERAL (
        SELECT * FROM usage_api.v1_record_measures AS r
        WHERE r.occurred_at >= run.begins AND r.occurred_at < run.ends
        OFFSET 0  -- one run after the other: each finds its records through the index
    ) AS m
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11;
END
$$;
COMMENT ON FUNCTION usage_api.v1_cut_series(timestamptz, timestamptz, text, text) IS 'The part of v1_series that lies in hours of UTC with more than one bucket.';

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
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_daily
    WHERE day >= usage_api.v1_edge_day(since, until, 3, grain, zone) AND day < usage_api.v1_edge_day(since, until, 4, grain, zone)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly
    WHERE hour >= usage_api.v1_edge(since, until, 1, grain, zone) AND hour < usage_api.v1_edge(since, until, 2, grain, zone)
      AND NOT usage_api.v1_is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly
    WHERE hour >= usage_api.v1_edge(since, until, 5, grain, zone) AND hour < usage_api.v1_edge(since, until, 6, grain, zone)
      AND NOT usage_api.v1_is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 0, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 1, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 0, grain, zone), usage_api.v1_edge(since, until, 1, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 2, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 3, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 2, grain, zone), usage_api.v1_edge(since, until, 3, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 4, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 5, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 4, grain, zone), usage_api.v1_edge(since, until, 5, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 6, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 7, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 6, grain, zone), usage_api.v1_edge(since, until, 7, grain, zone))
    UNION ALL
    SELECT
        bucket,
        upstream, channel, channel_group, channel_kind, client_key, provider, endpoint, model, alias, outcome,
        requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens, uncached_input_tokens,
        cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens, cost_usd, actual_cost_usd,
        cache_read_cost_usd, cache_write_cost_usd, unpriced_requests, latency_ms_sum, latency_samples, ttft_ms_sum,
        ttft_samples, latency_le_500ms, latency_le_1s, latency_le_2500ms, latency_le_5s, latency_le_10s,
        latency_le_30s, latency_le_60s, latency_le_120s, latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms,
        ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s, ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_cut_series(since, until, grain, zone)
$$;
COMMENT ON TYPE usage_api.v1_series IS 'A row of the function of this name.';
COMMENT ON FUNCTION usage_api.v1_series(timestamptz, timestamptz, text, text) IS 'Usage in a window, to add up by the hours or days of a time zone: of the rollup time zone when none is named.';
COMMENT ON COLUMN usage_api.v1_series.bucket IS 'The instant at which the hour or day began, which may lie before the window.';

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
    ttft_le_300s bigint
);

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
        ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_daily_keys
    WHERE day >= usage_api.v1_edge_day(since, until, 3, grain, zone) AND day < usage_api.v1_edge_day(since, until, 4, grain, zone)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly_keys
    WHERE hour >= usage_api.v1_edge(since, until, 1, grain, zone) AND hour < usage_api.v1_edge(since, until, 2, grain, zone)
      AND NOT usage_api.v1_is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_hourly_keys
    WHERE hour >= usage_api.v1_edge(since, until, 5, grain, zone) AND hour < usage_api.v1_edge(since, until, 6, grain, zone)
      AND NOT usage_api.v1_is_cut(hour, grain, z.name)
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 0, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 1, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 0, grain, zone), usage_api.v1_edge(since, until, 1, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 2, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 3, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 2, grain, zone), usage_api.v1_edge(since, until, 3, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 4, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 5, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 4, grain, zone), usage_api.v1_edge(since, until, 5, grain, zone))
    UNION ALL
    SELECT
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM (SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, usage_api.v1_record_measures
    WHERE occurred_at >= usage_api.v1_edge(since, until, 6, grain, zone) AND occurred_at < usage_api.v1_edge(since, until, 7, grain, zone)
      AND usage_api.v1_require_records(usage_api.v1_edge(since, until, 6, grain, zone), usage_api.v1_edge(since, until, 7, grain, zone))
    UNION ALL
    SELECT
        bucket,
        upstream, client_key, outcome, requests, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
        total_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens,
        unclassified_tokens, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, unpriced_requests,
        latency_ms_sum, latency_samples, ttft_ms_sum, ttft_samples, latency_le_500ms, latency_le_1s,
        latency_le_2500ms, latency_le_5s, latency_le_10s, latency_le_30s, latency_le_60s, latency_le_120s,
        latency_le_300s, ttft_le_500ms, ttft_le_1s, ttft_le_2500ms, ttft_le_5s, ttft_le_10s, ttft_le_30s, ttft_le_60s,
        ttft_le_120s, ttft_le_300s
    FROM usage_api.v1_cut_series(since, until, grain, zone)
$$;
COMMENT ON TYPE usage_api.v1_key_series IS 'A row of the function of this name.';
COMMENT ON FUNCTION usage_api.v1_key_series(timestamptz, timestamptz, text, text) IS 'v1_series in fewer rows: by client key and outcome.';
COMMENT ON COLUMN usage_api.v1_key_series.bucket IS 'The instant at which the hour or day began, which may lie before the window.';

-- A column that is called as one of v1_daily means the same.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT c.relname, a.attname, col_description(known.attrelid, known.attnum) AS description
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN pg_attribute AS known ON known.attrelid = 'usage_api.v1_daily'::regclass AND known.attname = a.attname
        WHERE c.relnamespace = 'usage_api'::regnamespace
          AND c.relname IN ('v1_record_measures', 'v1_usage', 'v1_channel_usage', 'v1_key_usage', 'v1_series', 'v1_key_series')
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L',
                       described.relname, described.attname, described.description);
    END LOOP;
END
$$;

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['usage_reader', 'usage_writer'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('GRANT SELECT ON usage_api.v1_timezone, usage_api.v1_record_measures TO %I', role);
            EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api TO %I', role);
        END IF;
    END LOOP;
END
$$;
