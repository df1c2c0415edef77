-- -- What everything is -------------------------------------------------------------------------------------------

{% macro described(columns) %}
{% for name, description in columns.items() %}
        ({{ name | literal }}, {{ description | literal }}){{ '' if loop.last else ',' }}
{% endfor %}
{% endmacro %}
{# What a column is called says what it is, wherever it stands; where it means something else, the list behind says it. #}
{% set columns = {
    "upstream": "Name of the proxy instance the usage was pulled from.",
    "client_key": "Label or mask of the client's own API key; never the key.",
    "request_id": "The proxy's request id; an empty one joins nothing.",
    "started_at": "When the first attempt began.",
    "attempt": "Its place in the logical request, from 1; the same for what began at the same instant.",
    "attempts": "How many attempts it took; what began at the same instant counts once.",
    "begins": "Whether it is the first record of the logical request.",
    "ends": "Whether it is the last record of the logical request: its outcome is that of the request.",
    "occurred_at": "When the attempt at the upstream began, to the microsecond.",
    "completed_at": "When it ended; NULL when the latency was not measured.",
    "record_id": "The record's identity.",
    "channel": "The credential's name: provider/account for an auth file, the provider's name or base URL for an API key, or unknown.",
    "model": "The model that the upstream ran.",
    "alias": "The model name that the client asked for.",
    "outcome": "success, failed, cancelled (by the client), or warmup (a call that asked for no generation).",
    "status_code": "HTTP status of the upstream; NULL when the payload had none.",
    "error": "Class of the error of a failed or cancelled attempt; NULL for the others.",
    "latency_ms": "Milliseconds from its begin to its end; NULL when not measured.",
    "tokens": "The sum of the five counts that exclude one another: uncached input, cache reads, cache writes, output and unclassified.",
    "cost_usd": "Cost in US dollars of what has a price; NULL when something was used and nothing of it has one.",
    "counts": "1, or 0 where it began at the same instant as the one before it in the logical request.",
    "request_number": "Number of the logical request among those of the same client key and request id in the window.",
    "client_key_id": "Number of the client key, in v1_client_keys.",
    "dimension_id": "Number of its combination of dimensions, in v1_dimensions.",
    "origin_id": "Number of the credential, as in v1_records.",
    "event_key": "record_id as bytes.",
    "requests": "Attempts at an upstream, warm-ups not counted.",
    "succeeded": "Requests that succeeded.",
    "failed": "Requests that failed.",
    "warmups": "Calls that asked for no generation. Their tokens and costs are counted, they are not.",
    "success_rate": "Of the requests that succeeded or failed, the percentage that succeeded, to two decimals; NULL where there are none.",
    "error_rate": "Of the requests that succeeded or failed, the percentage that failed, to two decimals; NULL where there are none.",
    "cache_hit_rate": "Percentage of the input tokens that were read from a cache, to two decimals; NULL where there are none.",
    "unpriced_requests": "Records without a price, warm-ups too: they are not in the costs.",
    "mean_latency_ms": "Mean of the measured latencies of requests, in milliseconds, to two decimals; NULL when none was measured.",
    "mean_ttft_ms": "Mean of the measured times to the first token, in milliseconds, to two decimals; NULL when none was measured.",
    "cancelled": "Requests that the client cancelled: they are neither succeeded nor failed, and in neither rate. Their tokens and costs are counted.",
    "channel_group": "The channel's group: the provider for an auth file, the channel's own name for an API key, or unknown.",
    "channel_kind": "auth (an auth file), apikey (a configured key) or unknown.",
    "provider": "The proxy's provider id, such as codex or openai-compatible-openrouter; empty when the payload had none.",
    "endpoint": "Method and route that the client called; empty when the payload had none.",
    "total_requests": "Number of successful requests.",
    "requests_with_cache_hit": "Those of which tokens were read from a cache.",
    "request_cache_hit_rate": "requests_with_cache_hit of total_requests, in percent; NULL when there were none.",
    "token_cache_hit_rate": "cache_read_tokens of all three, in percent; NULL when there were none.",
    "savings_usd": "What the tokens read from caches would have cost more as uncached input, each at the price its request was charged by; NULL when that is known of no hit.",
    "savings_unknown_requests": "Requests with a hit that are not in savings_usd: they have no price, or one without a price for input or cache reads.",
    "aether_savings_usd": "Nine times cache_read_cost_usd: the savings if reading from a cache cost a tenth, as Aether estimates them.",
    "request_count": "Number of gaps between its successful requests.",
    "within_5_min": "Gaps of 5 minutes at most.",
    "within_15_min": "Gaps of more than 5 and at most 15 minutes.",
    "within_30_min": "Gaps of more than 15 and at most 30 minutes.",
    "within_60_min": "Gaps of more than 30 and at most 60 minutes.",
    "over_60_min": "Gaps of more than 60 minutes.",
    "within_5_min_percent": "within_5_min of all gaps, in percent.",
    "within_15_min_percent": "within_15_min of all gaps, in percent.",
    "within_30_min_percent": "within_30_min of all gaps, in percent.",
    "within_60_min_percent": "within_60_min of all gaps, in percent.",
    "over_60_min_percent": "over_60_min of all gaps, in percent.",
    "p50_minutes": "Half of the gaps are no longer, in minutes; between two gaps, in proportion.",
    "p75_minutes": "75 % of the gaps are no longer, in minutes.",
    "p90_minutes": "90 % of the gaps are no longer, in minutes.",
    "avg_minutes": "Mean gap in minutes.",
    "min_minutes": "Shortest gap in minutes.",
    "max_minutes": "Longest gap in minutes.",
    "recommended_ttl_minutes": "5, 15, 30 or 60: see reason.",
    "reason": "Which percentile the recommendation comes from.",
    "period": "1m, 1h, 24h, or month: the calendar month so far.",
    "since": "Begin of the period.",
    "until": "End of the period, which is not in it any more.",
    "total": "Attempts that began in the period, warm-ups left out.",
    "level": "What the row is about: all, group (channel_group), channel (channel_group and channel) or model; the other names are NULL.",
    "configured_name": "What the proxy's configuration calls it; channel shows an operator's label instead where there is one.",
    "configured": "Whether the proxy's last good directory still lists it.",
    "linked_to": "The channel that its usage is booked on, by an operator's word; NULL for most.",
    "rate_multiplier": "What a request over this channel really costs now, as a multiple of its cost.",
    "first_seen_at": "When it was first seen.",
    "last_seen_at": "When it was last seen.",
    "channel_id": "Number of the channel, in v1_channels.",
    "today_requests": "Requests of the day, warm-ups not counted.",
    "last_30_days_requests": "Requests of the 720 hours before the instant, warm-ups not counted.",
    "today_actual_cost_usd": "What the day really cost in US dollars; NULL when nothing that was used has a price.",
    "last_30_days_actual_cost_usd": "What the 720 hours before the instant really cost in US dollars; NULL when nothing that was used has a price.",
    "total_actual_cost_usd": "What everything really cost in US dollars; NULL when nothing that was used has a price.",
    "mask": "At most the last four characters of the key, and six digits that tell it from others.",
    "perhaps_several": "Whether the proxy masks client keys, as forks and CLIProxyAPIHome do: several keys may look like this one.",
    "records": "Number of records, exactly.",
    "day": "The day on which the requests began, in the rollup time zone.",
    "total_succeeded": "Requests ever that succeeded.",
    "total_failed": "Requests ever that failed.",
    "total_input_tokens": "Input tokens ever neither read from nor written to a cache.",
    "total_output_tokens": "Output tokens ever, reasoning included once.",
    "total_cache_read_tokens": "Input tokens ever read from a cache.",
    "total_cache_write_tokens": "Input tokens ever written to a cache.",
    "total_unclassified_tokens": "Tokens ever that could not be told apart as input or output.",
    "total_cost_usd": "Cost ever in US dollars; NULL when something was used and nothing of it has a price.",
    "today_succeeded": "Requests on the day that succeeded.",
    "today_failed": "Requests on the day that failed.",
    "today_input_tokens": "Input tokens on the day neither read from nor written to a cache.",
    "today_output_tokens": "Output tokens on the day, reasoning included once.",
    "today_cache_read_tokens": "Input tokens on the day read from a cache.",
    "today_cache_write_tokens": "Input tokens on the day written to a cache.",
    "today_tokens": "The sum of these four.",
    "today_unclassified_tokens": "Tokens on the day that could not be told apart as input or output.",
    "today_cost_usd": "Cost on the day in US dollars; NULL when something was used and nothing of it has a price.",
    "total_client_keys": "Client keys ever seen. Requests without a key count as one.",
    "active_client_keys": "Client keys with a request in the 24 hours before the instant.",
    "rpm": "Requests per minute among those that ended in the five minutes before the instant. A call of more than six hours is not seen.",
    "succeeded_rpm": "The same of successful requests.",
    "tpm": "Uncached input and output tokens per minute of the same five minutes.",
    "cache_tpm": "Tokens read from and written to caches per minute of the same five minutes.",
    "total_cancelled": "Requests ever that the client cancelled.",
    "total_estimated_cost_usd": "The part of total_cost_usd that is an estimate; NULL as it.",
    "today_cancelled": "Requests on the day that the client cancelled.",
    "today_estimated_cost_usd": "The part of today_cost_usd that is an estimate; NULL as it.",
    "logical_requests": "Number of logical requests.",
    "with_fallback": "Those that took more than one attempt.",
    "switched": "Whether it went over more than one credential.",
    "rescued": "Those that failed at first and succeeded at last.",
    "final_succeeded": "Those whose last attempt succeeded.",
    "final_failed": "Those whose last attempt failed.",
    "fallback_rate": "with_fallback of logical_requests, in percent; NULL when there were none.",
    "final_cancelled": "Those whose last attempt the client cancelled: they are in no success_rate.",
    "last_pass_at": "When the last pass ended.",
    "last_success_at": "When the last pass without an error ended.",
    "newest_record_at": "The newest record's occurred_at, those from the future left aside.",
    "journal_entries": "Payloads that waited on the worker's disk when its last pass ended.",
    "journal_bytes": "Their bytes.",
    "timezone": "The IANA time zone of the days in v1_daily.",
    "records_complete_from": "The first day whose records are all still here; NULL when none was ever dropped.",
    "records_dropped_before": "Records from before this instant have been dropped, and none from before is taken any more; NULL when none ever was.",
    "last_failure_at": "When the last pass with an error ended; NULL when none did.",
    "last_error": "Why that pass failed.",
    "future_record_at": "The latest occurred_at that is still to come, by more than 15 minutes: somebody's clock is or was wrong. NULL when there is none.",
    "max_requests": "The most requests of any day shown: the same in each row.",
    "hour": "The instant at which the hour began; hours are UTC.",
    "gap_minutes": "Minutes since the client key's successful request before it began, with two decimals.",
    "bucket": "The instant at which the hour or day began, which may lie before the window.",
    "measure": "latency, or ttft (the time to the first token).",
    "name": "The channel, group or model; all when they are not told apart.",
    "samples": "Measured requests.",
    "p50_ms": "Milliseconds that 50 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.",
    "p50_from_ms": "It is more than this.",
    "p50_to_ms": "It is this at most; NULL beyond the last bound.",
    "p75_ms": "Milliseconds that 75 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.",
    "p75_from_ms": "It is more than this.",
    "p75_to_ms": "It is this at most; NULL beyond the last bound.",
    "p90_ms": "Milliseconds that 90 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.",
    "p90_from_ms": "It is more than this.",
    "p90_to_ms": "It is this at most; NULL beyond the last bound.",
    "p95_ms": "Milliseconds that 95 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.",
    "p95_from_ms": "It is more than this.",
    "p95_to_ms": "It is this at most; NULL beyond the last bound.",
    "p99_ms": "Milliseconds that 99 % of the measured requests do not exceed, estimated between the bounds that follow; the last bound itself where it lies beyond. NULL without samples.",
    "p99_from_ms": "It is more than this.",
    "p99_to_ms": "It is this at most; NULL beyond the last bound.",
    "ended_at": "When the last attempt ended; of one whose latency was not measured, its begin.",
    "failed_attempts": "How many of its records failed.",
    "has_fallback": "Whether it took more than one attempt.",
    "first_channel": "The channel of the first attempt.",
    "final_channel": "The channel of the last attempt.",
    "final_outcome": "success, failed or cancelled, as the last attempt ended.",
    "unpriced_records": "Records without a price: they are not in the costs.",
    "price_id": "Number of the price; v1_records names it.",
    "source": "The account or auth file named by the payload, or the mask of a key.",
    "vendor": "Whose list in the dataset it comes from; empty for an operator's price.",
    "service_tier": "Service tier that was asked for.",
    "above_input_tokens": "It holds for requests whose whole input is longer than this.",
    "valid_from": "It holds for requests that began then or later; NULL for no such limit.",
    "valid_to": "It holds for requests that began before then; NULL for no such limit.",
    "hours_from": "Where it holds for some hours of the day only: their begin, UTC; NULL elsewhere.",
    "hours_to": "The end of these hours, UTC.",
    "input_usd_per_mtok": "US dollars per million uncached input tokens; NULL when unknown.",
    "cache_read_usd_per_mtok": "US dollars per million input tokens read from a cache; NULL when unknown.",
    "cache_write_usd_per_mtok": "US dollars per million input tokens written to a cache; NULL when unknown.",
    "output_usd_per_mtok": "US dollars per million output tokens, reasoning included; NULL when unknown.",
    "request_usd": "US dollars per successful request; NULL for none.",
    "origin": "The state of the dataset it comes from; empty for an operator's price.",
    "entered_at": "When it was entered.",
    "dropped_at": "When it was withdrawn: from then on no record is charged by it; NULL while it is in force.",
    "estimated": "What of it is an estimate: nothing (empty), its rate for cache_write where a record does not tell for how long the cache is kept, or all. It may be one as well for requests that another vendor served.",
    "cache_write_1h_usd_per_mtok": "US dollars per million input tokens written to a cache for an hour, for records that tell how many these are; NULL where it is cache_write_usd_per_mtok.",
    "channel_rule": "How the channel was found: auth_index, api_key, account (only with channels.match_account), none (not found) or ambiguous (several fit).",
    "auth_index": "The proxy's index of the credential; empty when the payload had none.",
    "auth_type": "apikey, oauth or unknown; empty when the payload had none.",
    "reasoning_effort": "Reasoning effort that was asked for; empty when none was.",
    "ttft_ms": "Milliseconds to the first token; NULL when not measured.",
    "synced_at": "When it was loaded; NULL where that has been forgotten.",
    "channel_candidates": "The channels between which nothing decides, where the rule is ambiguous; NULL elsewhere.",
    "response_service_tier": "Service tier that the upstream said it used; empty when it did not say.",
    "cost_estimated": "Whether the cost is an estimate, by a price that is a guess and no vendor's or operator's word; false where there is no cost.",
    "execution_id": "What the proxy gives each attempt at an upstream, from v8 on; the records of one that used several models share it. Of CLIProxyAPIHome, usage_id: and its number. NULL when not told.",
    "stream": "Whether the client asked for a stream; NULL when not told.",
    "session_id": "The session of the client that the request belongs to, as the proxy made it out; NULL when not told.",
    "parent_session_id": "The session that this one was begun by, such as an agent's; NULL when not told.",
    "response_model": "The model that the upstream said it used; NULL when not told.",
    "cache_write_1h_tokens": "Of cache_write_tokens, those that are kept for an hour instead of five minutes; NULL when not told.",
    "gap": "The same as an interval.",
    "first_at": "When its first request in the window began.",
    "last_at": "When its last request in the window began.",
    "models": "How many models they used.",
    "run_id": "Number of the pass.",
    "kind": "sync (a pass over the proxy), import (files) or retry (quarantine).",
    "mode": "queue, snapshot or home; NULL when the pass ended before that was known.",
    "finished_at": "When the pass ended; NULL while it runs, or when it was killed.",
    "pulled": "Records in the payloads that the pass read.",
    "inserted": "Records that were new.",
    "duplicates": "Records that were there already.",
    "quarantined": "Records that could not be read and were set aside with a reason.",
    "unknown_channel": "New records whose channel was not found.",
    "possible_loss": "Pops whose answer never arrived whole: what was in it may be lost.",
    "statistics_enabled": "Whether the proxy was recording usage at all; NULL when it did not say.",
    "too_old": "Records that were not taken, since those of their time have been dropped.",
    "label": "The day, or the day and the hour, as the zone's calendar and clock show it.",
} %}
{% set otherwise = {
    "usage_api.v1_attempts": {
        "started_at": "When the first attempt of its logical request began.",
        "attempts": "How many attempts the logical request took; what began at the same instant counts once.",
        "occurred_at": "When the attempt began.",
        "channel": "The channel that it went over.",
        "outcome": "success, failed or cancelled (by the client).",
        "tokens": "Sum of the five token counts that exclude one another.",
        "cost_usd": "Cost in US dollars; NULL without a price.",
        "actual_cost_usd": "Cost times the channel's rate multiplier, in US dollars; NULL without a price.",
    },
    "usage_internal.attempts_around": {
        "occurred_at": "When the attempt began.",
        "channel": "The channel that it went over.",
        "outcome": "success, failed or cancelled (by the client).",
        "tokens": "Sum of the five token counts that exclude one another.",
        "cost_usd": "Cost in US dollars; NULL without a price.",
        "actual_cost_usd": "Cost times the channel's rate multiplier, in US dollars; NULL without a price.",
    },
    "usage_api.v1_cache_hits": {
        "uncached_input_tokens": "Input tokens neither read from nor written to a cache.",
        "cache_read_cost_usd": "Cost of the cache reads in US dollars; NULL when something was used and nothing of it has a price.",
        "cache_write_cost_usd": "Cost of the cache writes in US dollars; NULL as that of the reads.",
        "unpriced_requests": "Requests without a price: they are not in the costs.",
    },
    "usage_api.v1_calls": {
        "succeeded": "Attempts that succeeded.",
        "failed": "Attempts that failed.",
        "warmups": "Calls that asked for no generation: they are in none of the others.",
    },
    "usage_api.v1_channels": {
        "channel_id": "Number of the channel, for `worker channels`.",
    },
    "usage_api.v1_client_key_costs": {
        "total_requests": "All requests, warm-ups not counted.",
    },
    "usage_api.v1_client_keys": {
        "client_key_id": "Number of the client key, for `worker keys`.",
    },
    "usage_api.v1_dashboard": {
        "total_requests": "Requests ever, warm-ups not counted.",
        "total_tokens": "The sum of these four.",
        "total_actual_cost_usd": "Cost ever times the channels' rate multipliers, in US dollars; NULL as the cost.",
        "today_requests": "Requests on the day, warm-ups not counted.",
        "today_actual_cost_usd": "Cost on the day times the channels' rate multipliers, in US dollars; NULL as the cost.",
        "mean_latency_ms": "Mean of all measured latencies of requests ever, in milliseconds, to two decimals.",
    },
    "usage_api.v1_dimensions": {
        "dimension_id": "Number of the combination; v1_records names it.",
    },
    "usage_api.v1_fallbacks": {
        "attempts": "Attempts that they took.",
        "switched": "Those that went over more than one credential.",
        "success_rate": "final_succeeded of final_succeeded and final_failed, in percent; NULL when there were none.",
    },
    "usage_api.v1_heatmap": {
        "day": "The day, in the rollup time zone.",
    },
    "usage_api.v1_interval_timeline": {
        "occurred_at": "When the request began.",
    },
    "usage_api.v1_logical_requests": {
        "request_id": "The proxy's request id: not unique; empty when the payload had none.",
        "model": "The model of the last attempt.",
        "alias": "The model name that the client asked for, of the last attempt.",
        "tokens": "Sum of the five token counts that exclude one another, over all attempts.",
        "total_tokens": "Total tokens as reported, over all attempts.",
        "cost_usd": "Cost of the attempts that have a price, in US dollars; NULL when something was used and nothing of it has one.",
        "actual_cost_usd": "Cost times the channels' rate multipliers, in US dollars; NULL as cost_usd.",
    },
    "usage_api.v1_period": {
        "since": "Its begin; NULL for none.",
        "until": "Its end, which does not belong to it; NULL for none.",
    },
    "usage_api.v1_prices": {
        "source": "operator (worker prices set), config (a configuration file) or dataset (price lists shipped with the worker).",
        "model": "The model it is for; * stands for any characters.",
        "provider": "The proxy's provider id it is for; empty for all.",
        "channel": "The channel it is for; empty for all.",
        "service_tier": "The service tier it is for; empty for the standard one, * for every one without a price of its own.",
    },
    "usage_api.v1_record": {
        "completed_at": "When it ended: occurred_at plus latency; NULL when the latency was not measured.",
        "request_id": "The proxy's request id: shared by retries, and not unique.",
        "error": "Class of the error of a failed or cancelled request; NULL for the others.",
        "cost_usd": "Cost in US dollars; NULL without a price, 0 when nothing was used.",
        "actual_cost_usd": "Cost times the channel's rate multiplier, in US dollars; NULL without a price, 0 when nothing was used.",
        "cache_read_cost_usd": "The part of cost_usd for cache reads; NULL without a price, 0 when nothing was used.",
        "cache_write_cost_usd": "The part of cost_usd for cache writes; NULL without a price, 0 when nothing was used.",
        "latency_ms": "Milliseconds from the attempt's begin to its end; NULL when not measured.",
        "record_id": "The record's identity, 32 hex digits: stable over replays and over both ways of reading usage.",
        "price_id": "The price it was charged by, in v1_prices; NULL when it has no cost, or costs nothing for having consumed nothing.",
        "rate_multiplier": "What the request really cost, as a multiple of its cost; NULL when it cost nothing or has no price.",
        "attempt": "Its place in its logical request, from 1; NULL for a warm-up, and where that began more than six hours before.",
        "attempts": "How many attempts its logical request took; NULL where attempt is.",
    },
    "usage_api.v1_records": {
        "completed_at": "When it ended: occurred_at plus latency; NULL when the latency was not measured.",
        "request_id": "The proxy's request id: shared by retries, and not unique.",
        "error": "Class of the error of a failed or cancelled request; NULL for the others.",
        "cost_usd": "Cost in US dollars; NULL without a price, 0 when nothing was used.",
        "actual_cost_usd": "Cost times the channel's rate multiplier, in US dollars; NULL without a price, 0 when nothing was used.",
        "cache_read_cost_usd": "The part of cost_usd for cache reads; NULL without a price, 0 when nothing was used.",
        "cache_write_cost_usd": "The part of cost_usd for cache writes; NULL without a price, 0 when nothing was used.",
        "latency_ms": "Milliseconds from the attempt's begin to its end; NULL when not measured.",
        "record_id": "The record's identity, 32 hex digits: stable over replays and over both ways of reading usage.",
        "price_id": "The price it was charged by, in v1_prices; NULL when it has no cost, or costs nothing for having consumed nothing or being served for nothing.",
        "event_key": "record_id as bytes; with occurred_at, what the index is on.",
        "origin_id": "Number of the credential as records name it: the same for the same auth_index, source and auth_type.",
    },
    "usage_api.v1_request_gaps": {
        "occurred_at": "When the request began.",
        "gap_minutes": "Minutes since the client key's successful request before it began.",
    },
    "usage_api.v1_request_outcomes": {
        "request_id": "The proxy's request id: not unique; empty when the payload had none.",
        "outcome": "success, failed or cancelled, as the last attempt ended.",
        "dimension_id": "Number of the last attempt's combination of dimensions, in v1_dimensions.",
    },
    "usage_api.v1_sessions": {
        "session_id": "The session, as the proxy made it out.",
        "parent_session_id": "The session that this one was begun by; NULL when there is none.",
        "requests": "Number of attempts, whatever became of them.",
        "failed": "Of them, those that failed.",
        "cancelled": "Of them, those that the client cancelled.",
        "uncached_input_tokens": "Input tokens that were neither read from nor written to a cache.",
        "billed_output_tokens": "Output tokens including reasoning.",
        "unclassified_tokens": "Tokens that are known only as a sum.",
        "cost_usd": "Cost in US dollars; NULL when something was used and nothing of it has a price.",
        "unpriced_requests": "Number of attempts without a cost.",
        "estimated_cost_usd": "The part of cost_usd by prices that are an estimate.",
    },
    "usage_api.v1_sync_runs": {
        "started_at": "When the pass began.",
        "error": "Why the pass failed; NULL when it did not.",
    },
    "usage_api.v1_timezone": {
        "timezone": "Name of an IANA time zone.",
    },
    "usage_api.v1_trend": {
        "bucket": "When the day or the hour began.",
    },
} %}
{% set measured = {} %}
{% for measure in measures %}{{ '' if measured.update({measure.name: measure.description}) }}{% endfor %}
-- Columns by their names.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT n.nspname, c.relname, a.attname, said.description
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN (VALUES
{{ described(columns) }}        ) AS said (name, description) ON said.name = a.attname
        WHERE n.nspname IN ('usage_api', 'usage_internal') AND c.relkind IN ('v', 'c')
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I.%I IS %L',
                       described.nspname, described.relname, described.attname, described.description);
    END LOOP;
