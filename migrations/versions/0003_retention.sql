-- Records are dropped by whole months. What was dropped is known by an instant: a record from before it cannot be told
-- from one that was counted, so it is not taken again.
ALTER TABLE usage.upstream ADD COLUMN records_dropped_before timestamptz;
COMMENT ON COLUMN usage.upstream.records_dropped_before IS 'No record from before is taken: it may have been counted and dropped. NULL when none was ever dropped.';

ALTER TABLE usage.sync_run ADD COLUMN too_old bigint NOT NULL DEFAULT 0;
CREATE INDEX sync_run_started ON usage.sync_run (started_at);
CREATE INDEX quarantine_first_seen ON usage.quarantine (first_seen_at);
CREATE INDEX batch_loaded ON usage.batch (loaded_at);
CREATE INDEX batch_run ON usage.batch (run_id) WHERE run_id IS NOT NULL;
ALTER TABLE usage.batch DROP CONSTRAINT batch_run_id_fkey;
ALTER TABLE usage.batch ADD FOREIGN KEY (run_id) REFERENCES usage.sync_run ON DELETE SET NULL;

-- Runs with its owner's rights, as ensure_record_partition does. The caller sets a lock timeout: it waits for every
-- transaction that reads or writes records, and everybody waits for it.
CREATE FUNCTION usage.drop_record_partition(month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('usage.ensure_record_partition', 0));
    EXECUTE format('DROP TABLE IF EXISTS usage.%I', 'record_' || to_char(month, 'YYYY_MM'));
END
$$;
REVOKE ALL ON FUNCTION usage.drop_record_partition(date) FROM PUBLIC;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        GRANT EXECUTE ON FUNCTION usage.drop_record_partition(date) TO usage_writer;
    END IF;
END
$$;

CREATE OR REPLACE VIEW usage_api.v1_sync_runs AS
SELECT s.run_id, u.name AS upstream, s.kind, s.mode, s.started_at, s.finished_at,
       s.pulled, s.inserted, s.duplicates, s.quarantined, s.unknown_channel, s.possible_loss,
       s.statistics_enabled, s.error, s.too_old
FROM usage.sync_run AS s
JOIN usage.upstream AS u USING (upstream_id);
COMMENT ON COLUMN usage_api.v1_sync_runs.too_old IS 'Records that were not taken, since those of their time have been dropped.';

-- A batch may be forgotten before its last record is.
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
LEFT JOIN usage.batch AS b USING (batch_id)
JOIN usage.upstream AS u ON u.upstream_id = c.upstream_id;
COMMENT ON COLUMN usage_api.v1_records.synced_at IS 'When it was loaded; NULL where that has been forgotten.';
