"""Whether what the proxy served arrived: if not, something else takes the records, or nobody does in time.

The proxy counts the requests that its credentials served in each of the last twenty spans of ten minutes. The
database has the records of requests by when they ended. Both by the proxy's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from worker.cliproxyapi import proxy_settings
from worker.cliproxyapi.client import RETENTION_MAX_S, ProxyClient
from worker.clock import now
from worker.doctor.books import LOOK_BACK, SPAN_S, Book
from worker.doctor.finding import Finding, error, ok, warning
from worker.errors import UpstreamBanned, UpstreamError, UpstreamRefused
from worker.json_errors import NOT_JSON

SILENT_MIN = 5
"""So many requests without one record are no accident."""

SHARED_MIN = 20
REMEDY = (
    "Stop what else reads this queue: a worker with another database, a dashboard, cpa-usage-keeper, EasyCLIProxyAPI "
    "while its window is open, any subscriber of the proxy's Redis port (to which records then go instead); or, if "
    f"there is none, set {proxy_settings.retention(RETENTION_MAX_S)}"
)


class _Span(msgspec.Struct, frozen=True):
    success: int = 0
    failed: int = 0


class _Credential(msgspec.Struct, frozen=True):
    recent_requests: list[_Span] | None = None


class _AuthFiles(msgspec.Struct, frozen=True):
    files: list[_Credential] | None = None


def examine(name: str, source: ProxyClient, book: Book) -> Iterator[Finding]:
    """Compare the spans in which passes had to find all usage; no finding where the proxy does not count."""
    if book.since is None or book.until is None:
        return
    served = _served(source)
    if served is None:
        return
    here, there = now(), source.date or now()
    since, until = ((there - (here - at)).timestamp() for at in (book.since, book.until))
    since = max(since, (here - LOOK_BACK).timestamp())  # earlier records, by whatever clock, were not counted
    last = int(there.timestamp()) // SPAN_S
    counted = {last - back: requests for back, requests in enumerate(reversed(served))}
    settled = {span: n for span, n in counted.items() if since <= span * SPAN_S and (span + 1) * SPAN_S <= until}
    yield compare(name, settled, book.ended)


def compare(name: str, served: Mapping[int, int], ended: Mapping[int, int]) -> Finding:
    """Tell a stream that goes elsewhere, or is shared, by requests and records in the same spans.

    A request may be counted in the span beside its record's. One that only counts tokens leaves no record.
    """
    newest = max(ended, default=0)
    silent = {span: requests for span, requests in served.items() if requests and span > newest + 1}
    if sum(silent.values()) >= SILENT_MIN:
        begin = datetime.fromtimestamp(min(silent) * SPAN_S, UTC)
        what = (
            f"since {begin:%H:%M} UTC the proxy has served {sum(silent.values())} requests, and passes found no record"
        )
        return error("other_consumer", UpstreamError, what, REMEDY, name)
    requests = sum(served.values())
    arrived = sum(n for span, n in ended.items() if served and min(served) - 1 <= span <= max(served) + 1)
    what = f"the proxy has served {requests} requests in the time looked at, and {arrived} records arrived"
    if requests >= SHARED_MIN and 2 * arrived < requests:
        return warning("other_consumer", what, REMEDY, name)
    return ok("other_consumer", what, name)


def _served(source: ProxyClient) -> list[int] | None:
    """Return how many requests were served by ten minutes, the present ones last; None where that is not told.

    The answers name keys. Only the counts are decoded.
    """
    readers: Mapping[str, Callable[[bytes], Sequence[_Credential]]] = {"auth-files": _files, "api-key-usage": _keys}
    told: list[list[int]] = []
    for endpoint, read in readers.items():
        try:
            body = source.mapping(endpoint)
            credentials = read(body) if body is not None else []
        except (UpstreamRefused, UpstreamBanned):
            raise
        except (UpstreamError, *NOT_JSON):
            return None
        told += [[span.success + span.failed for span in c.recent_requests] for c in credentials if c.recent_requests]
    if not told:
        return None
    longest = max(map(len, told))
    return [sum(spans) for spans in zip(*([0] * (longest - len(one)) + one for one in told), strict=True)]


def _files(body: bytes) -> list[_Credential]:
    return msgspec.json.decode(body, type=_AuthFiles).files or []


def _keys(body: bytes) -> list[_Credential]:
    providers = msgspec.json.decode(body, type=dict[str, dict[str, _Credential]])
    return [credential for keys in providers.values() for credential in keys.values()]
