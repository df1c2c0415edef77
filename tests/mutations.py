"""Payloads of the usage queue with something wrong in them, made at random from good ones."""

from __future__ import annotations

import json
from random import Random
from typing import Any, NamedTuple

from support import calls

from worker.simulator import traffic

ITEMS = [traffic.queue_item(call) for call in calls(200)] + [
    traffic.queue_item(call, "6.10.8") for call in calls(300)[200:]
]
FIELDS = sorted({name for one in ITEMS for name in one})
HUGE = "@a number of 5000 digits@"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, HUGE, 0.5, -0.0, 1e308,
    float("inf"), float("-inf"), float("nan"), "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "x\ud83d", "\uffff",
    "😀", "\u202e", "\r\n\t", "'; DROP TABLE usage.record; --", "%s", "{}", "\\", '"', "x" * 151, "é" * 5000,
    "NaN", "1e999",
    "2026-08-22T12:00:00Z", "2026-08-22T12:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999999Z",
    "2026-02-30T00:00:00Z", "2026-08-22T23:59:60Z", "2026-08-22T12:00:00+99:99", "2026-08-22T12:00:00-23:59",
    "2026-08-31T23:59:59.9999999999999999999999Z", "-2026-08-22T12:00:00Z", "٢٠٢٦-08-22T12:00:00Z",
    "1970-01-01T00:00:00Z",
    [], {}, [[]], [None], {"": ""}, {"input_tokens": 1}, {"status_code": 10**12, "body": "{"},
)  # fmt: skip
BYTES = (b"\0", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b'"', b"\\", b"{", b"}", b"[", b"]", b",",
         b":", b"\\u0000", b"\\ud800", b"NaN", b"-", b"1e999", b"\xef\xbb\xbf", b"//", b"\x1f\x8b")  # fmt: skip


class Payload(NamedTuple):
    """What a queue answers, and the request ids of the items in it that are good and can be found."""

    body: bytes
    good: list[str]


def payload(random: Random, number: int) -> Payload:
    """Return a payload of some good items and some that were changed; `number` makes the good ones unlike others."""
    parts: list[bytes] = []
    good: list[str] = []
    broken = False
    for place in range(random.randint(1, 6)):
        one = dict(random.choice(ITEMS))
        one["timestamp"] = (
            f"2026-08-{1 + number % 28:02d}T{number // 28 % 24:02d}:00:00.{number % 10**6:06d}{place:03d}Z"
        )
        one["request_id"] = f"g{number:x}-{place}"
        if random.random() < 0.5:
            if not broken:  # what comes after a break may be lost
                good.append(one["request_id"])
            parts.append(json.dumps(one, ensure_ascii=random.random() < 0.5).encode())
            continue
        one["request_id"] = f"m{number:x}-{place}"
        text = json.dumps(changed(random, one)).replace(f'"{HUGE}"', "9" * 5000).encode()
        if random.random() < 0.3:
            text, broken = spliced(random, text), True
        parts.append(text)
    return Payload(b"[" + b",".join(parts) + b"]", good)


def changed(random: Random, one: dict[str, Any]) -> Any:
    """Return an item with one to three things in it that are not as they should be."""
    found: Any = one
    for _ in range(random.randint(1, 3)):
        if not isinstance(found, dict) or not found:
            return found
        name = random.choice([*found])
        kind = random.randrange(7)
        if kind <= 2:
            found[name] = random.choice(VALUES)
        elif kind == 3 and isinstance(found[name], dict) and found[name]:
            inner = dict(found[name])
            inner[random.choice([*inner])] = random.choice(VALUES)
            found[name] = inner
        elif kind == 3:
            found[random.choice(FIELDS)] = random.choice(VALUES)
        elif kind == 4:
            found[str(random.choice(VALUES)).strip("@")] = found.pop(name)
        elif kind == 5:
            del found[name]
        else:
            found = random.choice([json.dumps(found), [found], {"usage": found}, found, random.choice(VALUES)])
    return found


def spliced(random: Random, text: bytes) -> bytes:
    """Return bytes with some of them taken out, doubled, or others put between."""
    at, length = random.randrange(len(text)), random.randrange(1, 20)
    return random.choice(
        (
            text[:at],
            text[:at] + text[at + length :],
            text[:at] + random.choice(BYTES) + text[at:],
            text[:at] + random.choice(BYTES) * 50 + text[at + length :],
            text[: at + length] + text[at:],
            text[:at] + bytes(random.randrange(256) for _ in range(length)) + text[at + length :],
        )
    )
