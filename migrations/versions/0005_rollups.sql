-- How long first tokens take, as a histogram; and three rollups with few rows, so that a year by channel, model or
-- client key, and its hours, are a matter of milliseconds.

ALTER TABLE usage.hourly
    ADD COLUMN ttft_le_500ms bigint,
    ADD COLUMN ttft_le_1s bigint,
    ADD COLUMN ttft_le_2500ms bigint,
    ADD COLUMN ttft_le_5s bigint,
    ADD COLUMN ttft_le_10s bigint,
    ADD COLUMN ttft_le_30s bigint,
    ADD COLUMN ttft_le_60s bigint,
    ADD COLUMN ttft_le_120s bigint,
    ADD COLUMN ttft_le_300s bigint;

ALTER TABLE usage.daily
    ADD COLUMN ttft_le_500ms bigint,
    ADD COLUMN ttft_le_1s bigint,
    ADD COLUMN ttft_le_2500ms bigint,
    ADD COLUMN ttft_le_5s bigint,
    ADD COLUMN ttft_le_10s bigint,
    ADD COLUMN ttft_le_30s bigint,
    ADD COLUMN ttft_le_60s bigint,
    ADD COLUMN ttft_le_120s bigint,
    ADD COLUMN ttft_le_300s bigint;

COMMENT ON COLUMN usage.hourly.ttft_le_500ms IS 'NULL, as the next eight, where the records were dropped before this was counted.';

CREATE OR REPLACE VIEW usage.record_measure AS
SELECT
    occurred_at,
    dimension_id,
    1::bigint AS requests,
    input_tokens, output_tokens, reasoning_tokens, cached_tokens, total_tokens,
    uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens, unclassified_tokens,
    coalesce(cost_usd, 0) AS cost_usd,
    coalesce(actual_cost_usd, 0) AS actual_cost_usd,
    coalesce(cache_read_cost_usd, 0) AS cache_read_cost_usd,
    coalesce(cache_write_cost_usd, 0) AS cache_write_cost_usd,
    (cost_usd IS NULL)::int::bigint AS unpriced_requests,
    coalesce(latency_ms, 0) AS latency_ms_sum,
    (latency_ms IS NOT NULL)::int::bigint AS latency_samples,
    coalesce(ttft_ms, 0) AS ttft_ms_sum,
    (ttft_ms IS NOT NULL)::int::bigint AS ttft_samples,
    (coalesce(latency_ms <= 500, false))::int::bigint AS latency_le_500ms,
    (coalesce(latency_ms <= 1000, false))::int::bigint AS latency_le_1s,
    (coalesce(latency_ms <= 2500, false))::int::bigint AS latency_le_2500ms,
    (coalesce(latency_ms <= 5000, false))::int::bigint AS latency_le_5s,
    (coalesce(latency_ms <= 10000, false))::int::bigint AS latency_le_10s,
    (coalesce(latency_ms <= 30000, false))::int::bigint AS latency_le_30s,
    (coalesce(latency_ms <= 60000, false))::int::bigint AS latency_le_60s,
    (coalesce(latency_ms <= 120000, false))::int::bigint AS latency_le_120s,
    (coalesce(latency_ms <= 300000, false))::int::bigint AS latency_le_300s,
    (coalesce(ttft_ms <= 500, false))::int::bigint AS ttft_le_500ms,
    (coalesce(ttft_ms <= 1000, false))::int::bigint AS ttft_le_1s,
    (coalesce(ttft_ms <= 2500, false))::int::bigint AS ttft_le_2500ms,
    (coalesce(ttft_ms <= 5000, false))::int::bigint AS ttft_le_5s,
    (coalesce(ttft_ms <= 10000, false))::int::bigint AS ttft_le_10s,
    (coalesce(ttft_ms <= 30000, false))::int::bigint AS ttft_le_30s,
    (coalesce(ttft_ms <= 60000, false))::int::bigint AS ttft_le_60s,
    (coalesce(ttft_ms <= 120000, false))::int::bigint AS ttft_le_120s,
    (coalesce(ttft_ms <= 300000, false))::int::bigint AS ttft_le_300s
FROM usage.record;

