-- Prices with dates, rate multipliers with dates, and on each record the price it was charged by.

CREATE TABLE usage.price (
    price_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL CHECK (source IN ('operator', 'config', 'dataset')),
    model text NOT NULL CHECK (model <> ''),
    vendor text NOT NULL DEFAULT '',
    provider text NOT NULL DEFAULT '',
    channel text NOT NULL DEFAULT '',
    service_tier text NOT NULL DEFAULT '',
    above_input_tokens bigint NOT NULL DEFAULT 0 CHECK (above_input_tokens >= 0),
    valid_from timestamptz,
    valid_to timestamptz,
    hours_from time,
    hours_to time,
    input_usd_per_mtok numeric CHECK (input_usd_per_mtok >= 0),
    cache_read_usd_per_mtok numeric CHECK (cache_read_usd_per_mtok >= 0),
    cache_write_usd_per_mtok numeric CHECK (cache_write_usd_per_mtok >= 0),
    output_usd_per_mtok numeric CHECK (output_usd_per_mtok >= 0),
    request_usd numeric CHECK (request_usd >= 0),
    origin text NOT NULL DEFAULT '',
    entered_at timestamptz NOT NULL,
    dropped_at timestamptz,
    fingerprint text UNIQUE,
    CHECK (valid_from < valid_to),
    CHECK ((hours_from IS NULL) = (hours_to IS NULL))
);
CREATE INDEX price_model ON usage.price (lower(model));
COMMENT ON TABLE usage.price IS 'Every price ever entered. Rows are ended or dropped, never changed: records name the one they were charged by.';
COMMENT ON COLUMN usage.price.vendor IS 'Whose list in the dataset it comes from; empty for an operator''s price.';
COMMENT ON COLUMN usage.price.dropped_at IS 'When it was withdrawn: from then on no record is charged by it.';
COMMENT ON COLUMN usage.price.fingerprint IS 'What a configuration file''s price says, so that it is entered once; NULL for others.';

CREATE TABLE usage.channel_rate (
    channel_id integer NOT NULL REFERENCES usage.channel,
    valid_from timestamptz NOT NULL,
    rate_multiplier numeric NOT NULL CHECK (rate_multiplier >= 0),
    entered_at timestamptz NOT NULL,
    PRIMARY KEY (channel_id, valid_from)
);
COMMENT ON TABLE usage.channel_rate IS 'What requests over a channel really cost, as a multiple of their cost, and from when on; 1 before the first.';

-- What was set so far came with no date, and no record has a cost yet.
INSERT INTO usage.channel_rate (channel_id, valid_from, rate_multiplier, entered_at)
SELECT channel_id, '-infinity', rate_multiplier, now() FROM usage.channel WHERE rate_multiplier <> 1;

ALTER TABLE usage.record ADD COLUMN price_id integer;

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
    r.price_id
FROM usage.record AS r
JOIN usage.dimension AS d USING (dimension_id)
JOIN usage.channel AS c USING (channel_id)
JOIN usage.client_key AS k USING (client_key_id)
JOIN usage.origin AS o USING (origin_id)
JOIN usage.batch AS b USING (batch_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;
COMMENT ON COLUMN usage_api.v1_records.price_id IS 'The price it was charged by, in v1_prices; NULL when it has no cost, or costs nothing for having consumed nothing.';

CREATE OR REPLACE VIEW usage_api.v1_channels AS
SELECT u.name AS upstream, coalesce(c.label, c.name) AS channel, c.channel_group, c.kind AS channel_kind,
       c.name AS configured_name, c.configured, coalesce(l.label, l.name) AS linked_to,
       coalesce((SELECT x.rate_multiplier FROM usage.channel_rate AS x
                 WHERE x.channel_id = c.channel_id AND x.valid_from <= now()
                 ORDER BY x.valid_from DESC LIMIT 1), 1) AS rate_multiplier,
       c.first_seen_at, c.last_seen_at, c.channel_id
FROM usage.channel AS c
JOIN usage.upstream AS u USING (upstream_id)
LEFT JOIN usage.channel AS l ON l.channel_id = c.linked_to;
COMMENT ON COLUMN usage_api.v1_channels.rate_multiplier IS 'What a request over this channel really costs now, as a multiple of its cost.';
ALTER TABLE usage.channel DROP COLUMN rate_multiplier;

CREATE VIEW usage_api.v1_prices AS
SELECT price_id, source, model, vendor, provider, channel, service_tier, above_input_tokens,
       valid_from, valid_to, hours_from, hours_to,
       input_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok, request_usd,
       origin, entered_at, dropped_at
FROM usage.price;
COMMENT ON VIEW usage_api.v1_prices IS 'One row per price ever entered, those withdrawn included.';
COMMENT ON COLUMN usage_api.v1_prices.price_id IS 'Number of the price; v1_records names it.';
COMMENT ON COLUMN usage_api.v1_prices.source IS 'operator (worker prices set), config (a configuration file) or dataset (price lists shipped with the worker).';
COMMENT ON COLUMN usage_api.v1_prices.model IS 'The model it is for; * stands for any characters.';
COMMENT ON COLUMN usage_api.v1_prices.vendor IS 'Whose list in the dataset it comes from; empty for an operator''s price.';
COMMENT ON COLUMN usage_api.v1_prices.provider IS 'The proxy''s provider id it is for; empty for all.';
COMMENT ON COLUMN usage_api.v1_prices.channel IS 'The channel it is for; empty for all.';
COMMENT ON COLUMN usage_api.v1_prices.service_tier IS 'The service tier it is for; empty for the standard one and those without a price of their own.';
COMMENT ON COLUMN usage_api.v1_prices.above_input_tokens IS 'It holds for requests whose whole input is longer than this.';
COMMENT ON COLUMN usage_api.v1_prices.valid_from IS 'It holds for requests that began then or later; NULL for no such limit.';
COMMENT ON COLUMN usage_api.v1_prices.valid_to IS 'It holds for requests that began before then; NULL for no such limit.';
COMMENT ON COLUMN usage_api.v1_prices.hours_from IS 'Where it holds for some hours of the day only: their begin, UTC; NULL elsewhere.';
COMMENT ON COLUMN usage_api.v1_prices.hours_to IS 'The end of these hours, UTC.';
COMMENT ON COLUMN usage_api.v1_prices.input_usd_per_mtok IS 'US dollars per million uncached input tokens; NULL when unknown.';
COMMENT ON COLUMN usage_api.v1_prices.cache_read_usd_per_mtok IS 'US dollars per million input tokens read from a cache; NULL when unknown.';
COMMENT ON COLUMN usage_api.v1_prices.cache_write_usd_per_mtok IS 'US dollars per million input tokens written to a cache; NULL when unknown.';
COMMENT ON COLUMN usage_api.v1_prices.output_usd_per_mtok IS 'US dollars per million output tokens, reasoning included; NULL when unknown.';
COMMENT ON COLUMN usage_api.v1_prices.request_usd IS 'US dollars per successful request; NULL for none.';
COMMENT ON COLUMN usage_api.v1_prices.origin IS 'The state of the dataset it comes from; empty for an operator''s price.';
COMMENT ON COLUMN usage_api.v1_prices.entered_at IS 'When it was entered.';
COMMENT ON COLUMN usage_api.v1_prices.dropped_at IS 'When it was withdrawn: from then on no record is charged by it; NULL while it is in force.';
