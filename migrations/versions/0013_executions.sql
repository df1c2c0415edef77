-- What v8 tells of an attempt. A record that comes with an execution id is itself by that and its model; base_key is
-- what it would go by without, so that the same attempt told without one is not counted again.

ALTER TABLE usage.record
    ADD COLUMN execution_id text,
    ADD COLUMN base_key bytea,
    ADD COLUMN stream boolean,
    ADD COLUMN session_id text,
    ADD COLUMN parent_session_id text,
    ADD COLUMN response_model text,
    ADD COLUMN cache_write_1h_tokens bigint;
COMMENT ON COLUMN usage.record.base_key IS 'What event_key would be without execution id and place among equal ones of a payload; NULL where it is that.';

ALTER TABLE usage.upstream
    ADD COLUMN without_execution_until timestamptz,
    ADD COLUMN with_execution_from timestamptz;
COMMENT ON COLUMN usage.upstream.without_execution_until IS 'No record without an execution id began later.';
COMMENT ON COLUMN usage.upstream.with_execution_from IS 'No record with an execution id began earlier; NULL when there is none.';
UPDATE usage.upstream SET without_execution_until = greatest(newest_record_at, future_record_at);

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

ALTER TYPE usage_api.v1_record
    ADD ATTRIBUTE execution_id text,
    ADD ATTRIBUTE stream boolean,
    ADD ATTRIBUTE session_id text,
    ADD ATTRIBUTE parent_session_id text,
    ADD ATTRIBUTE response_model text,
    ADD ATTRIBUTE cache_write_1h_tokens bigint;

DO $migration$
DECLARE
    told record;
BEGIN
    EXECUTE replace(
        pg_get_functiondef('usage_api.v1_record(timestamptz, text)'::regprocedure),
        'r.estimated_cost_usd',
        'r.estimated_cost_usd, r.execution_id, r.stream, r.session_id, r.parent_session_id, r.response_model, '
        'r.cache_write_1h_tokens');
    FOR told IN SELECT * FROM (VALUES
        ('execution_id', 'What the proxy gives each attempt at an upstream, from v8 on; the records of one that used several models share it. NULL when not told.'),
        ('stream', 'Whether the client asked for a stream; NULL when not told.'),
        ('session_id', 'The session of the client that the request belongs to, as the proxy made it out; NULL when not told.'),
        ('parent_session_id', 'The session that this one was begun by, such as an agent''s; NULL when not told.'),
        ('response_model', 'The model that the upstream said it used; NULL when not told.'),
        ('cache_write_1h_tokens', 'Of cache_write_tokens, those that are kept for an hour instead of five minutes; NULL when not told.')
    ) AS columns (name, comment)
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.v1_records.%I IS %L', told.name, told.comment);
        EXECUTE format('COMMENT ON COLUMN usage_api.v1_record.%I IS %L', told.name, told.comment);
    END LOOP;
END
$migration$;

CREATE OR REPLACE VIEW usage_api.v1_client_keys AS
SELECT u.name AS upstream, coalesce(k.label, k.mask) AS client_key, k.mask, k.first_seen_at, k.last_seen_at,
       k.client_key_id,
       k.mask ~ '^([^\s*]{4}\*{3}[^\s*]{4}|[^\s*]{2}\*{3})$' AS perhaps_several
FROM usage.client_key AS k
JOIN usage.upstream AS u USING (upstream_id);
COMMENT ON COLUMN usage_api.v1_client_keys.perhaps_several IS 'Whether the proxy masks client keys, as forks do: several keys may look like this one.';

-- -- Sessions ------------------------------------------------------------------------------------------------------

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
        SELECT *, cost_usd > 0 OR uncached_input_tokens + cache_read_tokens + cache_write_tokens
            + billed_output_tokens + unclassified_tokens > 0 AS used
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
DO $migration$
DECLARE
    told record;
    role text;
BEGIN
    FOR told IN SELECT * FROM (VALUES
        ('upstream', 'Name of the proxy instance the usage was pulled from.'),
        ('client_key', 'Label or mask of the client''s own API key; never the key.'),
        ('session_id', 'The session, as the proxy made it out.'),
        ('parent_session_id', 'The session that this one was begun by; NULL when there is none.'),
        ('first_at', 'When its first request in the window began.'),
        ('last_at', 'When its last request in the window began.'),
        ('requests', 'Number of attempts, whatever became of them.'),
        ('failed', 'Of them, those that failed.'),
        ('cancelled', 'Of them, those that the client cancelled.'),
        ('models', 'How many models they used.'),
        ('total_tokens', 'Total tokens as reported.'),
        ('uncached_input_tokens', 'Input tokens that were neither read from nor written to a cache.'),
        ('cache_read_tokens', 'Input tokens read from a cache.'),
        ('cache_write_tokens', 'Input tokens written to a cache.'),
        ('billed_output_tokens', 'Output tokens including reasoning.'),
        ('unclassified_tokens', 'Tokens that are known only as a sum.'),
        ('cost_usd', 'Cost in US dollars; NULL when something was used and nothing of it has a price.'),
        ('actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL as cost_usd.'),
        ('unpriced_requests', 'Number of attempts without a cost.'),
        ('estimated_cost_usd', 'The part of cost_usd by prices that are an estimate.')
    ) AS columns (name, comment)
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.v1_sessions.%I IS %L', told.name, told.comment);
    END LOOP;
    FOREACH role IN ARRAY ARRAY['usage_reader', 'usage_writer'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION usage_api.v1_sessions(timestamptz, timestamptz, text, text, text, text, integer) TO %I', role);
        END IF;
    END LOOP;
END
$migration$;
