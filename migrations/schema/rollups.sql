{% import 'macros.sql' as m with context %}
-- -- Rollups -------------------------------------------------------------------------------------------------------

{% set key_types = {'hour': 'timestamptz', 'day': 'date', 'model': 'text', 'outcome': 'text'} %}
{% for table in rollups %}
CREATE TABLE {{ table.name }} (
{% for column in table.key %}
    {{ column }} {{ key_types.get(column, "integer") }} NOT NULL,
{% endfor %}
{% for measure in all_measures %}
    {{ measure.name }} {{ measure.sql_type }} NOT NULL,
{% endfor %}
    PRIMARY KEY ({{ table.key | join(', ') }})
) WITH (fillfactor = 70);  -- room on the page, so that adding to a row moves no index entry
COMMENT ON TABLE {{ table.name }} IS {{ table.description | literal }};

{% endfor %}
-- One record as the measures that it adds to a rollup. worker.rollups.deltas counts the same while it loads, and
-- `worker verify` holds the one against the other.
{% set counted = {
    'requests': '1::bigint',
    'unpriced_requests': '(r.cost_usd IS NULL)::int::bigint',
    'priced_requests': '(r.cost_usd IS NOT NULL AND (' ~ m.used('r.') ~ '))::int::bigint',
    'estimated_cost_usd': 'CASE WHEN r.cost_estimated THEN coalesce(r.cost_usd, 0) ELSE 0 END',
    'latency_ms_sum': 'coalesce(r.latency_ms, 0)',
    'latency_samples': '(r.latency_ms IS NOT NULL)::int::bigint',
    'ttft_ms_sum': 'coalesce(r.ttft_ms, 0)',
    'ttft_samples': '(r.ttft_ms IS NOT NULL)::int::bigint',
} %}
{% macro count(measure) -%}
{% if measure.name in counted %}{{ counted[measure.name] }}
{%- elif measure.bound %}(coalesce(r.{{ measure.name.partition('_')[0] }}_ms <= {{ bounds[measure.bound] }}, false))::int::bigint
{%- elif measure.unit == 'usd' %}coalesce(r.{{ measure.name }}, 0)
{%- else %}r.{{ measure.name }}
{%- endif %}
{%- endmacro %}
CREATE VIEW usage.record_measure AS
SELECT
    r.occurred_at,
    r.dimension_id,
{% for measure in all_measures %}
    {{ count(measure) }} AS {{ measure.name }}{{ '' if loop.last else ',' }}
{% endfor %}
FROM usage.record AS r;

-- What the rollups must hold, summed anew: verify compares with it, rebuild puts it there. Of records the hours; and the
-- days, which come with the instants at which they begin and end, as the caller's time zone data says.
{% set sums %}
{% for measure in all_measures %}
        sum({{ measure.name }}){{ '' if measure.unit == 'usd' else '::bigint' }}{{ '' if loop.last else ',' }}
{% endfor %}
{% endset %}
CREATE FUNCTION usage.hourly_from_records(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly
LANGUAGE sql STABLE AS $$
    SELECT
        date_trunc('hour', occurred_at, 'UTC'), dimension_id,
{{ sums }}    FROM usage.record_measure
    WHERE occurred_at >= since AND occurred_at < until
    GROUP BY 1, 2
$$;

CREATE FUNCTION usage.daily_from_records(days date[], begins timestamptz[], ends timestamptz[]) RETURNS SETOF usage.daily
LANGUAGE sql STABLE AS $$
    SELECT
        bound.day, dimension_id,
{{ sums }}    FROM unnest(days, begins, ends) AS bound (day, begins, ends)
    JOIN usage.record_measure ON occurred_at >= bound.begins AND occurred_at < bound.ends
    GROUP BY 1, 2
$$;

{% for table in rollups if table.of %}
{% set type = key_types[table.grain] %}
CREATE FUNCTION {{ table.recompute }}(since {{ type }}, until {{ type }}) RETURNS SETOF {{ table.name }}
LANGUAGE sql STABLE AS $$
    SELECT
        {{ table.key | join(', ') }},
{{ sums }}    FROM {{ table.of }}
    JOIN usage.dimension USING (dimension_id)
    WHERE {{ table.grain }} >= since AND {{ table.grain }} < until
    GROUP BY {{ table.key | join(', ') }}
$$;

{% endfor %}
