COMMENT ON VIEW usage_api.v1_daily IS 'Usage per day and combination of dimensions. Days belong to the time zone that v1_freshness names.';
COMMENT ON COLUMN usage_api.v1_daily.day IS 'The day on which the requests began, in the rollup time zone.';
COMMENT ON VIEW usage_api.v1_hourly IS 'Usage per hour and combination of dimensions.';
COMMENT ON COLUMN usage_api.v1_hourly.hour IS 'The instant at which the hour began; hours are UTC.';

-- The columns that several views share are described once.
DO $$
DECLARE
    described record;
    target record;
BEGIN
    FOR described IN
        SELECT * FROM (VALUES
            ('upstream', 'Name of the proxy instance the usage was pulled from.'),
            ('channel', 'The credential''s name: provider/account for an auth file, the provider''s name or base URL for an API key, or unknown.'),
            ('channel_group', 'The channel''s group: the provider for an auth file, the channel''s own name for an API key, or unknown.'),
            ('channel_kind', 'auth (an auth file), apikey (a configured key) or unknown.'),
            ('channel_rule', 'How the channel was found: auth_index, api_key, account (only with channels.match_account), none (not found) or ambiguous (several fit).'),
            ('channel_candidates', 'The channels between which nothing decides, where the rule is ambiguous; NULL elsewhere.'),
            ('client_key', 'Label or mask of the client''s own API key; never the key.'),
            ('provider', 'The proxy''s provider id, such as codex or openai-compatible-openrouter; empty when the payload had none.'),
            ('endpoint', 'Method and route that the client called; empty when the payload had none.'),
            ('model', 'The model that the upstream ran.'),
            ('alias', 'The model name that the client asked for.'),
            ('outcome', 'success, failed, or warmup (a call that asked for no generation).'),
            ('requests', 'Number of records: one for each attempt at an upstream.'),
            ('input_tokens', 'Input tokens as reported; what they include differs by provider.'),
            ('output_tokens', 'Output tokens as reported; what they include differs by provider.'),
            ('reasoning_tokens', 'Reasoning tokens as reported.'),
            ('cached_tokens', 'Cached tokens as reported.'),
            ('total_tokens', 'Total tokens as reported.'),
            ('uncached_input_tokens', 'Input tokens neither read from nor written to a cache. This and the next four exclude one another.'),
            ('cache_read_tokens', 'Input tokens read from a cache.'),
            ('cache_write_tokens', 'Input tokens written to a cache.'),
            ('billed_output_tokens', 'Output tokens, reasoning included once.'),
            ('unclassified_tokens', 'Tokens that could not be told apart as input or output.'),
            ('cost_usd', 'Cost in US dollars of the priced requests; NULL when none has a price.'),
            ('actual_cost_usd', 'Cost times the channel''s rate multiplier, in US dollars; NULL when no request has a price.'),
            ('cache_read_cost_usd', 'The part of cost_usd for cache reads; NULL when no request has a price.'),
            ('cache_write_cost_usd', 'The part of cost_usd for cache writes; NULL when no request has a price.'),
            ('unpriced_requests', 'Requests without a price: they are not in the costs.'),
            ('latency_ms_sum', 'Sum of the measured latencies, in milliseconds.'),
            ('latency_samples', 'Number of requests with a measured latency.'),
            ('ttft_ms_sum', 'Sum of the measured times to the first token, in milliseconds.'),
            ('ttft_samples', 'Number of requests with a measured time to the first token.'),
            ('latency_le_500ms', 'Requests measured at 500 ms or less (cumulative).'),
            ('latency_le_1s', 'Requests measured at 1 s or less (cumulative).'),
            ('latency_le_2500ms', 'Requests measured at 2.5 s or less (cumulative).'),
            ('latency_le_5s', 'Requests measured at 5 s or less (cumulative).'),
            ('latency_le_10s', 'Requests measured at 10 s or less (cumulative).'),
            ('latency_le_30s', 'Requests measured at 30 s or less (cumulative).'),
            ('latency_le_60s', 'Requests measured at 60 s or less (cumulative).'),
            ('latency_le_120s', 'Requests measured at 120 s or less (cumulative).'),
            ('latency_le_300s', 'Requests measured at 300 s or less (cumulative).'),
            ('occurred_at', 'When the attempt at the upstream began, to the microsecond.'),
            ('completed_at', 'When it ended: occurred_at plus latency; NULL when the latency was not measured.'),
            ('auth_index', 'The proxy''s index of the credential; empty when the payload had none.'),
            ('source', 'The account or auth file named by the payload, or the mask of a key.'),
            ('auth_type', 'apikey, oauth or unknown; empty when the payload had none.'),
            ('request_id', 'The proxy''s request id: shared by retries, and not unique.'),
            ('status_code', 'HTTP status of the upstream; NULL when the payload had none.'),
            ('error', 'Class of the error of a failed request; NULL for the others.'),
            ('service_tier', 'Service tier: what the upstream said it used, else what was asked for.'),
            ('reasoning_effort', 'Reasoning effort that was asked for; empty when none was.'),
            ('latency_ms', 'Milliseconds from the attempt''s begin to its end; NULL when not measured.'),
            ('ttft_ms', 'Milliseconds to the first token; NULL when not measured.'),
            ('synced_at', 'When the record was loaded into this database.'),
            ('record_id', 'The record''s identity, 32 hex digits: stable over replays and over both ways of reading usage.'),
            ('configured_name', 'What the proxy''s configuration calls it; channel shows an operator''s label instead where there is one.'),
            ('linked_to', 'The channel that its usage is booked on, by an operator''s word; NULL for most.'),
            ('channel_id', 'Number of the channel, for `worker channels`.'),
            ('mask', 'At most the last four characters of the key, and six digits that tell it from others.'),
            ('client_key_id', 'Number of the client key, for `worker keys`.'),
            ('configured', 'Whether the proxy''s last good directory still lists it.'),
            ('rate_multiplier', 'What a request over this channel really costs, as a multiple of its cost.'),
            ('first_seen_at', 'When it was first seen.'),
            ('last_seen_at', 'When it was last seen.'),
            ('run_id', 'Number of the pass.'),
            ('kind', 'sync (a pass over the proxy), import (files) or retry (quarantine).'),
            ('mode', 'queue or snapshot; NULL when the pass ended before that was known.'),
            ('started_at', 'When the pass began.'),
            ('finished_at', 'When the pass ended; NULL while it runs, or when it was killed.'),
            ('pulled', 'Records in the payloads that the pass read.'),
            ('inserted', 'Records that were new.'),
            ('duplicates', 'Records that were there already.'),
            ('quarantined', 'Records that could not be read and were set aside with a reason.'),
            ('unknown_channel', 'New records whose channel was not found.'),
            ('possible_loss', 'Pops whose answer never arrived whole: what was in it may be lost.'),
            ('statistics_enabled', 'Whether the proxy was recording usage at all; NULL when it did not say.'),
            ('last_pass_at', 'When the last pass ended.'),
            ('last_success_at', 'When the last pass without an error ended.'),
            ('newest_record_at', 'The newest record''s occurred_at.'),
            ('journal_entries', 'Payloads that waited on the worker''s disk when its last pass ended.'),
            ('journal_bytes', 'Their bytes.'),
            ('timezone', 'The IANA time zone of the days in v1_daily.'),
            ('records_complete_from', 'The first day whose records are all still here; NULL when none was ever dropped.')
        ) AS t (column_name, description)
    LOOP
        FOR target IN
            SELECT c.relname FROM pg_attribute AS a
            JOIN pg_class AS c ON c.oid = a.attrelid
            WHERE c.relnamespace = 'usage_api'::regnamespace AND a.attname = described.column_name
              AND col_description(c.oid, a.attnum) IS NULL
        LOOP
            EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L',
                           target.relname, described.column_name, described.description);
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON COLUMN usage_api.v1_sync_runs.error IS 'Why the pass failed; NULL when it did not.';
COMMENT ON VIEW usage_api.v1_records IS 'One row per record.';
COMMENT ON VIEW usage_api.v1_channels IS 'One row per channel ever seen.';
COMMENT ON VIEW usage_api.v1_client_keys IS 'One row per client key ever seen.';
COMMENT ON VIEW usage_api.v1_sync_runs IS 'One row per pass.';
COMMENT ON VIEW usage_api.v1_freshness IS 'One row per upstream: how current its usage is.';
