"""What `worker run` tells Prometheus. No label has more values than there are upstreams, jobs or results."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker import __version__
from worker.db import migrations
from worker.loading.pass_result import PassResult

PREFIX = "usage_worker"
RESULTS = {0: "ok", 1: "journal_error", 3: "config_error", 4: "upstream_error", 5: "database_error",
           6: "quarantined", 75: "busy"}  # fmt: skip
"""What a pass's exit code is called."""

PASS_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """All metrics of one service, on a registry of their own."""

    def __init__(self) -> None:
        """Register every metric, and say what is running."""
        self.registry = CollectorRegistry()
        self._pulled = self._counter("records_pulled", "Records in the payloads that were loaded.")
        self._inserted = self._counter("records_inserted", "Records that were new.")
        self._duplicate = self._counter("records_duplicate", "Records that were there already.")
        self._too_old = self._counter("records_too_old", "Records not taken: those of their time have been dropped.")
        self._quarantined = self._counter("records_quarantined", "Records that could not be read and were set aside.")
        self._unknown = self._counter("records_unknown_channel", "New records whose channel was not found.")
        self._loss = self._counter("possible_loss", "Answers of the queue that did not arrive whole.")
        self.passes = self._counter("passes", "Passes over a proxy, by result.", "result")
        self.jobs = Counter(
            f"{PREFIX}_jobs", "Runs of a job, by result: ok, error, missed or overrun.", ("task", "result"),
            registry=self.registry,
        )  # fmt: skip
        self.pass_seconds = Histogram(
            f"{PREFIX}_pass_duration_seconds", "Duration of a pass over a proxy.", ("upstream",),
            buckets=PASS_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.last_success = self._gauge("last_success_timestamp_seconds", "When the last pass without an error ended.")
        self.newest_record = self._gauge("newest_record_timestamp_seconds", "When the newest record began.")
        self.future_record = self._gauge(
            "future_record_timestamp_seconds", "When the latest record begins that is from the future; 0 without one."
        )
        self.journal_bytes = self._gauge("journal_bytes", "Bytes that wait on disk for the database.")
        self.journal_entries = self._gauge("journal_entries", "Payloads that wait on disk for the database.")
        self.journal_refused = self._gauge(
            "journal_refused_entries", "Payloads that PostgreSQL took nothing of in the last pass, no record at fault."
        )
        self.journal_limit = self._gauge("journal_limit_bytes", "Bytes at which pulling stops.")
        self.poll_gap = self._gauge("poll_gap_seconds", "Seconds between the last two times the proxy was emptied.")
        self.retention = self._gauge("retention_seconds", "For how long the proxy keeps what nobody has fetched.")
        self.statistics = self._gauge("statistics_enabled", "1 while the proxy records usage, 0 while it does not.")
        self.standby = self._gauge("standby", "1 while another worker holds this proxy.")
        self.verify_differences = Gauge(
            f"{PREFIX}_verify_differences", "Sums that differed from their records when they were last compared.",
            registry=self.registry,
        )  # fmt: skip
        self.verify_differences.set(math.nan)  # nobody has looked yet
        self.maintain_left = Gauge(
            f"{PREFIX}_maintain_left", "What is older than its retention and still there: months, and rows by kind.",
            ("kind",), registry=self.registry,
        )  # fmt: skip
        build = Gauge(
            f"{PREFIX}_build_info", "What is running; always 1.", ("version", "schema"), registry=self.registry
        )
        build.labels(__version__, migrations.HEAD).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, ("upstream", *labels), registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, ("upstream",), registry=self.registry)

    def passed(self, result: PassResult, seconds: float) -> None:
        """Count a pass."""
        name = result.upstream
        for counter, n in (
            (self._pulled, result.pulled), (self._inserted, result.inserted), (self._duplicate, result.duplicates),
            (self._too_old, result.too_old),
            (self._quarantined, result.quarantined), (self._unknown, result.unknown_channel),
            (self._loss, result.possible_loss),
        ):  # fmt: skip
            counter.labels(name).inc(n)
        self.passes.labels(name, RESULTS.get(result.exit_code, "error")).inc()
        self.pass_seconds.labels(name).observe(seconds)
        self.journal_bytes.labels(name).set(result.journal_bytes)
        self.journal_entries.labels(name).set(result.journal_entries)
        self.journal_refused.labels(name).set(result.refused)
        if result.statistics_enabled is not None:
            self.statistics.labels(name).set(result.statistics_enabled)