CREATE OR REPLACE FUNCTION usage.hourly_from_records(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly
LANGUAGE sql STABLE AS $$
    SELECT
        date_trunc('hour', occurred_at, 'UTC'), dimension_id, sum(requests)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint, sum(unclassified_tokens)::bigint,
        sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint, sum(latency_samples)::bigint, sum(ttft_ms_sum)::bigint, sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint, sum(latency_le_1s)::bigint, sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint, sum(latency_le_10s)::bigint, sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint, sum(latency_le_120s)::bigint, sum(latency_le_300s)::bigint,
        sum(ttft_le_500ms)::bigint, sum(ttft_le_1s)::bigint, sum(ttft_le_2500ms)::bigint,
        sum(ttft_le_5s)::bigint, sum(ttft_le_10s)::bigint, sum(ttft_le_30s)::bigint,
        sum(ttft_le_60s)::bigint, sum(ttft_le_120s)::bigint, sum(ttft_le_300s)::bigint
    FROM usage.record_measure
    WHERE occurred_at >= since AND occurred_at < until
    GROUP BY 1, 2
$$;

CREATE OR REPLACE FUNCTION usage.daily_from_records(days date[], begins timestamptz[], ends timestamptz[]) RETURNS SETOF usage.daily
LANGUAGE sql STABLE AS $$
    SELECT
        bound.day, dimension_id, sum(requests)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint, sum(unclassified_tokens)::bigint,
        sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint, sum(latency_samples)::bigint, sum(ttft_ms_sum)::bigint, sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint, sum(latency_le_1s)::bigint, sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint, sum(latency_le_10s)::bigint, sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint, sum(latency_le_120s)::bigint, sum(latency_le_300s)::bigint,
        sum(ttft_le_500ms)::bigint, sum(ttft_le_1s)::bigint, sum(ttft_le_2500ms)::bigint,
        sum(ttft_le_5s)::bigint, sum(ttft_le_10s)::bigint, sum(ttft_le_30s)::bigint,
        sum(ttft_le_60s)::bigint, sum(ttft_le_120s)::bigint, sum(ttft_le_300s)::bigint
    FROM unnest(days, begins, ends) AS bound (day, begins, ends)
    JOIN usage.record_measure ON occurred_at >= bound.begins AND occurred_at < bound.ends
    GROUP BY 1, 2
$$;

-- What is still here in full is counted now: hours from the instant on from which no record was dropped, and days from
-- the first whole one.
UPDATE usage.hourly AS h SET
    ttft_le_500ms = r.ttft_le_500ms,
    ttft_le_1s = r.ttft_le_1s,
    ttft_le_2500ms = r.ttft_le_2500ms,
    ttft_le_5s = r.ttft_le_5s,
    ttft_le_10s = r.ttft_le_10s,
    ttft_le_30s = r.ttft_le_30s,
    ttft_le_60s = r.ttft_le_60s,
    ttft_le_120s = r.ttft_le_120s,
    ttft_le_300s = r.ttft_le_300s
FROM usage.hourly_from_records(
    coalesce((SELECT max(records_dropped_before) FROM usage.upstream), '-infinity'), 'infinity') AS r
WHERE r.hour = h.hour AND r.dimension_id = h.dimension_id;

UPDATE usage.daily AS d SET
    ttft_le_500ms = r.ttft_le_500ms,
    ttft_le_1s = r.ttft_le_1s,
    ttft_le_2500ms = r.ttft_le_2500ms,
    ttft_le_5s = r.ttft_le_5s,
    ttft_le_10s = r.ttft_le_10s,
    ttft_le_30s = r.ttft_le_30s,
    ttft_le_60s = r.ttft_le_60s,
    ttft_le_120s = r.ttft_le_120s,
    ttft_le_300s = r.ttft_le_300s
FROM (
    SELECT
        (occurred_at AT TIME ZONE zone.name)::date AS day, dimension_id,
        sum(ttft_le_500ms)::bigint AS ttft_le_500ms, sum(ttft_le_1s)::bigint AS ttft_le_1s, sum(ttft_le_2500ms)::bigint AS ttft_le_2500ms,
        sum(ttft_le_5s)::bigint AS ttft_le_5s, sum(ttft_le_10s)::bigint AS ttft_le_10s, sum(ttft_le_30s)::bigint AS ttft_le_30s,
        sum(ttft_le_60s)::bigint AS ttft_le_60s, sum(ttft_le_120s)::bigint AS ttft_le_120s, sum(ttft_le_300s)::bigint AS ttft_le_300s
    FROM (SELECT coalesce((SELECT value FROM usage.setting WHERE key = 'timezone'), 'UTC') AS name) AS zone,
         usage.record_measure
    GROUP BY 1, 2
) AS r
WHERE r.day = d.day AND r.dimension_id = d.dimension_id
  AND d.day >= coalesce((SELECT max(records_complete_from) FROM usage.upstream), '-infinity');

-- The sums of usage.daily and usage.hourly over the dimensions that they leave out. coarse.py adds to them what
-- rollup.py adds there.
CREATE TABLE usage.daily_channel (
    day date NOT NULL,
    channel_id integer NOT NULL,
    model text NOT NULL,
    outcome text NOT NULL,
    requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    uncached_input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    billed_output_tokens bigint NOT NULL,
    unclassified_tokens bigint NOT NULL,
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    PRIMARY KEY (day, channel_id, model, outcome)
) WITH (fillfactor = 70);
CREATE TABLE usage.daily_key (
    day date NOT NULL,
    client_key_id integer NOT NULL,
    outcome text NOT NULL,
    requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    uncached_input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    billed_output_tokens bigint NOT NULL,
    unclassified_tokens bigint NOT NULL,
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    PRIMARY KEY (day, client_key_id, outcome)
) WITH (fillfactor = 70);
CREATE TABLE usage.hourly_key (
    hour timestamptz NOT NULL,
    client_key_id integer NOT NULL,
    outcome text NOT NULL,
    requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    uncached_input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    billed_output_tokens bigint NOT NULL,
    unclassified_tokens bigint NOT NULL,
    cost_usd numeric NOT NULL,
    actual_cost_usd numeric NOT NULL,
    cache_read_cost_usd numeric NOT NULL,
    cache_write_cost_usd numeric NOT NULL,
    unpriced_requests bigint NOT NULL,
    latency_ms_sum bigint NOT NULL,
    latency_samples bigint NOT NULL,
    ttft_ms_sum bigint NOT NULL,
    ttft_samples bigint NOT NULL,
    latency_le_500ms bigint NOT NULL,
    latency_le_1s bigint NOT NULL,
    latency_le_2500ms bigint NOT NULL,
    latency_le_5s bigint NOT NULL,
    latency_le_10s bigint NOT NULL,
    latency_le_30s bigint NOT NULL,
    latency_le_60s bigint NOT NULL,
    latency_le_120s bigint NOT NULL,
    latency_le_300s bigint NOT NULL,
    ttft_le_500ms bigint,
    ttft_le_1s bigint,
    ttft_le_2500ms bigint,
    ttft_le_5s bigint,
    ttft_le_10s bigint,
    ttft_le_30s bigint,
    ttft_le_60s bigint,
    ttft_le_120s bigint,
    ttft_le_300s bigint,
    PRIMARY KEY (hour, client_key_id, outcome)
) WITH (fillfactor = 70);
COMMENT ON TABLE usage.daily_channel IS 'The days by channel, model and outcome.';
COMMENT ON TABLE usage.daily_key IS 'The days by client key and outcome.';
COMMENT ON TABLE usage.hourly_key IS 'The hours by client key and outcome.';

-- What they must hold. A sum is as unknown as any part of it.
CREATE FUNCTION usage.daily_channel_from_daily(since date, until date) RETURNS SETOF usage.daily_channel
LANGUAGE sql STABLE AS $$
    SELECT
        day, channel_id, model, outcome, sum(requests)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint, sum(unclassified_tokens)::bigint,
        sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint, sum(latency_samples)::bigint, sum(ttft_ms_sum)::bigint, sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint, sum(latency_le_1s)::bigint, sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint, sum(latency_le_10s)::bigint, sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint, sum(latency_le_120s)::bigint, sum(latency_le_300s)::bigint,
        CASE WHEN count(ttft_le_500ms) = count(*) THEN sum(ttft_le_500ms)::bigint END,
        CASE WHEN count(ttft_le_1s) = count(*) THEN sum(ttft_le_1s)::bigint END,
        CASE WHEN count(ttft_le_2500ms) = count(*) THEN sum(ttft_le_2500ms)::bigint END,
        CASE WHEN count(ttft_le_5s) = count(*) THEN sum(ttft_le_5s)::bigint END,
        CASE WHEN count(ttft_le_10s) = count(*) THEN sum(ttft_le_10s)::bigint END,
        CASE WHEN count(ttft_le_30s) = count(*) THEN sum(ttft_le_30s)::bigint END,
        CASE WHEN count(ttft_le_60s) = count(*) THEN sum(ttft_le_60s)::bigint END,
        CASE WHEN count(ttft_le_120s) = count(*) THEN sum(ttft_le_120s)::bigint END,
        CASE WHEN count(ttft_le_300s) = count(*) THEN sum(ttft_le_300s)::bigint END
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day >= since AND day < until
    GROUP BY 1, 2, 3, 4
$$;

CREATE FUNCTION usage.daily_key_from_daily(since date, until date) RETURNS SETOF usage.daily_key
LANGUAGE sql STABLE AS $$
    SELECT
        day, client_key_id, outcome, sum(requests)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint, sum(unclassified_tokens)::bigint,
        sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint, sum(latency_samples)::bigint, sum(ttft_ms_sum)::bigint, sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint, sum(latency_le_1s)::bigint, sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint, sum(latency_le_10s)::bigint, sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint, sum(latency_le_120s)::bigint, sum(latency_le_300s)::bigint,
        CASE WHEN count(ttft_le_500ms) = count(*) THEN sum(ttft_le_500ms)::bigint END,
        CASE WHEN count(ttft_le_1s) = count(*) THEN sum(ttft_le_1s)::bigint END,
        CASE WHEN count(ttft_le_2500ms) = count(*) THEN sum(ttft_le_2500ms)::bigint END,
        CASE WHEN count(ttft_le_5s) = count(*) THEN sum(ttft_le_5s)::bigint END,
        CASE WHEN count(ttft_le_10s) = count(*) THEN sum(ttft_le_10s)::bigint END,
        CASE WHEN count(ttft_le_30s) = count(*) THEN sum(ttft_le_30s)::bigint END,
        CASE WHEN count(ttft_le_60s) = count(*) THEN sum(ttft_le_60s)::bigint END,
        CASE WHEN count(ttft_le_120s) = count(*) THEN sum(ttft_le_120s)::bigint END,
        CASE WHEN count(ttft_le_300s) = count(*) THEN sum(ttft_le_300s)::bigint END
    FROM usage.daily
    JOIN usage.dimension USING (dimension_id)
    WHERE day >= since AND day < until
    GROUP BY 1, 2, 3
$$;

CREATE FUNCTION usage.hourly_key_from_hourly(since timestamptz, until timestamptz) RETURNS SETOF usage.hourly_key
LANGUAGE sql STABLE AS $$
    SELECT
        hour, client_key_id, outcome, sum(requests)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(total_tokens)::bigint,
        sum(uncached_input_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
        sum(billed_output_tokens)::bigint, sum(unclassified_tokens)::bigint,
        sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd), sum(cache_write_cost_usd),
        sum(unpriced_requests)::bigint,
        sum(latency_ms_sum)::bigint, sum(latency_samples)::bigint, sum(ttft_ms_sum)::bigint, sum(ttft_samples)::bigint,
        sum(latency_le_500ms)::bigint, sum(latency_le_1s)::bigint, sum(latency_le_2500ms)::bigint,
        sum(latency_le_5s)::bigint, sum(latency_le_10s)::bigint, sum(latency_le_30s)::bigint,
        sum(latency_le_60s)::bigint, sum(latency_le_120s)::bigint, sum(latency_le_300s)::bigint,
        CASE WHEN count(ttft_le_500ms) = count(*) THEN sum(ttft_le_500ms)::bigint END,
        CASE WHEN count(ttft_le_1s) = count(*) THEN sum(ttft_le_1s)::bigint END,
        CASE WHEN count(ttft_le_2500ms) = count(*) THEN sum(ttft_le_2500ms)::bigint END,
        CASE WHEN count(ttft_le_5s) = count(*) THEN sum(ttft_le_5s)::bigint END,
        CASE WHEN count(ttft_le_10s) = count(*) THEN sum(ttft_le_10s)::bigint END,
        CASE WHEN count(ttft_le_30s) = count(*) THEN sum(ttft_le_30s)::bigint END,
        CASE WHEN count(ttft_le_60s) = count(*) THEN sum(ttft_le_60s)::bigint END,
        CASE WHEN count(ttft_le_120s) = count(*) THEN sum(ttft_le_120s)::bigint END,
        CASE WHEN count(ttft_le_300s) = count(*) THEN sum(ttft_le_300s)::bigint END
    FROM usage.hourly
    JOIN usage.dimension USING (dimension_id)
    WHERE hour >= since AND hour < until
    GROUP BY 1, 2, 3
$$;

INSERT INTO usage.daily_channel SELECT * FROM usage.daily_channel_from_daily('-infinity', 'infinity') ORDER BY 1, 2, 3, 4;
INSERT INTO usage.daily_key SELECT * FROM usage.daily_key_from_daily('-infinity', 'infinity') ORDER BY 1, 2, 3;
INSERT INTO usage.hourly_key SELECT * FROM usage.hourly_key_from_hourly('-infinity', 'infinity') ORDER BY 1, 2, 3;

CREATE OR REPLACE VIEW usage_api.v1_daily AS
SELECT
    r.day,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind, coalesce(k.label, k.mask) AS client_key,
    d.provider, d.endpoint, d.model, d.alias, d.outcome,
    r.requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum, r.latency_samples, r.ttft_ms_sum, r.ttft_samples,
    r.latency_le_500ms, r.latency_le_1s, r.latency_le_2500ms, r.latency_le_5s, r.latency_le_10s,
    r.latency_le_30s, r.latency_le_60s, r.latency_le_120s, r.latency_le_300s,
    r.ttft_le_500ms, r.ttft_le_1s, r.ttft_le_2500ms, r.ttft_le_5s, r.ttft_le_10s,
    r.ttft_le_30s, r.ttft_le_60s, r.ttft_le_120s, r.ttft_le_300s
FROM usage.daily AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0;

CREATE OR REPLACE VIEW usage_api.v1_hourly AS
SELECT
    r.hour,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind, coalesce(k.label, k.mask) AS client_key,
    d.provider, d.endpoint, d.model, d.alias, d.outcome,
    r.requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum, r.latency_samples, r.ttft_ms_sum, r.ttft_samples,
    r.latency_le_500ms, r.latency_le_1s, r.latency_le_2500ms, r.latency_le_5s, r.latency_le_10s,
    r.latency_le_30s, r.latency_le_60s, r.latency_le_120s, r.latency_le_300s,
    r.ttft_le_500ms, r.ttft_le_1s, r.ttft_le_2500ms, r.ttft_le_5s, r.ttft_le_10s,
    r.ttft_le_30s, r.ttft_le_60s, r.ttft_le_120s, r.ttft_le_300s
FROM usage.hourly AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_daily_channels AS
SELECT
    r.day,
    u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind, r.model, r.outcome,
    r.requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum, r.latency_samples, r.ttft_ms_sum, r.ttft_samples,
    r.latency_le_500ms, r.latency_le_1s, r.latency_le_2500ms, r.latency_le_5s, r.latency_le_10s,
    r.latency_le_30s, r.latency_le_60s, r.latency_le_120s, r.latency_le_300s,
    r.ttft_le_500ms, r.ttft_le_1s, r.ttft_le_2500ms, r.ttft_le_5s, r.ttft_le_10s,
    r.ttft_le_30s, r.ttft_le_60s, r.ttft_le_120s, r.ttft_le_300s
FROM usage.daily_channel AS r
JOIN usage.channel AS c USING (channel_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_daily_keys AS
SELECT
    r.day,
    u.name AS upstream, coalesce(k.label, k.mask) AS client_key, r.outcome,
    r.requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum, r.latency_samples, r.ttft_ms_sum, r.ttft_samples,
    r.latency_le_500ms, r.latency_le_1s, r.latency_le_2500ms, r.latency_le_5s, r.latency_le_10s,
    r.latency_le_30s, r.latency_le_60s, r.latency_le_120s, r.latency_le_300s,
    r.ttft_le_500ms, r.ttft_le_1s, r.ttft_le_2500ms, r.ttft_le_5s, r.ttft_le_10s,
    r.ttft_le_30s, r.ttft_le_60s, r.ttft_le_120s, r.ttft_le_300s
FROM usage.daily_key AS r
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;

CREATE VIEW usage_api.v1_hourly_keys AS
SELECT
    r.hour,
    u.name AS upstream, coalesce(k.label, k.mask) AS client_key, r.outcome,
    r.requests,
    r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.total_tokens,
    r.uncached_input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.billed_output_tokens, r.unclassified_tokens,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cost_usd END AS cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.actual_cost_usd END AS actual_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_read_cost_usd END AS cache_read_cost_usd,
    CASE WHEN r.unpriced_requests < r.requests THEN r.cache_write_cost_usd END AS cache_write_cost_usd,
    r.unpriced_requests,
    r.latency_ms_sum, r.latency_samples, r.ttft_ms_sum, r.ttft_samples,
    r.latency_le_500ms, r.latency_le_1s, r.latency_le_2500ms, r.latency_le_5s, r.latency_le_10s,
    r.latency_le_30s, r.latency_le_60s, r.latency_le_120s, r.latency_le_300s,
    r.ttft_le_500ms, r.ttft_le_1s, r.ttft_le_2500ms, r.ttft_le_5s, r.ttft_le_10s,
    r.ttft_le_30s, r.ttft_le_60s, r.ttft_le_120s, r.ttft_le_300s
FROM usage.hourly_key AS r
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.upstream AS u USING (upstream_id)
WHERE r.requests <> 0;

COMMENT ON VIEW usage_api.v1_daily_channels IS 'Usage per day by channel, model and outcome: v1_daily in fewer rows.';
COMMENT ON VIEW usage_api.v1_daily_keys IS 'Usage per day by client key and outcome: v1_daily in fewer rows.';
COMMENT ON VIEW usage_api.v1_hourly_keys IS 'Usage per hour by client key and outcome: v1_hourly in fewer rows.';

COMMENT ON COLUMN usage_api.v1_daily.ttft_le_500ms IS 'Requests whose first token came after 500 ms or less (cumulative); NULL, as the next eight, where the records were dropped before this was counted.';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_1s IS 'Requests whose first token came after 1 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_2500ms IS 'Requests whose first token came after 2.5 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_5s IS 'Requests whose first token came after 5 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_10s IS 'Requests whose first token came after 10 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_30s IS 'Requests whose first token came after 30 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_60s IS 'Requests whose first token came after 60 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_120s IS 'Requests whose first token came after 120 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_daily.ttft_le_300s IS 'Requests whose first token came after 300 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_500ms IS 'Requests whose first token came after 500 ms or less (cumulative); NULL, as the next eight, where the records were dropped before this was counted.';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_1s IS 'Requests whose first token came after 1 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_2500ms IS 'Requests whose first token came after 2.5 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_5s IS 'Requests whose first token came after 5 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_10s IS 'Requests whose first token came after 10 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_30s IS 'Requests whose first token came after 30 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_60s IS 'Requests whose first token came after 60 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_120s IS 'Requests whose first token came after 120 s or less (cumulative).';
COMMENT ON COLUMN usage_api.v1_hourly.ttft_le_300s IS 'Requests whose first token came after 300 s or less (cumulative).';

-- A column that is called as one of v1_hourly or v1_daily means the same.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT c.relname, a.attname, col_description(known.attrelid, known.attnum) AS description
        FROM (VALUES ('v1_daily_channels', 'v1_daily'), ('v1_daily_keys', 'v1_daily'), ('v1_hourly_keys', 'v1_hourly'))
            AS of (coarse, fine)
        JOIN pg_class AS c ON c.relname = of.coarse AND c.relnamespace = 'usage_api'::regnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN pg_attribute AS known ON known.attrelid = ('usage_api.' || of.fine)::regclass AND known.attname = a.attname
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L',
                       described.relname, described.attname, described.description);
    END LOOP;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_reader') THEN
        GRANT SELECT ON usage_api.v1_daily_channels, usage_api.v1_daily_keys, usage_api.v1_hourly_keys TO usage_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        GRANT SELECT ON usage_api.v1_daily_channels, usage_api.v1_daily_keys, usage_api.v1_hourly_keys TO usage_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON usage.daily_channel, usage.daily_key, usage.hourly_key TO usage_writer;
    END IF;
END
$$;
