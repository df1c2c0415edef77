"""One proxy: whether it lets us in, records usage, hands it out in a way that is known, and keeps it long enough.

Whoever asks with a wrong key five times is banned. So it is asked once, the refusal is remembered as passes remember
theirs, and while one stands nothing is asked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Literal, NamedTuple

from worker.cliproxyapi import proxy_settings
from worker.cliproxyapi.answer_errors import management_off
from worker.cliproxyapi.client import RETENTION_MAX_S, ProxyClient
from worker.cliproxyapi.lockout import Refusals
from worker.cliproxyapi.proxy_settings import ALLOW_REMOTE, SECRET_KEY, STATISTICS_ON
from worker.cliproxyapi.tls import trust
from worker.clock import now
from worker.config import Config, Upstream
from worker.doctor import consumer, folder
from worker.doctor.books import Book
from worker.doctor.finding import Finding, clock, error, late_s, ok, warning
from worker.errors import (
    ConfigError,
    UpstreamBanned,
    UpstreamError,
    UpstreamOff,
    UpstreamRefused,
    UpstreamUnreachable,
    UpstreamUntrusted,
)

TIMEOUT_S = 10.0
"""How long a proxy may take to answer: somebody waits for the doctor."""

QUEUE_SINCE = [6, 10, 8]
RETENTION = f"Put this into the proxy's config.yaml: {proxy_settings.retention(RETENTION_MAX_S)}"

CERTIFICATES = (
    "Set upstream.ca_file to the certificate of the authority that signed the proxy's, and upstream.url to a name that "
    "stands in it; where the proxy asks for a certificate, set upstream.client_cert_file and client_key_file."
)

Mode = Literal["queue", "snapshot", "home"]


class Proxy(NamedTuple):
    """Whom we ask, and what is known here."""

    upstream: Upstream
    source: ProxyClient
    book: Book | None
    """None where the database cannot be read."""
    interval_s: float

    @property
    def name(self) -> str:
        """The upstream's name."""
        return self.upstream.name


def examine(
    config: Config,
    upstream: Upstream,
    book: Book | None,
    interval_s: float,
    stopping: threading.Event | None = None,
) -> list[Finding]:
    """Make the checks of one proxy; those of its journal and its passes need no answer from it."""
    found = [folder.journal(config, upstream)]
    if book is not None:
        found.append(_last_pass(upstream.name, book, interval_s))
    quick = upstream.model_copy(update={"timeout_s": min(upstream.timeout_s, TIMEOUT_S)})
    refusals = Refusals(config.data_dir, upstream)
    try:
        trusting = trust(upstream)
    except ConfigError as e:
        remedy = "Correct the file, or the key that names it."
        return [*found, error("upstream_certificate", ConfigError, str(e), remedy, upstream.name)]
    with ProxyClient(quick, stopping=stopping, trusting=trusting) as source:
        try:
            refusals.check(now())
            for finding in _asked(Proxy(upstream, source, book, interval_s), refusals):
                found.append(finding)  # noqa: PERF402  # what was found before something fails stays found
        except (UpstreamRefused, UpstreamBanned) as e:
            if e.status is not None:  # else it is an earlier refusal, and nothing was asked
                with suppress(OSError):
                    refusals.remember(e, now())
            found += _refused(upstream, e)
        except UpstreamError as e:
            found += _unanswered(upstream, e)
    return list({finding.check: finding for finding in found}.values())


