-- Freshness goes by what is not from the future: one record of 2027 must not hide until then that nothing comes any
-- more. A proxy's clock may be a quarter of an hour ahead of the database's. Passes are told apart by their number,
-- which only grows, and not by a wall clock that may have been wrong.

ALTER TABLE usage.upstream ADD COLUMN future_record_at timestamptz;
COMMENT ON COLUMN usage.upstream.future_record_at IS 'The latest occurred_at that was in the future when its record was loaded.';

UPDATE usage.upstream AS u SET
    future_record_at = u.newest_record_at,
    newest_record_at = (
        SELECT max(r.occurred_at) FROM usage.record AS r JOIN usage.batch AS b USING (batch_id)
        WHERE b.upstream_id = u.upstream_id AND r.occurred_at <= now() + interval '15 minutes'
    )
WHERE u.newest_record_at > now() + interval '15 minutes';

CREATE INDEX sync_run_finished ON usage.sync_run (upstream_id, run_id DESC)
WHERE kind = 'sync' AND finished_at IS NOT NULL;
CREATE INDEX sync_run_failed ON usage.sync_run (upstream_id, run_id DESC)
WHERE kind = 'sync' AND finished_at IS NOT NULL AND error IS NOT NULL;
CREATE INDEX sync_run_empty ON usage.sync_run (started_at)
WHERE kind = 'sync' AND finished_at IS NOT NULL AND error IS NULL AND pulled = 0 AND quarantined = 0
    AND possible_loss = 0 AND statistics_enabled IS NOT FALSE;

CREATE OR REPLACE VIEW usage_api.v1_freshness AS
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
COMMENT ON COLUMN usage_api.v1_freshness.newest_record_at IS 'The newest record''s occurred_at, those from the future left aside.';
COMMENT ON COLUMN usage_api.v1_freshness.last_failure_at IS 'When the last pass with an error ended; NULL when none did.';
COMMENT ON COLUMN usage_api.v1_freshness.last_error IS 'Why that pass failed.';
COMMENT ON COLUMN usage_api.v1_freshness.future_record_at IS 'The latest occurred_at that is still to come, by more than 15 minutes: somebody''s clock is or was wrong. NULL when there is none.';
