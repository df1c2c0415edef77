"""A simulated proxy that remembers what exactly left it: what the books of a worker are held against.

A record counts as delivered when its bytes left whole: those in the sent part of a cut answer too.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from worker.simulator.proxy import Answer, Fault, Pop, Request, Simulator
from worker.simulator.traffic import QueueVersion, Usage, queue_item

TIMEOUT_S = 4.0
"""How long the worker is to wait for an answer; some take longer."""

Identity = tuple[int, str, str, str]


def identity(usage: Usage) -> Identity:
    return usage.timestamp_ns // 1000, usage.request_id, usage.model, usage.alias


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Fault):
    """A fault with a name, to be counted by."""

    name: str


def planned(name: str, rng: Random) -> Planned:
    if name.isdigit():
        headers = {"Retry-After": str(rng.randint(1, 3))} if rng.random() < 0.5 else {}
        return Planned(name=name, status=int(name), headers=headers)
    return {
        "cut": Planned(name=name, cut_after_bytes=rng.randrange(1 << 20)),
        "slow": Planned(name=name, delay_s=rng.uniform(0.3, 2.5)),
        "too slow": Planned(name=name, delay_s=TIMEOUT_S + 3),
        "dropped": Planned(name=name, drop=True),
        "dropped late": Planned(name=name, drop=True, after_pop=True),
        "html": Planned(name=name, html=True),
        "garbage": Planned(name=name, garbage=True),
    }[name]


@dataclass(slots=True)
class Pull:
    """One read of the queue."""

    at: float
    pop: Pop
    reached: int | None
    """How many of its records left whole in an answer that was spoiled; None where nothing was to go wrong."""
    emptied: bool
    killed_after_s: float | None = None
    """How long after it the worker was killed, where it was the last one before that."""


class Proxy(Simulator):
    """The simulator, with a memory of what exactly reached the worker, and when."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.pulls: list[Pull] = []
        self.spoiled: Counter[tuple[str, str]] = Counter()
        self.forgotten = 0
        self.filled = 0
        """How many pulls brought something."""
        self._in_hand = 0

    def answer(self, request: Request) -> Answer:
        """Answer, and cut within the answer what is to be cut."""
        with self._lock:
            self._in_hand += 1
        answer = super().answer(request)
        if answer.cut_after_bytes is not None:
            answer.cut_after_bytes %= len(answer.body) or 1  # planned before the length was known
        return answer

    def book(self, request: Request, answer: Answer, *, arrives: bool) -> None:
        """Note what of a pop is about to leave."""
        super().book(request, answer, arrives=arrives)
        if answer.pop:
            spoiled = not arrives or answer.status == 0 or answer.cut_after_bytes is not None
            sent = answer.cut_after_bytes if arrives and answer.status else 0
            reached = (
                _whole(answer.pop.items, sent or 0, len(answer.body), self.offer.queue or "7.2.140")
                if spoiled
                else None
            )
            self.pulls.append(Pull(time.monotonic(), answer.pop, reached, self.queued == 0))
            self.filled += bool(answer.pop.items)
        with self._lock:
            self._in_hand -= 1

    def forget(self) -> None:
        """Lose the queue, and count what was in it."""
        with self._lock:
            self.forgotten += self.queued
            super().forget()

    def heal(self) -> None:
        """Forget the faults that nothing has run into yet."""
        with self._lock:
            self._faults.clear()

    def settle(self) -> None:
        """Wait until every answer has been given."""
        until = time.monotonic() + TIMEOUT_S
        time.sleep(0.2)  # a request may still be on its way in
        while self._in_hand and time.monotonic() < until:
            time.sleep(0.01)

    def _next_fault(self, path: str) -> Fault:
        fault = super()._next_fault(path)
        if isinstance(fault, Planned):
            self.spoiled[path.rpartition("/")[2], fault.name] += 1
        return fault


def _whole(items: Sequence[object], sent: int, length: int, version: QueueVersion) -> int:
    """Return how many of the items lie in the first `sent` bytes of their answer."""
    ends, at = [], 1
    for item in items:
        text = json.dumps(queue_item(item, version) if isinstance(item, Usage) else item, ensure_ascii=False,
                          separators=(",", ":"))  # fmt: skip
        at += len(text.encode()) + 1
        ends.append(at - 1)
    if items and at != length:
        raise AssertionError("the simulator renders its answers otherwise than this benchmark thinks")
    return sum(end <= sent for end in ends)


class Delivered(NamedTuple):
    """What the ledger says of every record that was pulled."""

    surely: list[Usage]
    perhaps: list[Usage]
    """In an answer whose sending broke off, or that was in hand when the worker was killed."""
    never: int


def delivered(pulls: Iterable[Pull]) -> Delivered:
    surely: list[Usage] = []
    perhaps: list[Usage] = []
    never = 0
    for pull in pulls:
        items = [item for item in pull.pop.items if isinstance(item, Usage)]
        reached = items if pull.reached is None else items[: pull.reached]
        sure = pull.killed_after_s is None and (pull.pop.arrived or pull.reached is not None)
        (surely if sure else perhaps).extend(reached)
        never += len(items) - len(reached)
    return Delivered(surely, perhaps, never)
