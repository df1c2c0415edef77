"""What figures from records must be: computed from the calls of the generator, in plain Python, without SQL.

A `Record` is what a perfect reader knows of one call. Tests fill a database with the calls and compare.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from worker.secret import Keyring
from worker.simulator import traffic
from worker.simulator.traffic import Usage

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MTOK = 1_000_000
INPUT, READ, WRITE, OUTPUT, REQUEST = Decimal(2), Decimal("0.25"), Decimal("2.5"), Decimal(8), Decimal("0.001")
"""The prices that tests charge by: those of support.PRICES."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One attempt at an upstream."""

    occurred_at: datetime
    latency_ms: int | None
    outcome: str
    client_key: str
    request_id: str
    credential: tuple[str, str, str]
    """auth_index, source and auth_type."""
    channel: str
    provider: str
    model: str
    alias: str
    uncached: int
    read: int
    written: int
    output: int
    unclassified: int
    total_tokens: int
    cost: Decimal | None
    read_cost: Decimal | None
    write_cost: Decimal | None

    @property
    def key(self) -> tuple[datetime, str, str, str]:
        """What tells it from the others of a test."""
        return (self.occurred_at, self.client_key, self.model, self.outcome)

    @property
    def completed_at(self) -> datetime | None:
        return None if self.latency_ms is None else self.occurred_at + timedelta(milliseconds=self.latency_ms)

    @property
    def tokens(self) -> int:
        return self.uncached + self.read + self.written + self.output + self.unclassified