def _asked(proxy: Proxy, refusals: Refusals) -> Iterator[Finding]:
    """Ask the proxy everything; the first question is the safe one, by which key and reachability show."""
    before = now()
    enabled = proxy.source.statistics_enabled()
    if enabled is None and not proxy.source.offers_snapshot():
        raise management_off()
    after = now()
    refusals.forget()
    yield ok("upstream_reachable", f"{proxy.upstream.url} answers", proxy.name)
    yield ok("upstream_key", "the proxy takes the management key", proxy.name)
    yield ok("management_api", f"it is served, by {_version(proxy)}", proxy.name)
    if proxy.source.date is not None:
        whole_seconds = timedelta(seconds=1)
        yield clock("upstream_clock", proxy.source.date, (before, after), whole_seconds, "the proxy", proxy.name)
    if enabled is not None:
        yield _usage_statistics(proxy, enabled=enabled)
    mode, offered = _usage_offered(proxy)
    yield offered
    if mode == "queue":
        yield _queue_retention(proxy)
        if enabled and proxy.book is not None:
            yield from consumer.examine(proxy.name, proxy.source, proxy.book)


# -- does it let us in ------------------------------------------------------------------------------------------


def _refused(upstream: Upstream, refusal: UpstreamRefused | UpstreamBanned) -> Iterator[Finding]:
    wait = f"{max(1, round(refusal.retry_after_s / 60))} min"
    if refusal.status is None:
        what = f"the proxy has refused this key or banned this address, and is not asked again for {wait}"
        remedy = "Correct upstream.key or upstream.url: then it is asked at once."
    elif isinstance(refusal, UpstreamBanned):
        what = f"the proxy has banned this address for {wait} more, after too many bad keys from it"
        remedy = "Correct the key wherever it is wrong, then wait, or restart the proxy."
    else:
        what = f"the proxy refuses the management key; it is not asked again for {wait}"
        remedy = "Set upstream.key (WORKER_UPSTREAM_KEY) to the plain key, not to the hash in the proxy's config.yaml."
    if refusal.status is not None:
        yield ok("upstream_reachable", f"{upstream.url} answers", upstream.name)
    yield error("upstream_key", UpstreamError, what, remedy, upstream.name)


def _unanswered(upstream: Upstream, failure: UpstreamError) -> Iterator[Finding]:
    """Tell a proxy that is not there from one that does not serve its management API to us."""
    if isinstance(failure, UpstreamUntrusted):
        yield error("upstream_certificate", UpstreamError, str(failure), CERTIFICATES, upstream.name)
        return
    if isinstance(failure, UpstreamUnreachable):
        what = f"{upstream.url} does not answer: {failure}"
        remedy = "Start the proxy, or correct upstream.url (WORKER_UPSTREAM_URL); look at firewalls."
        yield error("upstream_reachable", UpstreamError, what, remedy, upstream.name)
        return
    yield ok("upstream_reachable", f"{upstream.url} answers", upstream.name)
    if not isinstance(failure, UpstreamOff):
        remedy = "Correct upstream.url: something else answers there, such as a reverse proxy's page."
    elif failure.status == HTTPStatus.NOT_FOUND:
        remedy = (
            f"Set {SECRET_KEY} in the proxy's config.yaml, or correct upstream.url. A proxy that belongs to a "
            'CLIProxyAPIHome serves nothing: name the Home there, with upstream.mode = "home".'
        )
    else:
        remedy = f"Set {ALLOW_REMOTE} and {SECRET_KEY} in the proxy's config.yaml."
    yield error("management_api", UpstreamError, str(failure), remedy, upstream.name)


# -- does usage come out of it ----------------------------------------------------------------------------------


def _last_pass(name: str, book: Book, interval_s: float) -> Finding:
    if book.last_pass_at is None:
        return ok("last_pass", "there was none yet", name)
    age_s = (now() - book.last_pass_at).total_seconds()
    if age_s > late_s(interval_s):
        what = f"it ended {book.last_pass_at:%Y-%m-%d %H:%M} UTC, {age_s / 60:,.0f} min ago"
        return warning("last_pass", what, "Look whether the schedule, or `worker run`, is still at work.", name)
    if book.error is not None:
        remedy = "Where no other finding explains it, run `worker sync --once`."
        return warning("last_pass", f"it failed: {book.error}", remedy, name)
    return ok("last_pass", f"it ended well, {age_s:.0f} s ago", name)


