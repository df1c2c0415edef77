{% import 'macros.sql' as m with context %}
-- -- Views ---------------------------------------------------------------------------------------------------------

{% macro everything(name, table, grain) %}
CREATE VIEW usage_api.{{ name }} AS
SELECT
    r.{{ grain }}, {{ m.dimensions() }},
    {{ m.shown() }}
FROM usage.{{ table }} AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0;
{% endmacro %}
{% macro by_client_key(name, table, grain) %}
CREATE VIEW usage_api.{{ name }} AS
SELECT
    r.{{ grain }}, u.name AS upstream, coalesce(k.label, k.mask) AS client_key, r.outcome,
    {{ m.shown() }}
FROM usage.{{ table }} AS r
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;
{% endmacro %}
{{ everything('v1_daily', 'daily', 'day') }}
{{ everything('v1_hourly', 'hourly', 'hour') }}
CREATE VIEW usage_api.v1_daily_channels AS
SELECT
    r.day, u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    r.model, r.outcome,
    {{ m.shown() }}
FROM usage.daily_channel AS r
JOIN usage.channel AS c USING (channel_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;

{{ by_client_key('v1_daily_keys', 'daily_key', 'day') }}
{{ by_client_key('v1_hourly_keys', 'hourly_key', 'hour') }}
-- One record as the measures that it adds to an hour: a cost is one where something was used.
CREATE VIEW usage_api.v1_record_measures AS
SELECT
    r.occurred_at, {{ m.dimensions() }},
    {{ m.shown() }}
FROM usage.record_measure AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

-- Joins that can be left out when nothing of them is asked for: every id has its row, so that the rows are the same. A
-- batch may be forgotten before its last record is.
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
    CASE WHEN r.channel_rule = 'ambiguous' THEN o.candidates END AS channel_candidates,
    r.price_id,
    r.event_key, r.dimension_id, d.channel_id, d.client_key_id, r.origin_id,
    r.response_service_tier,
    r.cost_estimated,
    CASE WHEN r.cost_estimated THEN r.cost_usd WHEN r.cost_usd IS NOT NULL THEN 0 END AS estimated_cost_usd,
    r.execution_id, r.stream, r.session_id, r.parent_session_id, r.response_model, r.cache_write_1h_tokens
FROM usage.record AS r
LEFT JOIN usage.dimension AS d USING (dimension_id)
LEFT JOIN usage.channel AS c USING (channel_id)
LEFT JOIN usage.client_key AS k USING (client_key_id)
LEFT JOIN usage.origin AS o USING (origin_id)
LEFT JOIN usage.batch AS b USING (batch_id)
LEFT JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

CREATE VIEW usage_api.v1_dimensions AS
SELECT
    d.dimension_id,
    {{ m.dimensions() }},
    d.channel_id, d.client_key_id
FROM usage.dimension AS d
LEFT JOIN usage.channel AS c USING (channel_id)
LEFT JOIN usage.client_key AS k USING (client_key_id)
LEFT JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

CREATE VIEW usage_api.v1_channels AS
SELECT u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
       c.name AS configured_name, c.configured, coalesce(l.label, l.name) AS linked_to,
       coalesce((SELECT x.rate_multiplier FROM usage.channel_rate AS x
                 WHERE x.channel_id = c.channel_id AND x.valid_from <= now()
                 ORDER BY x.valid_from DESC LIMIT 1), 1) AS rate_multiplier,
       c.first_seen_at, c.last_seen_at, c.channel_id
FROM usage.channel AS c
JOIN usage.upstream AS u USING (upstream_id)
LEFT JOIN usage.channel AS l ON l.channel_id = c.linked_to;

-- The masks of forks, and those of CLIProxyAPIHome, are what several keys may look like.
CREATE VIEW usage_api.v1_client_keys AS
SELECT u.name AS upstream, coalesce(k.label, k.mask) AS client_key, k.mask, k.first_seen_at, k.last_seen_at,
       k.client_key_id,
       k.mask ~ '^([^\s*]{4}(\*{3}|\.{3})[^\s*]{4}|[^\s*]{2}\*{3}|\*{4})$' AS perhaps_several
FROM usage.client_key AS k
JOIN usage.upstream AS u USING (upstream_id);

CREATE VIEW usage_api.v1_prices AS
SELECT price_id, source, model, vendor, provider, channel, service_tier, above_input_tokens,
       valid_from, valid_to, hours_from, hours_to,
       input_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok, request_usd,
       origin, entered_at, dropped_at, estimated, cache_write_1h_usd_per_mtok
FROM usage.price;

CREATE VIEW usage_api.v1_sync_runs AS
SELECT s.run_id, u.name AS upstream, s.kind, s.mode, s.started_at, s.finished_at,
       s.pulled, s.inserted, s.duplicates, s.quarantined, s.unknown_channel, s.possible_loss,
       s.statistics_enabled, s.error, s.too_old
FROM usage.sync_run AS s
JOIN usage.upstream AS u USING (upstream_id);

-- Freshness goes by what is not from the future: one record of next year must not hide until then that nothing comes
-- any more. A proxy's clock may be a quarter of an hour ahead of the database's.
CREATE VIEW usage_api.v1_freshness AS
SELECT
    u.name AS upstream,
    last_pass.finished_at AS last_pass_at,
    last_success.finished_at AS last_success_at,
    CASE WHEN u.future_record_at <= now() + interval '15 minutes'
        THEN greatest(u.newest_record_at, u.future_record_at) ELSE u.newest_record_at END AS newest_record_at,
    coalesce(last_pass.journal_entries, 0) AS journal_entries,
    coalesce(last_pass.journal_bytes, 0) AS journal_bytes,
    (SELECT value FROM usage.setting WHERE key = 'timezone') AS timezone,
    u.records_complete_from,
    u.records_dropped_before,
    last_failure.finished_at AS last_failure_at,
    last_failure.error AS last_error,
    CASE WHEN u.future_record_at > now() + interval '15 minutes' THEN u.future_record_at END AS future_record_at
FROM usage.upstream AS u
LEFT JOIN LATERAL (
    SELECT finished_at, journal_entries, journal_bytes FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL
    ORDER BY s.run_id DESC LIMIT 1
) AS last_pass ON true
LEFT JOIN LATERAL (
    SELECT finished_at FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL AND s.error IS NULL
    ORDER BY s.run_id DESC LIMIT 1
) AS last_success ON true
LEFT JOIN LATERAL (
    SELECT finished_at, error FROM usage.sync_run AS s
    WHERE s.upstream_id = u.upstream_id AND s.kind = 'sync' AND s.finished_at IS NOT NULL AND s.error IS NOT NULL
    ORDER BY s.run_id DESC LIMIT 1
) AS last_failure ON true;

CREATE VIEW usage_api.v1_timezone AS
SELECT coalesce((SELECT value FROM usage.setting WHERE key = 'timezone'), 'UTC') AS timezone;
