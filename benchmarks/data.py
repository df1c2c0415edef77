"""What the benchmarks load: answers and snapshots of a made-up proxy with many users, the same for the same seed.

20 client keys, a few of which do most of the work; 44 credentials; 15 models; bursts; calls that end out of order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from worker.cliproxyapi import directory
from worker.secret import Keyring
from worker.simulator.traffic import CREDENTIALS, Credential, Traffic, queue_item, snapshot

SEED = 7
ANSWER_RECORDS = 10_000
START = datetime(2026, 10, 30, tzinfo=UTC)
DAYS = 4
"""Calls begin within three days; the last ones may end on the fourth."""

KEYS = tuple(f"sk-client-EXAMPLE-bench-{n:04d}" for n in range(20))
SKEW = tuple(key for n, key in enumerate(KEYS) for _ in range(max(1, 40 >> n)))
DATE = re.compile(rb'"timestamp":"(\d{4}-\d\d-\d\d)')


def world() -> Traffic:
    """Return the generator of the calls."""
    live = [c for c in CREDENTIALS if c.mapped and c.weight and c.models]
    others = [_another(c, n) for n in (1, 2) for c in live]
    return Traffic(SEED, start=START, credentials=(*CREDENTIALS, *others), client_keys=SKEW)


def _another(c: Credential, n: int) -> Credential:
    """Return a credential of the same kind that is another one."""
    index = f"{int(c.auth_index or '0', 16) ^ (n << 60) ^ n:016x}"
    email = c.email.replace("@", f"+{n}@") if c.email else ""
    return replace(
        c,
        number=c.number + 100 * n,
        auth_index=index,
        key=f"{c.key}-{n}" if c.key else "",
        email=email,
        label=c.label.replace("@", f"+{n}@") if c.label else "",
        file=f"{n}-{c.file}" if c.file else "",
        name=f"{c.name} {n}" if c.name else "",
        base_url=c.base_url.replace("://", f"://r{n}.") if c.base_url else "",
        weight=max(1, c.weight // (n + 1)),
    )


def write(folder: Path, records: int) -> None:
    """Write the answers of a queue, the whole as a snapshot, and that snapshot a thousandth later."""
    calls = world().generate(records + records // 1000)
    for n in range(0, records, ANSWER_RECORDS):
        items = [queue_item(call) for call in calls[n : min(n + ANSWER_RECORDS, records)]]
        (folder / f"queue-{n:09d}.json").write_bytes(msgspec.json.encode(items))
    (folder / "snapshot.json").write_bytes(msgspec.json.encode(snapshot(calls[:records])))
    (folder / "later.json").write_bytes(msgspec.json.encode(snapshot(calls)))


def answers(folder: Path) -> Iterator[bytes]:
    """Yield the answers of the queue, one after the other."""
    for path in sorted(folder.glob("queue-*.json")):
        yield path.read_bytes()


def shifted(answer: bytes, days: int) -> bytes:
    """Return an answer as it would have come some days later: other calls, with the same figures."""
    first = date.fromisoformat(DATE.search(answer)[1].decode()) - timedelta(days=1)
    for day in (first + timedelta(days=n) for n in range(DAYS, -1, -1)):
        before, after = (f'"timestamp":"{d}'.encode() for d in (day, day + timedelta(days=days)))
        answer = answer.replace(before, after)
    return answer


def mapping(endpoint: str) -> bytes:
    """Return the answer of a mapping endpoint."""
    return msgspec.json.encode(world().mapping(endpoint))


def credentials(keyring: Keyring) -> list[directory.Credential]:
    """Return what the proxy lists."""
    parsed = (directory.parse(endpoint, mapping(endpoint), keyring)[0] for endpoint in directory.ENDPOINTS)
    return [credential for found in parsed for credential in found]
