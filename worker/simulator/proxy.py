"""A proxy on loopback: CLIProxyAPI's management API, one generation at a time, with faults on demand."""

from __future__ import annotations

import argparse
import gzip as gzip_codec
import json
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType, MappingProxyType
from typing import Any, Literal, NamedTuple, Self, get_args
from urllib.parse import parse_qs, urlsplit

from worker.simulator import home as simulator_home
from worker.simulator import traffic as made_up
from worker.simulator import v8
from worker.simulator.traffic import Credential, Detail, IndexKind, Json, QueueVersion, Traffic, Usage

BASE_PATH = "/v0/management"
Generation = Literal[
    "queue",
    "queue-6.10.8",
    "snapshot",
    "snapshot-int",
    "resp-only",
    "both",
    "v8",
    "v8-only",
    "capped",
    "envelope",
    "home",
]


class Offer(NamedTuple):
    """What a generation of the proxy offers."""

    version: str
    era: int
    queue: QueueVersion | None = None
    snapshot: IndexKind | None = None
    bases: tuple[str, ...] = (BASE_PATH,)
    """Under which of the paths of its management API it answers."""
    answer_max: int | None = None
    """How many items an answer of the queue has at most, however many are asked for."""
    enveloped: bool = False
    """Whether an answer of the queue is an object with the items in it."""
    masked: bool = False
    """Whether an item shows no more of a client's key than its begin and end."""
    home: bool = False
    """Whether it is CLIProxyAPIHome, which keeps usage in a database."""


OFFERS: Mapping[Generation, Offer] = MappingProxyType(
    {
        "queue": Offer("7.2.140", made_up.MODERN_ERA, queue="7.2.140"),
        "queue-6.10.8": Offer("6.10.8", made_up.STRING_ERA, queue="6.10.8"),
        "snapshot": Offer("6.9.49", made_up.STRING_ERA, snapshot="string"),
        "snapshot-int": Offer("6.6.55", made_up.INT_ERA, snapshot="int"),
        "resp-only": Offer("6.10.5", made_up.STRING_ERA),
        "both": Offer("6.10.8-fork", made_up.STRING_ERA, queue="6.10.8", snapshot="string"),
        "v8": Offer("8.0.20", made_up.MODERN_ERA, queue="8.0.20", bases=(BASE_PATH, v8.BASE_PATH)),
        "v8-only": Offer("8.9.0", made_up.MODERN_ERA, queue="8.0.20", bases=(v8.BASE_PATH,)),
        "capped": Offer("7.2.140-plus", made_up.MODERN_ERA, queue="7.2.140", answer_max=500, masked=True),
        "envelope": Offer(
            "6.10.8-plus", made_up.STRING_ERA, queue="6.10.8", answer_max=500, enveloped=True, masked=True
        ),
        "home": Offer("7.2.140", made_up.MODERN_ERA, home=True),
    }
)
MAPPINGS = (
    "auth-files", "api-keys", "openai-compatibility", "gemini-api-key", "claude-api-key", "codex-api-key",
    "vertex-api-key", "interactions-api-key", "xai-api-key",
)  # fmt: skip
LOOPBACK = "127.0.0.1"
FAILURES_MAX = 5
BAN_S = 30 * 60
CLOSE_MAX_S = 5.0
RETENTION_DEFAULT_S, RETENTION_MAX_S = 60.0, 3600.0
BUCKET_S, BUCKETS = 600, 20
"""How the proxy counts recent requests."""

JSON_TYPE = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one answer.

    `status` (with `body` and `headers`), `html` and `garbage` answer in the proxy's place, as a broken front
    proxy would: nothing is popped. The others let the proxy work and spoil the way back.
    """

    status: int | None = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    html: bool = False
    garbage: bool = False
    delay_s: float = 0.0
    """How long the finished answer is held back."""
    cut_after_bytes: int | None = None
    """Announce the whole body, send this much of it, and close."""
    drop: bool = False
    """Close without an answer."""
    after_pop: bool = False
    """Whether a dropped call has done its work."""


@dataclass(slots=True)
class Pop:
    """Items that left the queue together, and whether they went out whole."""

    items: list[object]
    arrived: bool = False


@dataclass(slots=True, kw_only=True)
class Answer:
    """What goes out; status 0 is a connection closed without a word."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    pop: Pop | None = None
    delay_s: float = 0.0
    cut_after_bytes: int | None = None