END
$$;

-- Measures, as rollups and what is summed from them hold them.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT c.relname, a.attname, said.description
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN (VALUES
{{ described(measured) }}        ) AS said (name, description) ON said.name = a.attname
        WHERE c.relnamespace = 'usage_api'::regnamespace
          AND (col_description(c.oid, a.attnum) IS NULL OR EXISTS (
              SELECT FROM pg_attribute AS sum WHERE sum.attrelid = c.oid AND sum.attname = 'latency_ms_sum'))
    LOOP
        EXECUTE format('COMMENT ON COLUMN usage_api.%I.%I IS %L',
                       described.relname, described.attname, described.description);
    END LOOP;
END
$$;

-- What means something else than elsewhere.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT * FROM (VALUES
{% for relation, columns in otherwise.items() %}
{% for name, description in columns.items() %}
        ({{ relation | literal }}, {{ name | literal }}, {{ description | literal }}){{ '' if loop.last and relation == (otherwise | list | last) else ',' }}
{% endfor %}
{% endfor %}
        ) AS said (relation, name, description)
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L',
                       described.relation::regclass, described.name, described.description);
    END LOOP;
END
$$;

COMMENT ON VIEW usage_api.v1_channels IS 'One row per channel ever seen.';
COMMENT ON VIEW usage_api.v1_client_keys IS 'One row per client key ever seen.';
COMMENT ON VIEW usage_api.v1_daily IS 'Usage per day and combination of dimensions. Days belong to the time zone that v1_freshness names.';
COMMENT ON VIEW usage_api.v1_daily_channels IS 'Usage per day by channel, model and outcome: v1_daily in fewer rows.';
COMMENT ON VIEW usage_api.v1_daily_keys IS 'Usage per day by client key and outcome: v1_daily in fewer rows.';
COMMENT ON VIEW usage_api.v1_dimensions IS 'One row per combination of dimensions that a record ever had. There are few: what is looked for among them is found at once.';
COMMENT ON VIEW usage_api.v1_freshness IS 'One row per upstream: how current its usage is.';
COMMENT ON VIEW usage_api.v1_hourly IS 'Usage per hour and combination of dimensions.';
COMMENT ON VIEW usage_api.v1_hourly_keys IS 'Usage per hour by client key and outcome: v1_hourly in fewer rows.';
COMMENT ON VIEW usage_api.v1_prices IS 'One row per price ever entered, those withdrawn included.';
COMMENT ON VIEW usage_api.v1_record_measures IS 'One row per record, with the dimensions and measures of v1_hourly.';
COMMENT ON VIEW usage_api.v1_records IS 'One row per record.';
COMMENT ON VIEW usage_api.v1_sync_runs IS 'One row per pass.';
COMMENT ON VIEW usage_api.v1_timezone IS 'One row: the time zone of the days in every daily view; UTC until the first pass has settled it.';
