{# What several objects say alike. `measures` are those that views show, in their order; `all_measures` those of the
   tables. See migrations/generate.py. #}

{%- macro dimensions() -%}
u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    coalesce(k.label, k.mask) AS client_key, d.provider, d.endpoint, d.model, d.alias, d.outcome
{%- endmacro -%}

{#- All tokens of a record or a row, each once. -#}
{%- macro tokens(row='') -%}
{{ exclusive_tokens | map('prefixed', row) | join(' + ') }}
{%- endmacro -%}

{%- macro sum_of_tokens() -%}
{{ exclusive_tokens | map('called', 'sum') | join(' + ') }}
{%- endmacro -%}

{#- Whether a record has a cost and used something: then a sum of costs that it is part of is one. -#}
{%- macro used(row='') -%}
{{ row }}cost_usd > 0 OR {{ tokens(row) }} > 0
{%- endmacro -%}

{#- The measures of a row: it has a cost where a priced request of it used something. -#}
{%- macro shown() -%}
{% for measure in measures -%}
{{ 'CASE WHEN r.priced_requests > 0 THEN r.%s END AS %s' % (measure.name, measure.name) if measure.unit == 'usd' else 'r.' ~ measure.name }}
{{- '' if loop.last else ',
    ' }}
{%- endfor %}
{%- endmacro -%}

{#- The columns of a composite type after its key. -#}
{%- macro measure_columns() -%}
{% for m in measures %}    {{ m.name }} {{ m.sql_type }}{{ '' if loop.last else ',\n' }}{% endfor %}
{%- endmacro -%}

{%- macro requests_that(condition) -%}
coalesce(sum(requests) FILTER (WHERE {{ condition }}), 0)::bigint
{%- endmacro -%}

{%- macro rate_of(outcome) -%}
round(100 * coalesce(sum(requests) FILTER (WHERE outcome = '{{ outcome }}'), 0)
              / nullif(sum(requests) FILTER (WHERE outcome IN ('success', 'failed')), 0), 2)
{%- endmacro -%}

{%- macro mean(measured) -%}
round(sum({{ measured }}_ms_sum) FILTER (WHERE outcome <> 'warmup')
              / nullif(sum({{ measured }}_samples) FILTER (WHERE outcome <> 'warmup'), 0), 2)
{%- endmacro -%}

{%- macro cost(name, condition='') -%}
{% set filter = ' FILTER (WHERE ' + condition + ')' if condition else '' -%}
usage_api.v1_cost(sum({{ name }}){{ filter }}, sum(unpriced_requests){{ filter }})
{%- endmacro -%}

{#- What rows of measures and outcomes add up to: the columns of `totals`, in their order. -#}
{%- macro totals_of_rows() -%}
{{ requests_that("outcome <> 'warmup'") }} AS requests,
        {{ requests_that("outcome = 'success'") }} AS succeeded,
        {{ requests_that("outcome = 'failed'") }} AS failed,
        {{ requests_that("outcome = 'warmup'") }} AS warmups,
        {{ rate_of('success') }} AS success_rate,
        {{ rate_of('failed') }} AS error_rate,
{% for m in totals.tokens %}
        coalesce(sum({{ m }}), 0)::bigint AS {{ m }},
{% endfor %}
        coalesce({{ sum_of_tokens() }}, 0)::bigint AS tokens,
        round(100 * sum(cache_read_tokens)
              / nullif(sum(uncached_input_tokens) + sum(cache_read_tokens) + sum(cache_write_tokens), 0), 2)
            AS cache_hit_rate,
{% for m in totals.costs %}
        {{ cost(m) }} AS {{ m }},
{% endfor %}
        coalesce(sum(unpriced_requests), 0)::bigint AS unpriced_requests,
        {{ mean('latency') }} AS mean_latency_ms,
        {{ mean('ttft') }} AS mean_ttft_ms,
        {{ requests_that("outcome = 'cancelled'") }} AS cancelled,
        {{ cost('estimated_cost_usd') }} AS estimated_cost_usd
{%- for m in totals.later %},
        {% if m in costs %}{{ cost(m) }}{% else %}coalesce(sum({{ m }}), 0)::bigint{% endif %} AS {{ m }}
{%- endfor %}
{%- endmacro -%}

{%- macro totals_columns() -%}
{% for name, type in totals.columns.items() %}    {{ name }} {{ type }}{{ '' if loop.last else ',\n' }}{% endfor %}
{%- endmacro -%}

{#- One condition for each dimension that a function is asked for; NULL asks for all. -#}
{%- macro asked_for(function, names, indent=10, first='AND') -%}
{% for name in names %}
{{ '' if loop.first else '\n' + ' ' * indent }}{{ first if loop.first else 'AND' }} ({{ function }}.of_{{ name }} IS NULL OR {{ name }} = {{ function }}.of_{{ name }})
{%- endfor %}
{%- endmacro -%}
