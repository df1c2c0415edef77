-- What a cache write costs that is kept for an hour, where a list tells it and the proxy tells how many there were.

ALTER TABLE usage.price ADD COLUMN cache_write_1h_usd_per_mtok numeric CHECK (cache_write_1h_usd_per_mtok >= 0);

CREATE OR REPLACE VIEW usage_api.v1_prices AS
SELECT price_id, source, model, vendor, provider, channel, service_tier, above_input_tokens,
       valid_from, valid_to, hours_from, hours_to,
       input_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok, request_usd,
       origin, entered_at, dropped_at, estimated, cache_write_1h_usd_per_mtok
FROM usage.price;
COMMENT ON COLUMN usage_api.v1_prices.cache_write_1h_usd_per_mtok IS 'US dollars per million input tokens written to a cache for an hour, for records that tell how many these are; NULL where it is cache_write_usd_per_mtok.';
COMMENT ON COLUMN usage_api.v1_prices.estimated IS 'What of it is an estimate: nothing (empty), its rate for cache_write where a record does not tell for how long the cache is kept, or all. It may be one as well for requests that another vendor served.';

ALTER TYPE usage_api.v1_record ADD ATTRIBUTE cache_write_1h_usd_per_mtok numeric;
DO $migration$
BEGIN
    EXECUTE replace(
        pg_get_functiondef('usage_api.v1_record(timestamptz, text)'::regprocedure),
        'r.cache_write_1h_tokens', 'r.cache_write_1h_tokens, p.cache_write_1h_usd_per_mtok');
    EXECUTE format(
        'COMMENT ON COLUMN usage_api.v1_record.cache_write_1h_usd_per_mtok IS %L',
        (SELECT col_description(attrelid, attnum) FROM pg_attribute
         WHERE attrelid = 'usage_api.v1_prices'::regclass AND attname = 'cache_write_1h_usd_per_mtok'));
END
$migration$;
