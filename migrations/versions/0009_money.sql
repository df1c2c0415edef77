-- Service tiers as asked for and as billed; costs that are estimates; sums that have a cost only where something that
-- was used has a price; requests that the client cancelled; finer and longer bounds of the histograms.

-- What of a price is an estimate. Nothing of those that are here, which the first sync reads anew.
ALTER TABLE usage.price ADD COLUMN estimated text NOT NULL DEFAULT '' CHECK (estimated IN ('', 'cache_write', 'all'));
CREATE OR REPLACE VIEW usage_api.v1_prices AS
SELECT price_id, source, model, vendor, provider, channel, service_tier, above_input_tokens,
       valid_from, valid_to, hours_from, hours_to,
       input_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok, request_usd,
       origin, entered_at, dropped_at, estimated
FROM usage.price;
COMMENT ON COLUMN usage_api.v1_prices.service_tier IS 'The service tier it is for; empty for the standard one, * for every one without a price of its own.';
COMMENT ON COLUMN usage_api.v1_prices.estimated IS 'What of it is an estimate: nothing (empty), its rate for cache_write, or all. It may be one as well for requests that another vendor served.';
COMMENT ON COLUMN usage_api.v1_records.price_id IS 'The price it was charged by, in v1_prices; NULL when it has no cost, or costs nothing for having consumed nothing or being served for nothing.';

ALTER TABLE usage.record
    ADD COLUMN response_service_tier text NOT NULL DEFAULT '',
    ADD COLUMN cost_estimated boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN usage.record.service_tier IS 'What was asked for; of records that were loaded before response_service_tier was kept, what the upstream said it used where it said so.';

ALTER TABLE usage.dimension DROP CONSTRAINT dimension_outcome_check;
ALTER TABLE usage.dimension ADD CONSTRAINT dimension_outcome_check
    CHECK (outcome IN ('success', 'failed', 'warmup', 'cancelled'));

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

