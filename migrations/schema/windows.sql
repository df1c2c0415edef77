{% import 'macros.sql' as m with context %}
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

{# Every day, hour and record of a window: `arguments` are those of the edges, `bucket` what a series adds in front. #}
{% macro window(labels, days, hours, arguments='since, until', series=false) %}
{% set columns = labels + measures | map(attribute='name') | list %}
{% set zone = '(SELECT coalesce(zone, usage_api.v1_zone()) AS name OFFSET 0) AS z, ' if series else '' %}
    SELECT
{% if series %}
        usage_api.v1_day_begin(day, z.name) AS bucket,
{% endif %}
        {{ columns | listed }}
    FROM {{ zone }}usage_api.{{ days }}
    WHERE day >= usage_internal.edge_day({{ arguments | replace('#', '3') }})
      AND day < usage_internal.edge_day({{ arguments | replace('#', '4') }})
{% for edge in (1, 5) %}
    UNION ALL
    SELECT
{% if series %}
        usage_api.v1_bucket(hour, grain, z.name) AS bucket,
{% endif %}
        {{ columns | listed }}
    FROM {{ zone }}usage_api.{{ hours }}
    WHERE hour >= {{ at_edge(arguments, edge) }}
      AND hour < {{ at_edge(arguments, edge + 1) }}
{% if series %}
      AND NOT usage_internal.is_cut(hour, grain, z.name)
{% endif %}
{% endfor %}
{% for edge in (0, 2, 4, 6) %}
    UNION ALL
    SELECT
{% if series %}
        usage_api.v1_bucket(occurred_at, grain, z.name) AS bucket,
{% endif %}
        {{ columns | listed }}
    FROM {{ zone }}usage_api.v1_record_measures
    WHERE occurred_at >= {{ at_edge(arguments, edge) }}
      AND occurred_at < {{ at_edge(arguments, edge + 1) }}
      AND usage_internal.require_records(
          {{ at_edge(arguments, edge) }}, {{ at_edge(arguments, edge + 1) }})
{% endfor %}
{% if series %}
    UNION ALL
    SELECT
        bucket,
        {{ columns | listed }}
    FROM usage_internal.cut_series(since, until, grain, zone)
{% endif %}
{% endmacro %}
{% macro at_edge(arguments, number) %}usage_internal.edge({{ arguments | replace('#', number | string) }}){% endmacro %}
{% set every_label = ['upstream', 'channel', 'channel_group', 'channel_kind', 'client_key', 'provider', 'endpoint', 'model',
                      'alias', 'outcome'] %}
{% set usages = {
    'usage': (every_label, 'v1_daily', 'v1_hourly'),
    'channel_usage': (['upstream', 'channel', 'channel_group', 'channel_kind', 'model', 'outcome'], 'v1_daily_channels',
                      'v1_hourly'),
    'key_usage': (['upstream', 'client_key', 'outcome'], 'v1_daily_keys', 'v1_hourly_keys'),
} %}
{% set said = {
    'usage': 'Usage in a window, to add up: every day, hour or record of it is a row or several.',
    'channel_usage': 'v1_usage in fewer rows: by channel, model and outcome.',
    'key_usage': 'v1_usage in fewer rows: by client key and outcome.',
} %}
{% for name, (labels, days, hours) in usages.items() %}
CREATE TYPE usage_api.v1_{{ name }} AS (
{% for label in labels %}
    {{ label }} text,
{% endfor %}
{{ m.measure_columns() }}
);
COMMENT ON TYPE usage_api.v1_{{ name }} IS 'A row of the function of this name.';

CREATE FUNCTION usage_api.v1_{{ name }}(since timestamptz, until timestamptz) RETURNS SETOF usage_api.v1_{{ name }}
LANGUAGE sql STABLE PARALLEL SAFE AS $$
{{ window(labels, days, hours, 'since, until, #') -}}
$$;
COMMENT ON FUNCTION usage_api.v1_{{ name }}(timestamptz, timestamptz) IS '{{ said[name] }}';

{% endfor %}
{% set series = {
    'series': (every_label, 'v1_daily', 'v1_hourly'),
    'key_series': (['upstream', 'client_key', 'outcome'], 'v1_daily_keys', 'v1_hourly_keys'),
} %}
{% set said = {
    'series': 'Usage in a window, to add up by the hours or days of a time zone: of the rollup time zone when none is named.',
    'key_series': 'v1_series in fewer rows: by client key and outcome.',
} %}
{% for name, (labels, days, hours) in series.items() %}
CREATE TYPE usage_api.v1_{{ name }} AS (
    bucket timestamptz,
{% for label in labels %}
    {{ label }} text,
{% endfor %}
{{ m.measure_columns() }}
);
COMMENT ON TYPE usage_api.v1_{{ name }} IS 'A row of the function of this name.';

{% endfor %}
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
{% for measure in measures %}
        sum(m.{{ measure.name }}){{ '' if measure.unit == 'usd' else '::bigint' }}{{ '' if loop.last else ',' }}
{% endfor %}
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

{% for name, (labels, days, hours) in series.items() %}
CREATE FUNCTION usage_api.v1_{{ name }}(since timestamptz, until timestamptz, grain text, zone text DEFAULT NULL)
RETURNS SETOF usage_api.v1_{{ name }}
LANGUAGE sql STABLE PARALLEL SAFE AS $$
{{ window(labels, days, hours, 'since, until, #, grain, zone', true) -}}
$$;
COMMENT ON FUNCTION usage_api.v1_{{ name }}(timestamptz, timestamptz, text, text) IS '{{ said[name] }}';

{% endfor %}