def _usage_statistics(proxy: Proxy, *, enabled: bool) -> Finding:
    if enabled:
        return ok("usage_statistics", "the proxy records usage", proxy.name)
    what = "usage statistics are switched off, so the proxy records nothing"
    remedy = f"Put this into the proxy's config.yaml: {STATISTICS_ON}"
    return error("usage_statistics", UpstreamError, what, remedy, proxy.name)


def _usage_offered(proxy: Proxy) -> tuple[Mode | None, Finding]:
    """Find out how usage can be read, by version and history alone, since to ask a queue is to empty it."""
    if proxy.upstream.mode == "home":
        return _home_offered(proxy)
    wanted, queue = proxy.upstream.mode, _has_queue(proxy)
    if queue and wanted != "snapshot":
        return "queue", ok("usage_offered", "over the queue", proxy.name)
    try:
        history = wanted != "queue" and proxy.source.offers_snapshot()
    except (UpstreamRefused, UpstreamBanned):
        raise
    except UpstreamError as e:
        return None, warning("usage_offered", f"not known: {e}", "Look into the proxy's log.", proxy.name)
    if history:
        return "snapshot", ok("usage_offered", "as snapshots; they begin anew when the proxy restarts", proxy.name)
    if queue is None and wanted != "snapshot":
        return "queue", ok("usage_offered", "over the queue, if at all: only a pass can tell", proxy.name)
    what, remedy = f"{_version(proxy)} offers no {wanted}", 'Set upstream.mode to "auto".'
    if wanted == "auto":
        what = f"{_version(proxy)} offers usage neither over the queue nor as snapshots"
        remedy = "Update the proxy to v6.10.8 or later: v6.10.0 to v6.10.7 offer it over the Redis protocol only."
    return None, error("usage_offered", UpstreamError, what, remedy, proxy.name)


def _home_offered(proxy: Proxy) -> tuple[Mode | None, Finding]:
    if proxy.source.offers_home_records():
        return "home", ok("usage_offered", "out of Home's database, which forgets nothing", proxy.name)
    what = f"{_version(proxy)} is no CLIProxyAPIHome: it keeps no usage records"
    return None, error("usage_offered", UpstreamError, what, 'Set upstream.mode to "auto".', proxy.name)


def _has_queue(proxy: Proxy) -> bool | None:
    """Say whether there is a queue over HTTP, by what passes found and what version it says; None: not known."""
    if proxy.book is not None and proxy.book.mode == "queue":
        return True
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", proxy.source.version)
    version = [int(number) for number in numbers.groups()] if numbers else []
    return version >= QUEUE_SINCE if version >= [6] else None  # lower ones are a fork's own


def _queue_retention(proxy: Proxy) -> Finding:
    """Hold the proxy's retention against the schedule: what is not fetched within it is gone."""
    remedy = RETENTION
    if 2 * proxy.interval_s > RETENTION_MAX_S:
        remedy = f"Run passes at least every {RETENTION_MAX_S // 2} s. {RETENTION}"
    try:
        kept_s = proxy.source.retention_s()
    except (UpstreamRefused, UpstreamBanned):
        raise
    except UpstreamError as e:
        return warning(
            "queue_retention", f"for how long the proxy keeps a record is not known: {e}", remedy, proxy.name
        )
    if kept_s is None:
        what = "for how long the proxy keeps a record is not known: it does not tell its settings"
        return warning("queue_retention", what, remedy, proxy.name)
    what = f"the proxy keeps a record for {kept_s} s, and passes come every {proxy.interval_s:g} s"
    if kept_s <= proxy.interval_s:
        return error("queue_retention", UpstreamError, f"{what}: records are lost", remedy, proxy.name)
    if kept_s < 2 * proxy.interval_s:
        return warning("queue_retention", f"{what}: one that fails loses records", remedy, proxy.name)
    return ok("queue_retention", what, proxy.name)


def _version(proxy: Proxy) -> str:
    return f"version {proxy.source.version}" if proxy.source.version else "a version that it does not tell"