DO $migration$
DECLARE
    measures text[] := ARRAY[  -- as the views have them; the tables have priced_requests behind them
        'requests', 'input_tokens', 'output_tokens', 'reasoning_tokens', 'cached_tokens', 'total_tokens',
        'uncached_input_tokens', 'cache_read_tokens', 'cache_write_tokens', 'billed_output_tokens',
        'unclassified_tokens', 'cost_usd', 'actual_cost_usd', 'cache_read_cost_usd', 'cache_write_cost_usd',
        'unpriced_requests', 'latency_ms_sum', 'latency_samples', 'ttft_ms_sum', 'ttft_samples',
        'latency_le_500ms', 'latency_le_1s', 'latency_le_2500ms', 'latency_le_5s', 'latency_le_10s',
        'latency_le_30s', 'latency_le_60s', 'latency_le_120s', 'latency_le_300s',
        'ttft_le_500ms', 'ttft_le_1s', 'ttft_le_2500ms', 'ttft_le_5s', 'ttft_le_10s',
        'ttft_le_30s', 'ttft_le_60s', 'ttft_le_120s', 'ttft_le_300s',
        'estimated_cost_usd',
        'latency_le_50ms', 'latency_le_100ms', 'latency_le_250ms', 'latency_le_600s', 'latency_le_1200s',
        'ttft_le_50ms', 'ttft_le_100ms', 'ttft_le_250ms', 'ttft_le_600s', 'ttft_le_1200s'];
    new_measures text[] := measures[39:];
    -- NULL where the records were dropped before they were counted.
    may_be_unknown text := '^ttft_le_|_le_(50ms|100ms|250ms|600s|1200s)$';
    table_name text;
    type_name text;
    lists text[][];
    list text[];
    statement text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['hourly', 'daily', 'daily_channel', 'daily_key', 'hourly_key'] LOOP
        EXECUTE format('ALTER TABLE usage.%I ADD COLUMN estimated_cost_usd numeric NOT NULL DEFAULT 0, %s, '
                       'ADD COLUMN priced_requests bigint NOT NULL DEFAULT 0', table_name,
                       (SELECT string_agg(format('ADD COLUMN %I bigint', m), ', ' ORDER BY place)
                        FROM unnest(new_measures[2:]) WITH ORDINALITY AS n (m, place)));
        EXECUTE format('ALTER TABLE usage.%I ALTER COLUMN estimated_cost_usd DROP DEFAULT, '
                       'ALTER COLUMN priced_requests DROP DEFAULT', table_name);
        EXECUTE format('COMMENT ON COLUMN usage.%I.priced_requests IS %L', table_name,
                       'Requests with a cost that used something. Where the records had been dropped before it was '
                       'counted, only whether there is one: then all that have a cost, or none.');
    END LOOP;
    FOREACH type_name IN ARRAY ARRAY['v1_usage', 'v1_channel_usage', 'v1_key_usage', 'v1_series', 'v1_key_series'] LOOP
        EXECUTE format('ALTER TYPE usage_api.%I ADD ATTRIBUTE estimated_cost_usd numeric, %s', type_name,
                       (SELECT string_agg(format('ADD ATTRIBUTE %I bigint', m), ', ' ORDER BY place)
                        FROM unnest(new_measures[2:]) WITH ORDINALITY AS n (m, place)));
    END LOOP;

    -- A statement below names these lists in braces.
    SELECT ARRAY[
        ['{sums of records}', string_agg(
            CASE WHEN m LIKE '%cost_usd' THEN format('sum(%I)', m) ELSE format('sum(%I)::bigint', m) END,
            ', ' ORDER BY place)],
        ['{sums of sums}', string_agg(
            CASE WHEN m LIKE '%cost_usd' THEN format('sum(%I)', m)
                 WHEN m ~ may_be_unknown THEN format('CASE WHEN count(%1$I) = count(*) THEN sum(%1$I)::bigint END', m)
                 ELSE format('sum(%I)::bigint', m) END,
            ', ' ORDER BY place)],
        ['{measures}', string_agg(
            CASE WHEN m LIKE '%cost_usd' THEN format('CASE WHEN r.priced_requests > 0 THEN r.%1$I END AS %1$I', m)
                 ELSE format('r.%I', m) END,
            ', ' ORDER BY place) FILTER (WHERE m <> 'priced_requests')]
    ] INTO lists
    FROM unnest(measures || ARRAY['priced_requests']) WITH ORDINALITY AS n (m, place);
    SELECT lists || ARRAY[
        ['{histograms}', string_agg(
            format('(coalesce(r.%1$s_ms <= %2$s, false))::int::bigint AS %1$s_le_%3$s', measure, bound_ms, name),
            ', ' ORDER BY measure, place) FILTER (WHERE place <= 9)],
        ['{more histograms}', string_agg(
            format('(coalesce(r.%1$s_ms <= %2$s, false))::int::bigint AS %1$s_le_%3$s', measure, bound_ms, name),
            ', ' ORDER BY measure, place) FILTER (WHERE place > 9)],
        ['{uses something}',
            'r.cost_usd IS NOT NULL AND (r.cost_usd > 0 OR r.uncached_input_tokens + r.cache_read_tokens '
            '+ r.cache_write_tokens + r.billed_output_tokens + r.unclassified_tokens > 0)'],
        ['{dimensions}',
            'u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind, '
            'coalesce(k.label, k.mask) AS client_key, d.provider, d.endpoint, d.model, d.alias, d.outcome']
    ] INTO lists
    FROM unnest(ARRAY['500ms', '1s', '2500ms', '5s', '10s', '30s', '60s', '120s', '300s',
                      '50ms', '100ms', '250ms', '600s', '1200s'],
                ARRAY[500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000,
                      50, 100, 250, 600000, 1200000]) WITH ORDINALITY AS bound (name, bound_ms, place)
    CROSS JOIN (VALUES ('latency'), ('ttft')) AS measured (measure);

    FOREACH statement IN ARRAY ARRAY[$sql$
CREATE OR REPLACE VIEW usage.record_measure AS
SELECT
    r.occurred_at,
    r.dimension_id,
    1::bigint AS requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    coalesce(r.cost_usd, 0) AS cost_usd,
    coalesce(r.actual_cost_usd, 0) AS actual_cost_usd,
    coalesce(r.cache_read_cost_usd, 0) AS cache_read_cost_usd,
    coalesce(r.cache_write_cost_usd, 0) AS cache_write_cost_usd,
    (r.cost_usd IS NULL)::int::bigint AS unpriced_requests,
    coalesce(r.latency_ms, 0) AS latency_ms_sum,
    (r.latency_ms IS NOT NULL)::int::bigint AS latency_samples,
    coalesce(r.ttft_ms, 0) AS ttft_ms_sum,
    (r.ttft_ms IS NOT NULL)::int::bigint AS ttft_samples,
    {histograms},
    CASE WHEN r.cost_estimated THEN coalesce(r.cost_usd, 0) ELSE 0 END AS estimated_cost_usd,
    {more histograms},
    ({uses something})::int::bigint AS priced_requests
FROM usage.record AS r
$sql$, $sql$
CREATE OR REPLACE FUNCTION usage.hourly_from_records(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly
LANGUAGE sql STABLE AS $$
    SELECT date_trunc('hour', occurred_at, 'UTC'), dimension_id, {sums of records}
    FROM usage.record_measure
    WHERE occurred_at >= since AND occurred_at < until
    GROUP BY 1, 2
$$
$sql$, $sql$
CREATE OR REPLACE FUNCTION usage.daily_from_records(days date[], begins timestamptz[], ends timestamptz[]) RETURNS SETOF usage.daily
LANGUAGE sql STABLE AS $$
    SELECT bound.day, dimension_id, {sums of records}
    FROM unnest(days, begins, ends) AS bound (day, begins, ends)
    JOIN usage.record_measure ON occurred_at >= bound.begins AND occurred_at < bound.ends
    GROUP BY 1, 2
$$
$sql$, $sql$
CREATE OR REPLACE FUNCTION usage.daily_channel_from_daily(since date, until date) RETURNS SETOF usage.daily_channel
LANGUAGE sql STABLE AS $$
    SELECT day, channel_id, model, outcome, {sums of sums}
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day >= since AND day < until
    GROUP BY 1, 2, 3, 4
$$
$sql$, $sql$
CREATE OR REPLACE FUNCTION usage.daily_key_from_daily(since date, until date) RETURNS SETOF usage.daily_key
LANGUAGE sql STABLE AS $$
    SELECT day, client_key_id, outcome, {sums of sums}
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day >= since AND day < until
    GROUP BY 1, 2, 3
$$
$sql$, $sql$
CREATE OR REPLACE FUNCTION usage.hourly_key_from_hourly(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly_key
LANGUAGE sql STABLE AS $$
    SELECT hour, client_key_id, outcome, {sums of sums}
    FROM usage.hourly
    JOIN usage.dimension USING (dimension_id)
    WHERE hour >= since AND hour < until
    GROUP BY 1, 2, 3
$$
$sql$, $sql$
CREATE OR REPLACE VIEW usage_api.v1_daily AS
SELECT r.day, {dimensions}, {measures}
FROM usage.daily AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0
$sql$, $sql$
CREATE OR REPLACE VIEW usage_api.v1_hourly AS
SELECT r.hour, {dimensions}, {measures}
FROM usage.hourly AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0
$sql$, $sql$
CREATE OR REPLACE VIEW usage_api.v1_daily_channels AS
SELECT
    r.day, u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
    r.model, r.outcome, {measures}
FROM usage.daily_channel AS r
JOIN usage.channel AS c USING (channel_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0
$sql$, $sql$
CREATE OR REPLACE VIEW usage_api.v1_daily_keys AS
SELECT r.day, u.name AS upstream, coalesce(k.label, k.mask) AS client_key, r.outcome, {measures}
FROM usage.daily_key AS r
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0
$sql$, $sql$
CREATE OR REPLACE VIEW usage_api.v1_hourly_keys AS
SELECT r.hour, u.name AS upstream, coalesce(k.label, k.mask) AS client_key, r.outcome, {measures}
FROM usage.hourly_key AS r
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0
$sql$, $sql$
CREATE OR REPLACE VIEW usage_api.v1_record_measures AS
SELECT
    r.occurred_at, {dimensions},
    1::bigint AS requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN {uses something} THEN r.cost_usd END AS cost_usd,
    CASE WHEN {uses something} THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN {uses something} THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN {uses something} THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    (r.cost_usd IS NULL)::int::bigint AS unpriced_requests,
    coalesce(r.latency_ms, 0) AS latency_ms_sum,
    (r.latency_ms IS NOT NULL)::int::bigint AS latency_samples,
    coalesce(r.ttft_ms, 0) AS ttft_ms_sum,
    (r.ttft_ms IS NOT NULL)::int::bigint AS ttft_samples,
    {histograms},
    CASE WHEN {uses something} THEN CASE WHEN r.cost_estimated THEN r.cost_usd ELSE 0 END END AS estimated_cost_usd,
    {more histograms}
FROM usage.record AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
$sql$] LOOP
        FOREACH list SLICE 1 IN ARRAY lists LOOP
            statement := replace(statement, list[1], list[2]);
        END LOOP;
        EXECUTE statement;
    END LOOP;
END
$migration$;

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
    CASE WHEN r.cost_estimated THEN r.cost_usd WHEN r.cost_usd IS NOT NULL THEN 0 END AS estimated_cost_usd
FROM usage.record AS r
LEFT JOIN usage.dimension AS d USING (dimension_id)
LEFT JOIN usage.channel AS c USING (channel_id)
LEFT JOIN usage.client_key AS k USING (client_key_id)
LEFT JOIN usage.origin AS o USING (origin_id)
LEFT JOIN usage.batch AS b USING (batch_id)
LEFT JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;

-- -- What is stored ------------------------------------------------------------------------------------------------
--
-- Failures with the status 499 are cancelled requests, on the days whose records are all here. (What else the body of
-- an error said was never kept.) Hours and days whose records are here are summed anew. Of the others, what was told
-- stays: the finer bounds are known only where all requests, or none, lie within the coarse one beside them.

DO $migration$
DECLARE
    zone text := coalesce((SELECT value FROM usage.setting WHERE key = 'timezone'), 'UTC');
    first_hour timestamptz := coalesce((SELECT max(records_dropped_before) FROM usage.upstream), '-infinity');
    first_day date := coalesce((SELECT max(records_complete_from) FROM usage.upstream), '-infinity');
    begins timestamptz := '-infinity';
    old_ids integer[];
    sums_of_records text;
    table_name text;
    kept text;
BEGIN
    IF first_day > '-infinity' THEN
        begins := usage_api.v1_day_begin(first_day, zone);
    END IF;

    SELECT array_agg(DISTINCT dimension_id) INTO old_ids
    FROM usage.record JOIN usage.dimension USING (dimension_id)
    WHERE status_code = 499 AND outcome = 'failed' AND occurred_at >= begins;
    IF old_ids IS NOT NULL THEN
        INSERT INTO usage.dimension (channel_id, client_key_id, provider, endpoint, model, alias, outcome)
        SELECT channel_id, client_key_id, provider, endpoint, model, alias, 'cancelled'
        FROM usage.dimension WHERE dimension_id = ANY(old_ids) ORDER BY dimension_id;
        UPDATE usage.record AS r SET dimension_id = becomes.dimension_id
        FROM usage.dimension AS was
        JOIN usage.dimension AS becomes
            USING (channel_id, client_key_id, provider, endpoint, model, alias)
        WHERE was.dimension_id = ANY(old_ids) AND becomes.outcome = 'cancelled'
          AND r.dimension_id = was.dimension_id AND r.status_code = 499 AND r.occurred_at >= begins;
    END IF;

    FOREACH table_name IN ARRAY ARRAY['hourly', 'daily'] LOOP
        IF table_name = 'hourly' THEN
            kept := format('r.hour < %L', first_hour);
            IF first_hour = '-infinity' THEN
                TRUNCATE usage.hourly;
            ELSE
                DELETE FROM usage.hourly WHERE hour >= first_hour;
            END IF;
            INSERT INTO usage.hourly SELECT * FROM usage.hourly_from_records(first_hour, 'infinity') ORDER BY 1, 2;
        ELSE
            kept := format('r.day < %L', first_day);
            IF first_day = '-infinity' THEN
                TRUNCATE usage.daily;
            ELSE
                DELETE FROM usage.daily WHERE day >= first_day;
            END IF;
            SELECT string_agg(CASE WHEN format_type(atttypid, NULL) = 'numeric' THEN format('sum(%I)', attname)
                                   ELSE format('sum(%I)::bigint', attname) END, ', ' ORDER BY attnum)
            INTO sums_of_records
            FROM pg_attribute WHERE attrelid = 'usage.daily'::regclass AND attnum > 2 AND NOT attisdropped;
            EXECUTE format('INSERT INTO usage.daily SELECT (occurred_at AT TIME ZONE %L)::date, dimension_id, %s '
                           'FROM usage.record_measure WHERE occurred_at >= %L GROUP BY 1, 2 ORDER BY 1, 2',
                           zone, sums_of_records, begins);
        END IF;
        EXECUTE format(
            'UPDATE usage.%I AS r SET
                priced_requests = CASE
                    WHEN cost_usd > 0 OR (unpriced_requests < requests AND uncached_input_tokens + cache_read_tokens + cache_write_tokens
                                                + billed_output_tokens + unclassified_tokens > 0
                                          AND (unpriced_requests = 0 OR d.outcome = ''success''))
                    THEN requests - unpriced_requests ELSE 0 END,
                latency_le_50ms = CASE WHEN latency_le_500ms = 0 THEN 0 END,
                latency_le_100ms = CASE WHEN latency_le_500ms = 0 THEN 0 END,
                latency_le_250ms = CASE WHEN latency_le_500ms = 0 THEN 0 END,
                latency_le_600s = CASE WHEN latency_le_300s = latency_samples THEN latency_samples END,
                latency_le_1200s = CASE WHEN latency_le_300s = latency_samples THEN latency_samples END,
                ttft_le_50ms = CASE WHEN ttft_le_500ms = 0 THEN 0 END,
                ttft_le_100ms = CASE WHEN ttft_le_500ms = 0 THEN 0 END,
                ttft_le_250ms = CASE WHEN ttft_le_500ms = 0 THEN 0 END,
                ttft_le_600s = CASE WHEN ttft_le_300s = ttft_samples THEN ttft_samples END,
                ttft_le_1200s = CASE WHEN ttft_le_300s = ttft_samples THEN ttft_samples END
             FROM usage.dimension AS d
             WHERE d.dimension_id = r.dimension_id AND (%s)',
            table_name, kept);
    END LOOP;

    TRUNCATE usage.daily_channel, usage.daily_key, usage.hourly_key;
    INSERT INTO usage.daily_channel SELECT * FROM usage.daily_channel_from_daily('-infinity', 'infinity') ORDER BY 1, 2, 3, 4;
    INSERT INTO usage.daily_key SELECT * FROM usage.daily_key_from_daily('-infinity', 'infinity') ORDER BY 1, 2, 3;
    INSERT INTO usage.hourly_key SELECT * FROM usage.hourly_key_from_hourly('-infinity', 'infinity') ORDER BY 1, 2, 3;
END
$migration$;

-- -- The figures ---------------------------------------------------------------------------------------------------

ALTER TYPE usage_api.v1_attempts_around ADD ATTRIBUTE estimated_cost_usd numeric;
ALTER TYPE usage_api.v1_attempts ADD ATTRIBUTE estimated_cost_usd numeric;
ALTER TYPE usage_api.v1_logical_requests ADD ATTRIBUTE estimated_cost_usd numeric;
ALTER TYPE usage_api.v1_fallbacks ADD ATTRIBUTE final_cancelled bigint;
ALTER TYPE usage_api.v1_record
    ADD ATTRIBUTE response_service_tier text,
    ADD ATTRIBUTE cost_estimated boolean,
    ADD ATTRIBUTE estimated_cost_usd numeric;
ALTER TYPE usage_api.v1_heatmap ADD ATTRIBUTE cancelled bigint, ADD ATTRIBUTE estimated_cost_usd numeric;
ALTER TYPE usage_api.v1_dashboard
    ADD ATTRIBUTE total_cancelled bigint,
    ADD ATTRIBUTE total_estimated_cost_usd numeric,
    ADD ATTRIBUTE today_cancelled bigint,
    ADD ATTRIBUTE today_estimated_cost_usd numeric;
ALTER TYPE usage_api.v1_calls ADD ATTRIBUTE cancelled bigint;
DO $migration$
DECLARE
    type_name text;
BEGIN
    FOREACH type_name IN ARRAY ARRAY[
        'v1_totals', 'v1_summary', 'v1_by_model', 'v1_by_alias', 'v1_by_client_key', 'v1_by_channel',
        'v1_by_channel_and_model', 'v1_by_channel_group', 'v1_by_endpoint', 'v1_client_key_models',
        'v1_channel_statistics', 'v1_trend'
    ] LOOP
        EXECUTE format('ALTER TYPE usage_api.%I ADD ATTRIBUTE cancelled bigint, '
                       'ADD ATTRIBUTE estimated_cost_usd numeric', type_name);
    END LOOP;
END
$migration$;

-- No body is written a second time for a column more: what changes in it is replaced, wherever it stands. A pattern
-- that is found nowhere is an error.
DO $migration$
DECLARE
    measures text := 'estimated_cost_usd, latency_le_50ms, latency_le_100ms, latency_le_250ms, latency_le_600s, '
                     'latency_le_1200s, ttft_le_50ms, ttft_le_100ms, ttft_le_250ms, ttft_le_600s, ttft_le_1200s';
    measured text[] := ARRAY['v1_usage', 'v1_channel_usage', 'v1_key_usage', 'v1_series', 'v1_key_series'];
    summed text[] := ARRAY['v1_totals', 'v1_channel_statistics', 'v1_trend'];
    passed_on text[] := ARRAY[
        'v1_summary', 'v1_by_model', 'v1_by_alias', 'v1_by_client_key', 'v1_by_channel', 'v1_by_channel_and_model',
        'v1_by_channel_group', 'v1_by_endpoint', 'v1_client_key_models'];
    requests_that_ended text := 'outcome IN (''success'', ''failed'')';
    function_name text;
    body text;
    becomes text;
    change record;
BEGIN
    FOR function_name, body IN
        SELECT p.proname, pg_get_functiondef(p.oid) FROM pg_proc AS p
        WHERE p.pronamespace = 'usage_api'::regnamespace AND p.prokind = 'f'
    LOOP
        becomes := body;
        FOR change IN
            SELECT * FROM (VALUES
                (measured, 'ttft_le_300s\M', 'ttft_le_300s, ' || measures),
                (ARRAY['v1_cut_series'], 'sum\(m\.ttft_le_300s\)::bigint',
                 'sum(m.ttft_le_300s)::bigint, sum(m.estimated_cost_usd)'
                 || (SELECT string_agg(format(', sum(m.%s)::bigint', m), '' ORDER BY place)
                     FROM regexp_split_to_table(measures, ', ') WITH ORDINALITY AS n (m, place)
                     WHERE place > 1)),
                (passed_on, 'mean_ttft_ms\M', 'mean_ttft_ms, cancelled, estimated_cost_usd'),
                -- the cost of a sum
                (summed || ARRAY['v1_dashboard'],
                 'coalesce\(sum\((\w+)\), CASE WHEN coalesce\(sum\(requests\), 0\) = 0 THEN 0 END\)',
                 'usage_api.v1_cost(sum(\1), sum(unpriced_requests))'),
                -- what the client cancelled is neither a success nor an error
                (summed, '/ nullif\(sum\(requests\) FILTER \(WHERE outcome <> ''warmup''\), 0\)',
                 '/ nullif(sum(requests) FILTER (WHERE ' || requests_that_ended || '), 0)'),
                (summed, 'AS mean_ttft_ms',
                 'AS mean_ttft_ms,
        coalesce(sum(requests) FILTER (WHERE outcome = ''cancelled''), 0)::bigint AS cancelled,
        usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd'),
                (ARRAY['v1_totals', 'v1_trend'], '(ttft_ms_sum,\s+ttft_samples)(\s+FROM)',
                 '\1, estimated_cost_usd\2'),
                (ARRAY['v1_totals'], '(0::bigint)(\s+WHERE NOT \(by_upstream)', '\1, NULL::numeric\2'),
                (ARRAY['v1_trend'], '(0::bigint)(\s+FROM \(\s+SELECT coalesce\(v1_trend.zone)', '\1, NULL::numeric\2'),
                (ARRAY['v1_heatmap'], 'coalesce\(max\(used\.requests\) OVER \(\), 0\)',
                 'coalesce(max(used.requests) OVER (), 0), coalesce(used.cancelled, 0),
        CASE WHEN used.day IS NULL THEN 0 ELSE used.estimated_cost_usd END'),
                (ARRAY['v1_heatmap'], 'sum\(cost_usd\) AS cost_usd, sum\(actual_cost_usd\) AS actual_cost_usd',
                 'usage_api.v1_cost(sum(cost_usd), sum(unpriced_requests)) AS cost_usd,
            usage_api.v1_cost(sum(actual_cost_usd), sum(unpriced_requests)) AS actual_cost_usd,
            usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd,
            coalesce(sum(requests) FILTER (WHERE outcome = ''cancelled''), 0)::bigint AS cancelled'),
                (ARRAY['v1_dashboard'], 'lately\.cache_tokens \* 0\.2',
                 'lately.cache_tokens * 0.2,
        ever.cancelled, ever.estimated_cost_usd, today.cancelled, today.estimated_cost_usd'),
                (ARRAY['v1_dashboard'], '(sum\(requests\) FILTER \(WHERE outcome = ''failed''\), 0\)::bigint AS failed,)',
                 '\1
            coalesce(sum(requests) FILTER (WHERE outcome = ''cancelled''), 0)::bigint AS cancelled,
            usage_api.v1_cost(sum(estimated_cost_usd), sum(unpriced_requests)) AS estimated_cost_usd,'),
                (ARRAY['v1_client_key_costs'],
                 'coalesce\(sum\(actual_cost_usd\) FILTER (\(WHERE period = ''\w+''\)),\s+'
                 'CASE WHEN coalesce\(sum\(requests\) FILTER \(WHERE period = ''\w+''\), 0\) = 0 THEN 0 END\)',
                 'usage_api.v1_cost(sum(actual_cost_usd) FILTER \1, sum(unpriced_requests) FILTER \1)'),
                (ARRAY['v1_client_key_costs'], 'requests, actual_cost_usd\M',
                 'requests, actual_cost_usd, unpriced_requests'),
                (ARRAY['v1_client_key_costs'], '0::bigint, NULL::numeric', '0::bigint, NULL::numeric, 0::bigint'),
                (ARRAY['v1_calls'], 'succeeded \+ failed, succeeded, failed, warmups',
                 'succeeded + failed + cancelled, succeeded, failed, warmups, cancelled'),
                (ARRAY['v1_calls'], '(count\(\*\) FILTER \(WHERE outcome = ''warmup''\))( AS warmups)?(\s+FROM)',
                 '\1\2, count(*) FILTER (WHERE outcome = ''cancelled'') AS cancelled\3'),
                (ARRAY['v1_calls'], '(succeeded, failed, warmups)(\s+FROM usage_api.v1_summary)', '\1, cancelled\2'),
                -- of records
                (ARRAY['v1_attempts_around'], 'client_key_id, dimension_id, origin_id, event_key(\s+FROM)',
                 'client_key_id, dimension_id, origin_id, event_key, estimated_cost_usd\1'),
                (ARRAY['v1_attempts'], 'client_key_id, dimension_id, origin_id(\s+FROM)',
                 'client_key_id, dimension_id, origin_id, estimated_cost_usd\1'),
                (ARRAY['v1_logical_requests'], 'sum\((\w*cost_usd)\) AS',
                 'usage_api.v1_cost(sum(\1) FILTER (WHERE tokens > 0 OR cost_usd > 0),
                              count(*) FILTER (WHERE cost_usd IS NULL)) AS'),
                (ARRAY['v1_logical_requests'], '(count\(\*\) FILTER \(WHERE cost_usd IS NULL\)) AS unpriced_records',
                 '\1 AS unpriced_records,
            usage_api.v1_cost(sum(estimated_cost_usd) FILTER (WHERE tokens > 0 OR cost_usd > 0), \1)
                AS estimated_cost_usd'),
                (ARRAY['v1_logical_requests'], 'q\.client_key_id(\s+FROM)', 'q.client_key_id, q.estimated_cost_usd\1'),
                (ARRAY['v1_fallbacks'],
                 '(\* count\(\*\) FILTER \(WHERE outcome = ''success''\) / nullif\(count\(\*\))(, 0\))',
                 '\1 FILTER (WHERE ' || requests_that_ended || ')\2'),
                (ARRAY['v1_fallbacks'], '(attempts > 1\) / nullif\(count\(\*\), 0\), 2\))(\s+FROM)',
                 '\1, count(*) FILTER (WHERE outcome = ''cancelled'')\2'),
                (ARRAY['v1_record'], 'a\.attempt, a\.attempts(\s+FROM)',
                 'a.attempt, a.attempts, r.response_service_tier, r.cost_estimated, r.estimated_cost_usd\1'),
                (ARRAY['v1_cache_hits'], 'sum\((cache_\w+_cost_usd)\) AS',
                 'sum(\1) FILTER (WHERE cost_usd > 0 OR uncached_input_tokens + cache_read_tokens + cache_write_tokens
                                                   + billed_output_tokens > 0) AS'),
                (ARRAY['v1_cache_hits'], 'sum\((read|write)_cost\)', 'usage_api.v1_cost(sum(\1_cost), sum(unpriced))')
            ) AS c (functions, pattern, replacement)
            WHERE function_name = ANY(functions)
        LOOP
            IF becomes !~ change.pattern THEN
                RAISE EXCEPTION 'usage_api.% does not have %', function_name, change.pattern;
            END IF;
            becomes := regexp_replace(becomes, change.pattern, change.replacement, 'g');
        END LOOP;
        IF becomes <> body THEN
            EXECUTE becomes;
        END IF;
    END LOOP;
END
$migration$;

-- From the counts of requests within each bound: the value that the given share of the requests does not exceed lies
-- between the last bound that too few requests are within and the next, and is taken for as far between them as its
-- place among the requests counted there. A bound within which it is not known how many requests are is left out.
CREATE OR REPLACE FUNCTION usage_api.v1_latency_percentiles(
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
            CASE WHEN NOT bool_or(latency_samples > 0 AND latency_le_50ms IS NULL)
                THEN ARRAY[sum(latency_le_50ms), sum(latency_le_100ms), sum(latency_le_250ms)]
                ELSE ARRAY[NULL, NULL, NULL]::numeric[] END
            || ARRAY[sum(latency_le_500ms), sum(latency_le_1s), sum(latency_le_2500ms), sum(latency_le_5s),
                     sum(latency_le_10s), sum(latency_le_30s), sum(latency_le_60s), sum(latency_le_120s),
                     sum(latency_le_300s)]
            || CASE WHEN NOT bool_or(latency_samples > 0 AND latency_le_600s IS NULL)
                THEN ARRAY[sum(latency_le_600s), sum(latency_le_1200s)] END AS latency_within,
            coalesce(sum(ttft_samples) FILTER (WHERE ttft_le_500ms IS NOT NULL), 0)::bigint AS ttft_samples,
            CASE WHEN NOT bool_or(ttft_samples > 0 AND ttft_le_500ms IS NOT NULL AND ttft_le_50ms IS NULL)
                THEN ARRAY[sum(ttft_le_50ms), sum(ttft_le_100ms), sum(ttft_le_250ms)]
                ELSE ARRAY[NULL, NULL, NULL]::numeric[] END
            || ARRAY[sum(ttft_le_500ms), sum(ttft_le_1s), sum(ttft_le_2500ms), sum(ttft_le_5s), sum(ttft_le_10s),
                     sum(ttft_le_30s), sum(ttft_le_60s), sum(ttft_le_120s), sum(ttft_le_300s)]
            || CASE WHEN NOT bool_or(ttft_samples > 0 AND ttft_le_500ms IS NOT NULL AND ttft_le_600s IS NULL)
                THEN ARRAY[sum(ttft_le_600s), sum(ttft_le_1200s)] END AS ttft_within
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
        FROM unnest(within, ARRAY[50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000, 600000,
                                  1200000]::bigint[]) AS bounds (counted, bound_ms)
        WHERE counted IS NOT NULL
    ) AS place
    CROSS JOIN LATERAL (
        SELECT round(from_ms + coalesce((to_ms - from_ms) * (share * samples - below) / (up_to - below), 0), 2) AS ms
    ) AS value
    GROUP BY measure, name, samples
    ORDER BY measure, samples DESC, name
$$;

-- -- What they are -------------------------------------------------------------------------------------------------

DO $migration$
DECLARE
    described record;
BEGIN
    FOR described IN  -- what is new
        SELECT c.relname, a.attname, shared.comment
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN (
            VALUES
                ('estimated_cost_usd', 'The part of cost_usd that is an estimate, by a price that is a guess and no vendor''s or operator''s word; NULL as cost_usd.'),
                ('cost_estimated', 'Whether the cost is an estimate, by a price that is a guess and no vendor''s or operator''s word; false where there is no cost.'),
                ('response_service_tier', 'Service tier that the upstream said it used; empty when it did not say.'),
                ('cancelled', 'Requests that the client cancelled: they are neither succeeded nor failed, and in neither rate. Their tokens and costs are counted.'),
                ('final_cancelled', 'Those whose last attempt the client cancelled: they are in no success_rate.'),
                ('total_cancelled', 'Requests ever that the client cancelled.'),
                ('today_cancelled', 'Requests on the day that the client cancelled.'),
                ('total_estimated_cost_usd', 'The part of total_cost_usd that is an estimate; NULL as it.'),
                ('today_estimated_cost_usd', 'The part of today_cost_usd that is an estimate; NULL as it.')
            UNION ALL
            SELECT measured.measure || '_le_' || bound.name,
                   format(measured.comment, bound.said)
                   || ' (cumulative); NULL where the records were dropped before this was counted.'
            FROM (VALUES ('latency', 'Requests measured at %s or less'),
                         ('ttft', 'Requests whose first token came after %s or less')) AS measured (measure, comment)
            CROSS JOIN (VALUES ('50ms', '50 ms'), ('100ms', '100 ms'), ('250ms', '250 ms'), ('600s', '600 s'),
                               ('1200s', '1200 s')) AS bound (name, said)
        ) AS shared (name, comment) ON shared.name = a.attname
        WHERE c.relnamespace = 'usage_api'::regnamespace AND col_description(c.oid, a.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L',
                       described.relname, described.attname, described.comment);
    END LOOP;
    FOR described IN  -- what means more than it did
        SELECT c.relname, a.attname, changed.becomes AS comment
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN (VALUES
            ('success, failed, or warmup (a call that asked for no generation).',
             'success, failed, cancelled (by the client), or warmup (a call that asked for no generation).'),
            ('success or failed.', 'success, failed or cancelled (by the client).'),
            ('success or failed, as the last attempt ended.', 'success, failed or cancelled, as the last attempt ended.'),
            ('Service tier: what the upstream said it used, else what was asked for.',
             'Service tier that was asked for; of records from before response_service_tier was kept, what the upstream said it used where it said so.'),
            ('Class of the error of a failed request; NULL for the others.',
             'Class of the error of a failed or cancelled request; NULL for the others.'),
            ('Class of the error of a failed attempt; NULL for the others.',
             'Class of the error of a failed or cancelled attempt; NULL for the others.'),
            ('Percentage of requests that succeeded, to two decimals; NULL where there is no request.',
             'Of the requests that succeeded or failed, the percentage that succeeded, to two decimals; NULL where there are none.'),
            ('Percentage of requests that failed, to two decimals; NULL where there is no request.',
             'Of the requests that succeeded or failed, the percentage that failed, to two decimals; NULL where there are none.'),
            ('final_succeeded of logical_requests, in percent; NULL when there were none.',
             'final_succeeded of final_succeeded and final_failed, in percent; NULL when there were none.'),
            ('Cost in US dollars of the priced requests; NULL when none has a price.',
             'Cost in US dollars of the priced requests; NULL when none that used something has a price: so costs can be added up by sum().'),
            ('Cost times the channel''s rate multiplier, in US dollars; NULL when no request has a price.',
             'Cost times the channel''s rate multiplier, in US dollars; NULL as cost_usd.'),
            ('The part of cost_usd for cache reads; NULL when no request has a price.',
             'The part of cost_usd for cache reads; NULL as cost_usd.'),
            ('The part of cost_usd for cache writes; NULL when no request has a price.',
             'The part of cost_usd for cache writes; NULL as cost_usd.')
        ) AS changed (was, becomes) ON changed.was = col_description(c.oid, a.attnum)
        WHERE c.relnamespace = 'usage_api'::regnamespace
          AND (c.relname NOT IN ('v1_records', 'v1_record') OR changed.was NOT LIKE '%cost%')
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L',
                       described.relname, described.attname, described.comment);
    END LOOP;
    FOR described IN
        SELECT name, replace(comment, 'NULL without a price.', 'NULL without a price, 0 when nothing was used.') AS comment
        FROM (VALUES
            ('cost_usd', 'Cost in US dollars; NULL without a price.'),
            ('actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL without a price.'),
            ('cache_read_cost_usd', 'The part of cost_usd for cache reads; NULL without a price.'),
            ('cache_write_cost_usd', 'The part of cost_usd for cache writes; NULL without a price.')
        ) AS cost (name, comment)
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.v1_records.%I IS %L', described.name, described.comment);
        EXECUTE format('COMMENT ON COLUMN usage_api.v1_record.%I IS %L', described.name, described.comment);
    END LOOP;
END
$migration$;
COMMENT ON COLUMN usage_api.v1_logical_requests.cost_usd IS 'Cost of the attempts that have a price, in US dollars; NULL when something was used and nothing of it has one.';
COMMENT ON COLUMN usage_api.v1_logical_requests.actual_cost_usd IS 'Cost times the channels'' rate multipliers, in US dollars; NULL as cost_usd.';
COMMENT ON COLUMN usage_api.v1_cache_hits.cache_read_cost_usd IS 'Cost of the cache reads in US dollars; NULL when something was used and nothing of it has a price.';
COMMENT ON COLUMN usage_api.v1_cache_hits.cache_write_cost_usd IS 'Cost of the cache writes in US dollars; NULL as that of the reads.';

DO $migration$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['usage_reader', 'usage_writer'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION usage_api.v1_cost(numeric, numeric) TO %I', role);
        END IF;
    END LOOP;
END
$migration$;