def record(usage: Usage, keyring: Keyring) -> Record:
    """What is known of a call, and what it costs by support.PRICES."""
    split = traffic.normalised(usage)
    outcome = traffic.outcome(usage)
    cost = read_cost = write_cost = None
    if not split.unclassified:
        read_cost, write_cost = split.cache_read * READ / MTOK, split.cache_write * WRITE / MTOK
        cost = split.uncached_input * INPUT / MTOK + read_cost + write_cost + split.billed_output * OUTPUT / MTOK
        cost += REQUEST if outcome == "success" else 0
    return Record(
        occurred_at=EPOCH + timedelta(microseconds=usage.timestamp_ns // 1000),
        latency_ms=usage.latency_ms or None,
        outcome=outcome,
        client_key=keyring.label(usage.client_key),
        request_id=usage.request_id,
        credential=(usage.auth_index, usage.source, usage.auth_type),
        channel=usage.channel,
        provider=usage.provider,
        model=usage.model,
        alias=usage.alias,
        uncached=split.uncached_input,
        read=split.cache_read,
        written=split.cache_write,
        output=split.billed_output,
        unclassified=split.unclassified,
        total_tokens=traffic.reported(usage).total,
        cost=cost,
        read_cost=read_cost,
        write_cost=write_cost,
    )


def within(records: Iterable[Record], since: datetime, until: datetime) -> list[Record]:
    """Those that began in `[since, until)`."""
    return [each for each in records if since <= each.occurred_at < until]


def rate(part: int, whole: int, places: int = 2) -> Decimal | None:
    """Percent as PostgreSQL rounds it; None of nothing."""
    return rounded(Fraction(100 * part, whole), places) if whole else None


def rounded(value: Fraction, places: int) -> Decimal:
    """To so many places, halves away from zero."""
    scaled = abs(value) * 10**places
    whole = int(scaled + Fraction(1, 2))
    return Decimal(whole if value >= 0 else -whole).scaleb(-places)


def money(records: Sequence[Record], name: str) -> Decimal | None:
    """The sum of costs; None where something was used and nothing of it has a price."""
    known = [each for each in records if each.cost is not None]
    used = any(each.tokens or each.cost for each in known)
    return sum((getattr(each, name) for each in known), Decimal(0)) if used or len(known) == len(records) else None


def added(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The sum of those that are known; None when none is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None


# -- calls ------------------------------------------------------------------------------------------------------


def calls(records: Iterable[Record], since: datetime, until: datetime) -> tuple[int, ...]:
    """All, succeeded, failed; the warm-ups, which are in none of these; and what was cancelled, which is in all."""
    outcomes = [each.outcome for each in within(records, since, until)]
    succeeded, failed, cancelled = (outcomes.count(name) for name in ("success", "failed", "cancelled"))
    return succeeded + failed + cancelled, succeeded, failed, outcomes.count("warmup"), cancelled


def matching(records: Iterable[Record], search: str) -> list[Record]:
    """Those that have each of the first ten words in one of their names."""
    words = [word[:100].lower() for word in search.split()[:10]]
    return [
        each
        for each in records
        if all(
            any(word in name.lower() for name in (each.channel, each.client_key, each.model, each.alias, each.provider))
            for word in words
        )
    ]


def newest_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda each: each.occurred_at, reverse=True)


# -- logical requests -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Logical:
    """An attempt, and what was tried again after it failed."""

    records: tuple[Record, ...]
    """By begin, then by identity."""

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def final(self) -> Record:
        return self.records[-1]

    @property
    def started_at(self) -> datetime:
        return self.first.occurred_at

    @property
    def begins(self) -> list[datetime]:
        return sorted({each.occurred_at for each in self.records})

    @property
    def attempts(self) -> int:
        return len(self.begins)

    @property
    def switched(self) -> bool:
        return len({each.credential for each in self.records}) > 1

    @property
    def succeeded(self) -> bool:
        return self.final.outcome == "success"


def logical_requests(records: Iterable[Record], identities: Mapping[object, str], gap_s: int = 90) -> Iterator[Logical]:
    """Group the attempts of each client key and request id; `identities` orders what began at the same instant."""
    alike: defaultdict[tuple[str, ...], list[Record]] = defaultdict(list)
    for each in records:
        if each.outcome == "warmup":
            continue
        alone = identities[each.key] if not each.request_id else ""
        alike[each.client_key, each.request_id, alone].append(each)
    for members in alike.values():
        members.sort(key=lambda each: (each.occurred_at, identities[each.key]))
        group = members[:1]
        for before, each in pairwise(members):
            if not _joins(before, each, gap_s):
                yield Logical(records=tuple(group))
                group = []
            group.append(each)
        yield Logical(records=tuple(group))


def _joins(before: Record, after: Record, gap_s: int) -> bool:
    if before.occurred_at == after.occurred_at:
        return True
    ended = before.completed_at or before.occurred_at
    return before.outcome == "failed" and after.occurred_at - ended <= timedelta(seconds=gap_s)


def begun(requests: Iterable[Logical], since: datetime, until: datetime) -> list[Logical]:
    return [each for each in requests if since <= each.started_at < until]


def fallbacks(requests: Sequence[Logical]) -> tuple[object, ...]:
    """The row of v1_fallbacks."""
    several = [each for each in requests if each.attempts > 1]
    succeeded = sum(each.succeeded for each in requests)
    cancelled = sum(each.final.outcome == "cancelled" for each in requests)
    return (
        len(requests),
        sum(each.attempts for each in requests),
        len(several),
        sum(each.switched for each in requests),
        sum(each.succeeded for each in several),
        succeeded,
        len(requests) - succeeded - cancelled,
        rate(succeeded, len(requests) - cancelled),
        rate(len(several), len(requests)),
        cancelled,
    )


# -- gaps -------------------------------------------------------------------------------------------------------


def gaps(requests: Iterable[Logical]) -> dict[str, list[tuple[Logical, timedelta]]]:
    """By client key: its successful requests in order of their begins, each with the time since the one before."""
    begins: defaultdict[str, list[Logical]] = defaultdict(list)
    for each in requests:
        if each.succeeded:
            begins[each.first.client_key].append(each)
    found = {}
    for client_key, members in begins.items():
        members.sort(key=lambda each: (each.started_at, each.first.request_id))
        found[client_key] = [(after, after.started_at - before.started_at) for before, after in pairwise(members)]
    return found


def minutes(gap: timedelta) -> Fraction:
    return Fraction(gap // timedelta(microseconds=1), 60_000_000)


def percentile(sorted_values: Sequence[Fraction], share: Fraction) -> Fraction:
    """Between the two values around it, in proportion."""
    place = share * (len(sorted_values) - 1)
    below = int(place)
    above = min(below + 1, len(sorted_values) - 1)
    return sorted_values[below] + (place - below) * (sorted_values[above] - sorted_values[below])


def ttl(lengths: Iterable[timedelta]) -> dict[str, object]:
    """The row of v1_cache_ttl of one client key, but for its reason; percentiles and means are not rounded."""
    values = sorted(map(minutes, lengths))
    upto = [0, *(sum(value <= bound for value in values) for bound in (5, 15, 30, 60)), len(values)]
    counts = [high - low for low, high in pairwise(upto)]
    p50, p75, p90 = (percentile(values, Fraction(n, 100)) for n in (50, 75, 90))
    recommended = 5 if p90 <= 5 else 15 if p75 <= 15 else 30 if p75 <= 30 else 60
    return {
        "request_count": len(values),
        "counts": counts,
        "percents": [rate(count, len(values), 1) for count in counts],
        "minutes": [p50, p75, p90, sum(values, Fraction(0)) / len(values), values[0], values[-1]],
        "recommended": recommended,
    }


# -- cache hits -------------------------------------------------------------------------------------------------


def cache_hits(records: Iterable[Record]) -> tuple[object, ...]:
    """The row of v1_cache_hits."""
    done = [each for each in records if each.outcome == "success"]
    hits = [each for each in done if each.read]
    uncached, read, written = (sum(getattr(each, name) for each in done) for name in ("uncached", "read", "written"))
    read_cost = money(done, "read_cost")
    return (
        len(done),
        len(hits),
        rate(len(hits), len(done)),
        uncached,
        read,
        written,
        rate(read, uncached + read + written),
        read_cost,
        money(done, "write_cost"),
        sum(each.cost is None for each in done),
        added(each.read * (INPUT - READ) / MTOK if each.cost is not None else None for each in hits),
        sum(each.cost is None for each in hits),
        None if read_cost is None else 9 * read_cost,
    )