class Request(NamedTuple):
    """What came in; `address` is whom a ban would hit."""

    method: str
    path: str
    query: str
    headers: Message
    body: bytes
    address: str


Handler = Callable[[Request], Answer]


def _answer(status: int, body: object) -> Answer:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Answer(status=status, body=text.encode(), headers={"Content-Type": JSON_TYPE})


def _error(status: int, text: str) -> Answer:
    return _answer(status, {"error": text})


def go_duration(seconds: float) -> str:
    """Return a time span as Go prints it: `29m58s`, `1h0m0s`, `45s`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minute}m{second}s"
    return f"{minute}m{second}s" if minute else f"{second}s"


class Door:
    """Who may come in: the key, failures in a row, bans by address."""

    def __init__(self, key: str, clock: Callable[[], float]) -> None:
        self.key = key
        self.refusal: str | None = None
        self.failures = 0
        self._clock = clock
        self._in_a_row: dict[str, int] = {}
        self._banned_until: dict[str, float] = {}

    def ban(self, seconds: float, address: str) -> None:
        """Keep an address out for a while."""
        self._banned_until[address] = self._clock() + seconds

    def clear(self) -> None:
        """Lift bans, and forget failures in a row."""
        self._banned_until.clear()
        self._in_a_row.clear()

    def turn_away(self, request: Request) -> Answer | None:
        """Return the answer for a request that may not come in."""
        left = self._banned_until.get(request.address, 0.0) - self._clock()
        if left > 0:
            return _error(403, f"IP banned due to too many failed attempts. Try again in {go_duration(left)}")
        if self.refusal is not None:
            return _error(403, self.refusal)
        presented = _presented_key(request.headers)
        failures = 0 if presented == self.key else self._in_a_row.get(request.address, 0) + 1
        self._in_a_row[request.address] = failures
        if not failures:
            return None
        self.failures += 1
        if failures == FAILURES_MAX:
            self._in_a_row[request.address] = 0
            self.ban(BAN_S, request.address)
        return _error(401, "invalid management key" if presented else "missing management key")


def _presented_key(headers: Message) -> str:
    authorization = headers.get("Authorization", "")
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer" and rest:
        return rest
    return authorization or headers.get("X-Management-Key", "")


class Simulator:
    """The proxy: a context manager, or `start` and `stop`. Its memory outlives a stop; `forget` loses it."""

    def __init__(
        self,
        *,
        generation: Generation = "queue",
        key: str = "EXAMPLE-management-key",
        traffic: Traffic | None = None,
        retention_s: float = RETENTION_DEFAULT_S,
        host: str = LOOPBACK,
        port: int = 0,
        version: str | None = None,
        statistics_enabled: bool = True,
        home_mode: bool = False,
        gzip: bool = False,
        base_path: str = BASE_PATH,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make a proxy that does not listen yet.

        Args:
            generation: which version's API it offers.
            key: the management key.
            traffic: the world whose credentials the mapping endpoints show; its offset is the time zone.
            retention_s: how long the queue keeps an item; 0 or less means 60, and 3600 is the most.
            host: 127.0.0.1; anything else is refused.
            port: 0 for any free one.
            version: what X-CPA-VERSION says; by default the generation's.
            statistics_enabled: off, what is pushed is dropped.
            home_mode: on, the whole management API is 404.
            gzip: compress answers for clients that accept it.
            base_path: where the management API lives.
            tls: its certificate, and whether it asks for the client's; None: plain HTTP.
            clock: monotonic seconds; ages queue items and bans.
            wall: seconds since 1970, as its Date header and its counters of recent requests have them.
        """
        if host != LOOPBACK:
            raise ValueError(f"the simulator listens on {LOOPBACK} only, not on {host!r}")
        self.offer = OFFERS[generation]
        self.version = version or self.offer.version
        self.traffic = traffic
        self.statistics_enabled = statistics_enabled
        self.home_mode = home_mode
        self.gzip = gzip
        self._base_path = base_path.rstrip("/")
        self._bases = self._served_bases()
        self.unwritten: set[str] = set()
        """Paths of v8's settings that were never written, so that they are 404."""
        self.port = port
        self._tls = tls
        self.requests: list[tuple[str, str, int]] = []
        """(method, path with query, status) of every call; status 0 is a connection closed without a word."""
        self._retention_s = min(retention_s, RETENTION_MAX_S) if retention_s > 0 else RETENTION_DEFAULT_S
        self._clock = clock
        self.wall = wall
        self._served: Counter[tuple[str, bool, int]] = Counter()
        self._lock = threading.RLock()
        self._door = Door(key, clock)
        self._queue: deque[tuple[float, object]] = deque()
        self._pops: list[Pop] = []
        self._expired: list[object] = []
        self._history: dict[tuple[object, ...], Detail] = {}
        self.home = simulator_home.Home()
        self._faults: dict[str, deque[Fault]] = {}
        self._overrides: dict[str, Answer] = {}
        self._server: _Server | None = None

    # The server.

    @property
    def url(self) -> str:
        """The base URL, without the management path."""
        return f"{'https' if self._tls else 'http'}://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Listen; a second start takes the same port."""
        self._server = _Server((LOOPBACK, self.port), partial(_Connection, self))
        if self._tls is not None:  # each connection greets in its own thread, not where they are accepted
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        serve = partial(self._server.serve_forever, poll_interval=0.005)
        threading.Thread(target=serve, name="simulator", daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and close every open connection."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What is done to it.

    def push(self, usages: Iterable[Usage]) -> None:
        """Let calls end now: into the queue, the history, or both. Dropped while statistics are off."""
        with self._lock:
            for usage in usages:
                self._served[usage.auth_index, usage.failed, int(self.wall()) // BUCKET_S] += 1
                if not self.statistics_enabled:
                    continue
                if self.offer.queue:
                    self._queue.append((self._clock(), usage))
                if self.offer.home:
                    self.home.store(made_up.queue_item(usage, "7.2.140", self._offset))
                if self.offer.snapshot:
                    self._remember(made_up.snapshot_detail(usage, self.offer.snapshot, self._offset))

    def push_raw(self, items: Iterable[object]) -> None:
        """Put any JSON values into the queue as they are."""
        with self._lock:
            self._queue.extend((self._clock(), item) for item in items)

    def become(self, generation: Generation) -> None:
        """Be of another version from now on; what waits in the queue stays, as nothing of it is asked in between."""
        with self._lock:
            self.offer = OFFERS[generation]
            self.version = self.offer.version
            self._bases = self._served_bases()

    def _served_bases(self) -> dict[str, str]:
        return {base: self._base_path.replace(BASE_PATH, base) for base in self.offer.bases}

    def forget(self) -> None:
        """Lose queue, history, counters and bans, as a restarted proxy does."""
        with self._lock:
            self._queue.clear()
            self._history.clear()
            self._served.clear()
            self._door.clear()

    def ban(self, seconds: float, address: str = LOOPBACK) -> None:
        """Ban an address."""
        with self._lock:
            self._door.ban(seconds, address)

    def clear_bans(self) -> None:
        """Lift every ban, and forget failures in a row."""
        with self._lock:
            self._door.clear()

    def refuse(self, text: str | None) -> None:
        """Answer 403 with this text, such as `remote management disabled`; None ends it."""
        with self._lock:
            self._door.refusal = text

    def override(self, path: str, body: object, status: int = 200) -> None:
        """Answer `path` (such as `auth-files`) so from now on: bytes as they are, anything else as JSON."""
        raw = Answer(status=status, body=body, headers={"Content-Type": JSON_TYPE}) if isinstance(body, bytes) else None
        with self._lock:
            self._overrides[path.strip("/")] = raw or _answer(status, body)

    def clear_overrides(self) -> None:
        """Answer everything as the proxy would again."""
        with self._lock:
            self._overrides.clear()

    def fail_next(self, path_suffix: str, *faults: Fault) -> None:
        """Let the next calls whose path ends so go wrong: one fault each, in order."""
        with self._lock:
            self._faults.setdefault(path_suffix, deque()).extend(faults)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    # What has become of it.

    @property
    def handed_out(self) -> list[Usage]:
        """The calls that left in queue answers, oldest first."""
        return self._popped(arrived=True)

    @property
    def lost(self) -> list[Usage]:
        """The calls that were popped in vain: the answer was dropped or cut, or its client had gone."""
        return self._popped(arrived=False)

    @property
    def expired(self) -> list[Usage]:
        """The calls that retention took before anyone popped them."""
        with self._lock:
            return [item for item in self._expired if isinstance(item, Usage)]

    @property
    def queued(self) -> int:
        """How many items wait, including those that the next pop will find too old."""
        return len(self._queue)

    @property
    def auth_failures(self) -> int:
        """How many calls came without a key or with a wrong one."""
        return self._door.failures

    def _popped(self, *, arrived: bool) -> list[Usage]:
        with self._lock:
            items = (item for pop in self._pops if pop.arrived is arrived for item in pop.items)
            return [item for item in items if isinstance(item, Usage)]

    # What a call goes through.

    def answer(self, request: Request) -> Answer:
        """Return what goes out for `request`, faults included."""
        with self._lock:
            fault = self._next_fault(request.path)
            answer = _instead(fault) or self._manage(request)
        if self.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
            answer.body = gzip_codec.compress(answer.body, compresslevel=1)
            answer.headers["Content-Encoding"] = "gzip"
        answer.delay_s, answer.cut_after_bytes = fault.delay_s, fault.cut_after_bytes
        if fault.drop:
            answer.status = 0
        return answer

    def book(self, request: Request, answer: Answer, *, arrives: bool) -> None:
        """Note a call just before its answer goes out, so that who has the answer finds the note."""
        path = f"{request.path}?{request.query}" if request.query else request.path
        with self._lock:
            self.requests.append((request.method, path, answer.status))
            if answer.pop:
                answer.pop.arrived = arrives and answer.status != 0 and answer.cut_after_bytes is None
                self._pops.append(answer.pop)

    def _next_fault(self, path: str) -> Fault:
        for suffix, faults in self._faults.items():
            if faults and path.endswith(suffix):
                return faults.popleft()
        return Fault()

    def _manage(self, request: Request) -> Answer:
        if self.home_mode:
            return Answer(status=404)
        inside, handler = self._found(request)
        if handler is None:
            # v7 asks for the key even where there is nothing.
            if not (inside and self.offer.era == made_up.MODERN_ERA):
                return Answer(status=404, body=b"404 page not found", headers={"Content-Type": "text/plain"})
            handler = _nothing_here
        answer = self._door.turn_away(request) or handler(request)
        answer.headers |= {"X-CPA-VERSION": self.version, "X-CPA-COMMIT": "none"}
        answer.headers["X-CPA-BUILD-DATE"] = "2026-08-22T00:00:00Z"
        return answer

    def _found(self, request: Request) -> tuple[bool, Handler | None]:
        """Return whether a path is one of the management API, and what answers it."""
        for base, path in self._bases.items():
            if request.path.startswith(f"{path}/"):
                route = self._route_v8 if base == v8.BASE_PATH else self._route
                return True, route(request.method, request.path[len(path) + 1 :])
        return False, None

    def _route_v8(self, method: str, name: str) -> Handler | None:
        if name in v8.SAME:
            return self._route(method, v8.SAME[name])
        if method != "GET" or not name.startswith("config/"):
            return None
        family = name.removeprefix(f"{v8.KEYS}/")
        if name in self._overrides or name in self.unwritten:
            return self._overridden(name) or _unwritten
        told: dict[str, Callable[[], object]] = {
            v8.STATISTICS: lambda: self.statistics_enabled,
            v8.RETENTION: lambda: int(self._retention_s),
            v8.KEYS: lambda: v8.key_groups(self._listed, self._lists),
        }
        groups = v8.key_groups(self._listed, self._lists)
        if family in groups:
            return lambda _: _answer(200, groups[family])
        return (lambda _: _answer(200, told[name]())) if name in told else _unwritten

    def _listed(self, name: str) -> Json:
        return self._world.mapping(name, "string")

    def _overridden(self, name: str) -> Handler | None:
        answer = self._overrides.get(name)
        if answer is None:
            return None
        return lambda _: Answer(status=answer.status, body=answer.body, headers=dict(answer.headers))

    def _route(self, method: str, name: str) -> Handler | None:
        if name in self._overrides:
            return self._overridden(name)
        if name in self._lists:
            return (lambda _: self._mapping(name)) if method == "GET" else None
        routes: dict[str, Handler] = {
            "GET usage-statistics-enabled": self._statistics,
            "PUT usage-statistics-enabled": self._set_statistics,
            "PATCH usage-statistics-enabled": self._set_statistics,
            "GET config": self._config,
        }
        if self.offer.era >= made_up.STRING_ERA:
            routes["GET api-key-usage"] = self._api_key_usage
        if self.offer.queue:
            routes["GET usage-queue"] = self._pop
        if self.offer.home:
            routes[f"GET {simulator_home.RECORDS}"] = self._home_records
        if self.offer.snapshot:
            routes["GET usage"] = self._usage
        if self.offer.snapshot == "string":
            routes |= {"GET usage/export": self._export, "POST usage/import": self._import}
        return routes.get(f"{method} {name}")

    # What it answers.

    @property
    def _offset(self) -> str:
        return self.traffic.offset if self.traffic else "Z"

    def _statistics(self, _: Request) -> Answer:
        return _answer(200, {"usage-statistics-enabled": self.statistics_enabled})

    def _set_statistics(self, request: Request) -> Answer:
        try:
            value: object = json.loads(request.body)["value"]
        except (ValueError, LookupError, TypeError):
            value = None
        if not isinstance(value, bool):
            return _error(400, "invalid body")
        self.statistics_enabled = value
        return _answer(200, {"status": "ok"})

    @property
    def _world(self) -> Traffic:
        return self.traffic or Traffic(0, credentials=(), client_keys=())

    @property
    def _lists(self) -> list[str]:
        """The lists of credentials: those of its era, and whatever others its world has any of, as a fork does."""
        of_era = [name for name in MAPPINGS if self.offer.era >= made_up.FIRST_ERA.get(name, made_up.INT_ERA)]
        more = (c.mapping for c in self._world.credentials if c.mapping not in MAPPINGS)
        return list(dict.fromkeys([*of_era, *more]))

    def _mapping(self, name: str) -> Answer:
        body: Any = self._world.mapping(name, "int" if self.offer.era == made_up.INT_ERA else "string")
        if name == "auth-files" and self.offer.era >= made_up.STRING_ERA:
            body["files"] = [entry | self._counters(entry["auth_index"]) for entry in body["files"]]
        return _answer(200, body)

    def _config(self, _: Request) -> Answer:
        """Tell the settings as the proxy does: secrets and all."""
        names = [name for name in self._lists if name != "auth-files"]
        body = {"proxy-url": "socks5://proxy:EXAMPLE-proxy-password@10.0.0.1:1080", "debug": False}
        body |= {name: self._world.mapping(name)[name] for name in names}
        if self.offer.version != OFFERS["snapshot"].version and self.offer.era >= made_up.STRING_ERA:
            body["redis-usage-queue-retention-seconds"] = int(self._retention_s)
        return _answer(200, body | {"usage-statistics-enabled": self.statistics_enabled})

    def _api_key_usage(self, _: Request) -> Answer:
        told: dict[str, dict[str, Json]] = {}
        for credential in self._world.credentials:
            if credential.mapping != "auth-files" and credential.mapped and credential.key:
                of_provider = told.setdefault(_counted_as(credential), {})
                of_provider[f"{credential.base_url}|{credential.key}"] = self._counters(credential.auth_index)
        return _answer(200, told)

    def _counters(self, auth_index: str) -> Json:
        """Return what a credential has served: in all, and for each of the last ten minutes."""
        sums = {failed: sum(n for (index, bad, _), n in self._served.items() if (index, bad) == (auth_index, failed))
                for failed in (False, True)}  # fmt: skip
        last = int(self.wall()) // BUCKET_S
        recent = [
            {
                "time": f"{self._hour(bucket)}-{self._hour(bucket + 1)}",
                "success": self._served[auth_index, False, bucket],
                "failed": self._served[auth_index, True, bucket],
            }
            for bucket in range(last - BUCKETS + 1, last + 1)
        ]
        return {"success": sums[False], "failed": sums[True], "recent_requests": recent}

    def _hour(self, bucket: int) -> str:
        return time.strftime("%H:%M", time.gmtime(bucket * BUCKET_S + made_up.offset_s(self._offset)))

    def _pop(self, request: Request) -> Answer:
        count = parse_qs(request.query).get("count", [""])[0].strip() or "1"
        try:
            wanted = int(count) if count.isascii() and "_" not in count else 0
        except ValueError:
            wanted = 0
        if wanted < 1:
            return _error(400, "count must be a positive integer")
        oldest = self._clock() - self._retention_s
        while self._queue and self._queue[0][0] < oldest:
            self._expired.append(self._queue.popleft()[1])
        wanted = min(wanted, self.offer.answer_max or wanted)
        items = [self._queue.popleft()[1] for _ in range(min(wanted, len(self._queue)))]
        told = [self._item(x) if isinstance(x, Usage) else x for x in items]
        answer = _answer(200, {"count": len(told), "items": told} if self.offer.enveloped else told)
        answer.pop = Pop(items)
        return answer

    def _item(self, usage: Usage) -> Json:
        shown = replace(usage, client_key=masked(usage.client_key)) if self.offer.masked else usage
        return made_up.queue_item(shown, self.offer.queue or "7.2.140", self._offset)

    def _home_records(self, request: Request) -> Answer:
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        try:
            with self._lock:
                return _answer(200, self.home.page(query))
        except ValueError as e:
            return _error(400, str(e))

    def _usage(self, _: Request) -> Answer:
        return _answer(200, made_up.snapshot_body(self._history.values()))

    def _export(self, _: Request) -> Answer:
        usage = made_up.snapshot_body(self._history.values())["usage"]
        return _answer(200, {"version": 1, "exported_at": made_up.stamp(time.time_ns()), "usage": usage})

    def _import(self, request: Request) -> Answer:
        try:
            document: Any = json.loads(request.body)
            version, details = document.get("version", 0), list(_imported(document["usage"]))
        except (ValueError, LookupError, TypeError, AttributeError):
            return _error(400, "invalid json")
        if version not in (0, 1):
            return _error(400, "unsupported version")
        added = sum([self._remember(detail) for detail in details])
        reply: Json = {"added": added, "skipped": len(details) - added, "total_requests": len(self._history)}
        reply["failed_requests"] = sum(detail.failed for detail in self._history.values())
        return _answer(200, reply)

    def _remember(self, detail: Detail) -> bool:
        """Add a call to the history, unless the proxy's own key says that it is there."""
        body = detail.body
        key = (
            detail.api,
            detail.model,
            detail.at,
            body["source"],
            body["auth_index"],
            json.dumps(body["tokens"], sort_keys=True),
        )
        return self._history.setdefault(key, detail) is detail


def _counted_as(credential: Credential) -> str:
    """Return under which provider the proxy counts an API key."""
    return (credential.name or credential.provider).lower()


def masked(key: str) -> str:
    """Return a key as a fork shows it."""
    return f"{key[:4]}***{key[-4:]}" if len(key) > 8 else f"{key[:2]}***" if key else ""  # noqa: PLR2004


def _unwritten(_: Request) -> Answer:
    return _error(404, "not_found")


def _nothing_here(_: Request) -> Answer:
    return Answer(status=404)


def _instead(fault: Fault) -> Answer | None:
    """Return the answer that a fault gives in the proxy's place."""
    if fault.html:
        page = b"<!DOCTYPE html><html><title>Sign in</title><body>Welcome</body></html>"
        return Answer(status=200, body=page, headers={"Content-Type": "text/html"})
    if fault.garbage:
        return Answer(status=200, body=b'[{"timestamp": \xff\xfe', headers={"Content-Type": JSON_TYPE})
    if fault.status is not None:
        headers = {"Content-Type": JSON_TYPE, **fault.headers}
        return Answer(status=fault.status, body=fault.body, headers=headers)
    return Answer(status=0) if fault.drop and not fault.after_pop else None


def _imported(usage: Any) -> Iterator[Detail]:
    """Yield the calls of an exported document; an integer auth_index does not fit this era."""
    for api, of_api in usage["apis"].items():
        for model, of_model in of_api["models"].items():
            for body in of_model["details"]:
                if not isinstance(body["auth_index"], str):
                    raise TypeError("auth_index")
                total = int(body["tokens"]["total_tokens"])
                yield Detail(api, model, body["timestamp"], total, bool(body["failed"]), body)


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that none outlives it."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], connection: Callable[..., _Connection]) -> None:
        self._open: set[socket.socket] = set()
        self._ended = threading.Condition()
        super().__init__(address, connection)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        if isinstance(request, socket.socket):
            with self._ended:
                self._open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone; it may have been killed on purpose."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        super().shutdown_request(request)
        if isinstance(request, socket.socket):
            with self._ended:
                self._open.discard(request)
                self._ended.notify()

    def close(self) -> None:
        """Stop, and wait until every connection has ended."""
        self.shutdown()
        self.server_close()
        with self._ended:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._ended.wait_for(lambda: not self._open, timeout=CLOSE_MAX_S)


class _Connection(BaseHTTPRequestHandler):
    """Bytes in, bytes out; the simulator decides."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def __init__(self, simulator: Simulator, *args: Any) -> None:
        self.simulator = simulator
        super().__init__(*args)

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # The proxy believes X-Forwarded-For from anyone.
        address = self.headers.get("X-Forwarded-For", self.client_address[0]).partition(",")[0].strip()
        request = Request(self.command, url.path, url.query, self.headers, body, address)
        answer = self.simulator.answer(request)
        there = not answer.delay_s or self._hold(answer.delay_s)
        self.simulator.book(request, answer, arrives=there)
        if not there or answer.status == 0 or answer.cut_after_bytes is not None:
            self.close_connection = True
        if there and answer.status:
            self._send(answer)

    do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = _serve  # noqa: N815  (the base looks for these names)

    def _hold(self, seconds: float) -> bool:
        """Wait, and return whether the client still does too."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        try:
            return not readable or self.connection.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def _send(self, answer: Answer) -> None:
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut_after_bytes])
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            if answer.pop:
                answer.pop.arrived = False

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Tell the time of the simulated proxy."""
        return super().date_time_string(self.simulator.wall() if timestamp is None else timestamp)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base names it)
        """Stay silent: tests and the demo own the terminal."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve made-up calls until SIGTERM or SIGINT; one JSON line on stdout says where."""
    parser = argparse.ArgumentParser(prog="python -m worker.simulator.proxy", description=__doc__)
    parser.add_argument("--generation", choices=get_args(Generation), default="queue")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--records", type=int, default=1000, help="how many calls there will be")
    parser.add_argument("--rate", type=float, default=0.0, help="calls that end per second; 0: all at once")
    parser.add_argument("--key", default="EXAMPLE-management-key")
    parser.add_argument("--retention-s", type=float, default=RETENTION_DEFAULT_S)
    parser.add_argument("--offset", default="Z", help="time zone of timestamps: Z or +08:00")
    options = parser.parse_args(arguments)
    done = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        done.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    traffic = Traffic(options.seed, offset=options.offset)
    calls = traffic.generate(options.records)
    simulator = Simulator(
        generation=options.generation,
        key=options.key,
        traffic=traffic,
        port=options.port,
        retention_s=options.retention_s,
    )
    with simulator:
        if not options.rate:
            simulator.push(calls)
        sys.stdout.write(json.dumps({"url": simulator.url, "key": options.key}) + "\n")
        sys.stdout.flush()
        if options.rate:
            _feed(simulator, calls, options.rate, done)
        done.wait()


def _feed(simulator: Simulator, calls: Sequence[Usage], rate: float, done: threading.Event) -> None:
    """Let `rate` calls end per second, until there are no more."""
    began, pushed = time.monotonic(), 0
    while pushed < len(calls) and not done.wait(min(1 / rate, 0.05)):
        due = int((time.monotonic() - began) * rate)
        simulator.push(calls[pushed:due])
        pushed = max(pushed, due)


if __name__ == "__main__":
    main()
