"""Made-up proxy traffic whose totals are known: what the simulator serves, and what the books must then show.

A `Usage` is the truth about one call. Each proxy generation tells less or more of it, so what can be expected
depends on the rendering: `queue_item` and `snapshot` render, `totals` says what a perfect reader of that
rendering would add up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from hashlib import sha256
from random import Random
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

Json = dict[str, object]
Family = Literal["subset", "independent", "separate_reasoning", "plain"]
"""How raw counts are reported; `plain` is without cache and reasoning, so every arithmetic reads it alike."""

QueueVersion = Literal["8.0.20", "7.2.140", "6.10.8"]
IndexKind = Literal["string", "int"]
Rendering = Literal["7.2.140", "6.10.8", "snapshot", "snapshot-int"]
ChannelKind = Literal["auth", "apikey", "unknown"]
Outcome = Literal["success", "failed", "warmup", "cancelled"]

INT_ERA, STRING_ERA, MODERN_ERA = 0, 1, 2
ERA: Mapping[Rendering, int] = MappingProxyType(
    {"snapshot-int": INT_ERA, "snapshot": STRING_ERA, "6.10.8": STRING_ERA, "7.2.140": MODERN_ERA}
)
FIRST_ERA: Mapping[str, int] = MappingProxyType(
    {"vertex-api-key": STRING_ERA, "interactions-api-key": MODERN_ERA, "xai-api-key": MODERN_ERA}
)
"""The era in which a mapping endpoint appeared; the others were always there."""

SECOND_NS = 1_000_000_000
DAY_S = 86_400
CLIENT_CLOSED = 499
SPAN_S = 3 * DAY_S
BURST_S = 2
START = datetime(2026, 8, 20, tzinfo=UTC)


class Model(NamedTuple):
    """A model as the upstream knows it, as clients ask for it, and the route they use."""

    name: str
    alias: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Something the proxy calls upstreams with: an auth file, or an API key (which may be no key at all)."""

    mapping: str
    """The management endpoint that lists it: `auth-files`, `claude-api-key`, `openai-compatibility`, …"""
    provider: str
    executor: str
    family: Family = "subset"
    models: tuple[Model, ...] = ()
    auth_index: str = ""
    number: int = 0
    """The auth_index of the integer era."""
    file: str = ""
    email: str = ""
    label: str = ""
    project: str = ""
    name: str = ""
    base_url: str = ""
    key: str = ""
    mapped: bool = True
    """False: in use, and in no answer of the management API. Its calls have the channel `unknown`."""
    weight: int = 1
    """Share of the traffic; 0 is configured and disabled, so it has no auth_index."""

    @property
    def source(self) -> str:
        """What records carry as `source`; empty means that the proxy falls back to the client's key."""
        return self.project or self.email or self.key

    @property
    def auth_type(self) -> str:
        """`oauth`, `apikey`, or `unknown` where no credential was chosen."""
        if not self.auth_index and self.weight:
            return "unknown"
        return "oauth" if self.mapping == "auth-files" else "apikey"

    @property
    def known_since(self) -> int:
        """The first era whose answers lead from a record to this credential."""
        if self.mapping != "auth-files" and not self.key:
            return STRING_ERA  # without an auth-index in the answer, only a key could be recognised
        return FIRST_ERA.get(self.mapping, INT_ERA)


CHAT, RESPONSES, MESSAGES = "POST /v1/chat/completions", "POST /v1/responses", "POST /v1/messages"
GENERATE = "POST /v1beta/models/{}:streamGenerateContent"
GPT = (Model("gpt-5.4", "gpt-5.4", RESPONSES), Model("gpt-5.4-codex", "team-a/codex", RESPONSES))
SONNET = Model("claude-sonnet-4-6", "sonnet", MESSAGES)
OPUS = Model("claude-opus-4-6", "claude-opus-4-6(high)", MESSAGES)
KIMI = Model("moonshotai/kimi-k2", "kimi-k2", CHAT)
QWEN = Model("qwen3-32b", "qwen3-32b", CHAT)
DEEPSEEK = Model("deepseek/deepseek-v3.2", "deepseek", CHAT)
GEMINI = Model("gemini-2.5-pro", "gemini-2.5-pro", GENERATE.format("gemini-2.5-pro"))

ACCOUNTS = (
    Credential(mapping="auth-files", provider="codex", executor="CodexExecutor", models=GPT, weight=6,
               auth_index="45333f9784294f6d", number=0, file="codex-alice@example.com-plus.json",
               email="alice@example.com", label="alice@example.com"),
    Credential(mapping="auth-files", provider="claude", executor="ClaudeExecutor", family="independent",
               models=(SONNET, OPUS), weight=6, auth_index="09888ec1434ba3fb", number=1,
               file="claude-bob@example.com.json", email="bob@example.com", label="bob@example.com"),
    # The same address as the codex account: only the auth_index tells them apart.
    Credential(mapping="auth-files", provider="claude", executor="ClaudeExecutor", family="independent",
               models=(SONNET,), weight=2, auth_index="3b1f0c55d2e94a07", number=2,
               file="claude-alice@example.com.json", email="alice@example.com", label="alice@example.com"),
    Credential(mapping="auth-files", provider="antigravity", executor="AntigravityExecutor",
               family="separate_reasoning", weight=4, auth_index="888f8df5a5721f02", number=3,
               models=(Model("gemini-3-pro-high", "gemini-3-pro", GENERATE.format("gemini-3-pro")),),
               file="antigravity-carol_example_com.json", email="carol@example.com",
               label="carol@example.com"),
    Credential(mapping="auth-files", provider="kimi", executor="KimiExecutor", weight=2, number=4,
               models=(Model("kimi-k2-thinking", "kimi", CHAT),), auth_index="7e0d41c9a8b25f36",
               file="kimi-team.json", label="Kimi Team 研究"),
    Credential(mapping="auth-files", provider="vertex", executor="GeminiVertexExecutor", weight=2, number=5,
               family="separate_reasoning", models=(GEMINI,), auth_index="d94c2b7f10e863a5",
               file="vertex-proj-42.json", project="proj-42"),
)  # fmt: skip
"""Auth files: with an e-mail, with a label only, and with neither."""

PROVIDER_KEYS = (
    Credential(mapping="openai-compatibility", provider="openai-compatible-openrouter", weight=4, number=6,
               executor="OpenAICompatExecutor", models=(KIMI, DEEPSEEK), name="OpenRouter",
               base_url="https://openrouter.ai/api/v1", key="sk-or-v1-EXAMPLE-0001",
               auth_index="a91baaa28e621b1d"),
    Credential(mapping="openai-compatibility", provider="openai-compatible-openrouter", weight=2, number=7,
               executor="OpenAICompatExecutor", models=(KIMI,), name="OpenRouter",
               base_url="https://openrouter.ai/api/v1", key="sk-or-v1-EXAMPLE-0002",
               auth_index="67a86daef1a2e2b2"),
    Credential(mapping="openai-compatibility", provider="openai-compatible-local-vllm", weight=2, number=8,
               executor="OpenAICompatExecutor", family="plain", models=(QWEN,),
               name="local-vllm", base_url="http://10.0.0.9:8000/v1", auth_index="c0ffee0123456789"),
    Credential(mapping="openai-compatibility", provider="openai-compatible-old", weight=0,
               executor="OpenAICompatExecutor", name="old", base_url="https://old.example.net/v1",
               key="sk-EXAMPLE-old-0001"),
    Credential(mapping="claude-api-key", provider="claude", executor="ClaudeExecutor", weight=4, number=9,
               family="independent", models=(SONNET,), base_url="https://relay.example.net",
               key="sk-ant-EXAMPLE-0001", auth_index="fa9f32422e730cb3"),
    Credential(mapping="claude-api-key", provider="claude", executor="ClaudeExecutor", weight=0,
               family="independent", key="sk-ant-EXAMPLE-disabled"),
    Credential(mapping="gemini-api-key", provider="gemini", executor="GeminiExecutor", weight=3, number=10,
               family="separate_reasoning", models=(GEMINI,), key="AIzaSyEXAMPLE-gemini-key-0001",
               auth_index="371d429bc7b0af0e"),
    Credential(mapping="codex-api-key", provider="codex", executor="CodexExecutor", weight=3, number=11,
               models=(Model("gpt-5.4-mini", "mini", RESPONSES),), base_url="https://api.openai.com/v1",
               key="sk-EXAMPLE-codex-0001", auth_index="697c2a54692193a2"),
    # A name must not show the password of a base URL.
    Credential(mapping="codex-api-key", provider="codex", executor="CodexExecutor", weight=1, number=12,
               models=(Model("gpt-5.4-mini", "mini", RESPONSES),), key="sk-EXAMPLE-codex-0002",
               base_url="https://relay:EXAMPLE-password@codex-relay.example.net/v1/",
               auth_index="1b52d0e7c4f3986a"),
    Credential(mapping="vertex-api-key", provider="vertex", executor="GeminiVertexExecutor", number=13,
               family="separate_reasoning", models=(Model("gemini-2.5-pro", "vertex-pro", GEMINI.endpoint),),
               base_url="https://vertex-relay.example.net/api", key="vk-EXAMPLE-0001",
               auth_index="5d1c3a7e90b24f86"),
    Credential(mapping="interactions-api-key", provider="gemini-interactions", executor="GeminiExecutor",
               family="separate_reasoning", number=14, key="AIzaSyEXAMPLE-inter-0001",
               models=(Model("gemini-2.5-flash", "flash", "POST /v1beta/interactions"),),
               base_url="https://generativelanguage.googleapis.com", auth_index="91702212f5577963"),
    Credential(mapping="xai-api-key", provider="xai", executor="XAIExecutor", weight=1, number=15,
               models=(Model("grok-4", "grok-4", CHAT),), base_url="https://api.x.ai/v1",
               key="xai-EXAMPLE-0001", auth_index="ac7a536c95aa43eb"),
)  # fmt: skip
"""API-key providers: named, by base URL, by neither; without a key; disabled."""

UNMAPPED = (
    Credential(mapping="auth-files", provider="codex", executor="CodexExecutor", models=GPT, mapped=False,
               auth_index="deadbeef00c0ffee", number=91, file="codex-dave@example.com.json",
               email="dave@example.com", label="dave@example.com"),
    Credential(mapping="claude-api-key", provider="claude", executor="ClaudeExecutor", mapped=False,
               family="independent", models=(SONNET,), base_url="https://gone.example.net", number=92,
               key="sk-ant-EXAMPLE-removed", auth_index="feedface00112233"),
    # A call that failed over before any credential was chosen. The integer era would say 0, which is also
    # the first account's number; nothing could be expected of such a record.
    Credential(mapping="auth-files", provider="codex", executor="CodexExecutor", models=GPT[:1], mapped=False,
               number=93),
)  # fmt: skip
"""Credentials that records name and no mapping does."""

CREDENTIALS = ACCOUNTS + PROVIDER_KEYS + UNMAPPED
CLIENT_KEYS = ("sk-client-team-a-7Q2mX", "sk-client-team-b-9Zk1P", "sk-client-EXAMPLE-batch-0003", "")
"""Keys of clients; the empty one is a client that needs none."""

FAILURES = (
    (429, '{"type":"error","error":{"type":"rate_limit_error","message":"Rate limit of {who} exceeded"}}'),
    (429, "quota exhausted, try again in 3h · 额度已用尽"),
    (500, "upstream closed the stream\x00after 3 chunks"),
    (401, '{"error":{"message":"Incorrect API key provided: {who}"}}'),
)
USER_AGENTS = (
    "codex_cli_rs/0.98.0",
    "claude-cli/2.1.0 (external, cli)",
    "Überklient/1.0 ☂",
    "bad\x00agent/0.1",
)
ADDRESSES = ("203.0.113.24", "198.51.100.7", "127.0.0.1", "2001:db8::17")
TIERS = ("auto", "default", "default", "priority", "flex")
TIERED = "codex"
"""The provider whose clients ask for other tiers than the standard one."""
EFFORTS = ("", "", "low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The truth about one call. The six counts exclude one another; their sum is what the call used."""

    timestamp_ns: int
    """Start of the call in ns since the epoch; no two calls of one `Traffic` share it."""
    latency_ms: int
    """0: not measured."""
    ttft_ms: int
    """0: not measured."""
    auth_index: str
    auth_number: int
    """The auth_index of the integer era."""
    source: str
    provider: str
    executor_type: str
    family: Family
    model: str
    alias: str
    endpoint: str
    auth_type: str
    client_key: str
    request_id: str
    """Shared by a failed attempt and its retry."""
    failed: bool
    generate: bool
    status_code: int
    fail_body: str
    service_tier: str
    reasoning_effort: str
    uncached_input: int
    cache_read: int
    cache_write: int
    non_reasoning_output: int
    reasoning: int
    unclassified: int
    channel: str
    channel_group: str
    channel_kind: ChannelKind
    known_since: int
    """The first era (`ERA`) whose management API leads to the channel."""

    @property
    def billed_output(self) -> int:
        """Output tokens, reasoning included."""
        return self.non_reasoning_output + self.reasoning


class Channel(NamedTuple):
    """Who a call is booked on."""

    name: str
    group: str
    kind: ChannelKind


UNKNOWN = Channel("unknown", "unknown", "unknown")


def channel_of(credential: Credential) -> Channel:
    """Return the channel that calls through `credential` belong to."""
    if not credential.mapped:
        return UNKNOWN
    if credential.mapping == "auth-files":
        account = credential.email or credential.label or credential.file
        return Channel(f"{credential.provider}/{account}", credential.provider, "auth")
    place = credential.base_url.partition("://")[2].rpartition("@")[2].rstrip("/")
    family = credential.mapping.removesuffix("-api-key")
    name = credential.name or place.removesuffix("/v1").rstrip("/") or family
    return Channel(name, name, "apikey")


class Route(NamedTuple):
    """One way a call can go, with all that does not change from call to call."""

    credential: Credential
    model: Model
    channel: Channel
    source: str
    auth_type: str
    known_since: int


class Counts(NamedTuple):
    """Tokens of one call, each in exactly one count."""

    uncached_input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    non_reasoning_output: int = 0
    reasoning: int = 0
    unclassified: int = 0


class Traffic:
    """A small made-up world and its calls; the same seed gives the same calls."""

    def __init__(
        self,
        seed: int,
        *,
        start: datetime = START,
        credentials: Sequence[Credential] = CREDENTIALS,
        client_keys: Sequence[str] = CLIENT_KEYS,
        offset: str = "Z",
    ) -> None:
        """Make the world.

        Args:
            seed: chooses the calls.
            start: earliest start of a call, aware; calls spread over the three days that follow.
            credentials: accounts and provider keys.
            client_keys: keys that clients present; an empty one is a client without a key.
            offset: how the proxy writes its time zone: `Z` or `+08:00`.
        """
        if start.tzinfo is None:
            raise ValueError("start must carry a time zone")
        offset_s(offset)
        self.start = start
        self.credentials = tuple(credentials)
        self.client_keys = tuple(client_keys)
        self.offset = offset
        self._start_s = int(start.timestamp())
        self._random = Random(seed)  # noqa: S311  (made-up calls, not a secret)
        self._routes = [
            Route(credential, model, channel_of(credential), credential.source, credential.auth_type,
                  credential.known_since)
            for credential in self.credentials
            for model in credential.models * credential.weight
        ]  # fmt: skip
        self._starts_seen: set[int] = set()
        self._retry: tuple[str, str] | None = None

    def generate(self, n: int) -> list[Usage]:
        """Return the next `n` calls, in the order in which they ended."""
        calls = [self._call(at) for at in self._starts(n)]
        calls.sort(key=lambda call: call.timestamp_ns + call.latency_ms * 1_000_000)
        return calls

    def secrets(self) -> set[str]:
        """Return every string of this world that must be found in no database, log or report."""
        keys = {*self.client_keys, *(credential.key for credential in self.credentials)}
        passwords = {urlsplit(credential.base_url).password or "" for credential in self.credentials}
        return (keys | passwords) - {""}

    def mapping(self, endpoint: str, auth_index: IndexKind = "string") -> Json:
        """Return the answer of a mapping endpoint such as `auth-files`, `claude-api-key` or `api-keys`.

        With `int`, auth files carry the integer index and provider keys carry none, as before v6.6.56.
        """
        return _mapping(self.credentials, self.client_keys, endpoint, auth_index)

    def _starts(self, n: int) -> Iterator[int]:
        """Yield `n` new start times in ns: single calls and bursts, the first burst across a midnight UTC."""
        random, seen = self._random.random, self._starts_seen
        first = self._start_s - self._start_s % DAY_S + DAY_S - 1
        left, size = n, 40
        while left > 0:
            for _ in range(min(size, left)):
                at = first * SECOND_NS + int(random() * BURST_S * SECOND_NS)
                grain = random()
                if grain < 0.15:  # noqa: PLR2004  (some clocks are coarse, and Go trims the zeros)
                    at -= at % (SECOND_NS if grain < 0.05 else 1_000_000)  # noqa: PLR2004
                while at in seen:
                    at += 1
                seen.add(at)
                yield at
            left -= size
            first = self._start_s + int(random() * (SPAN_S - BURST_S))
            size = 1 if random() < 0.6 else 2 + int(random() * 38)  # noqa: PLR2004

    def _call(self, at: int) -> Usage:
        random = self._random.random
        route = self._routes[int(random() * len(self._routes))]
        credential, model, channel, source, auth_type, known_since = route
        request_id, client_key = self._retry or (
            f"{int(random() * 4294967296):08x}",
            self.client_keys[int(random() * len(self.client_keys))],
        )
        luck = random()
        failed, warmup = luck < 0.08, luck > 0.985  # noqa: PLR2004
        self._retry = (request_id, client_key) if luck < 0.04 else None  # noqa: PLR2004
        status, body = FAILURES[int(luck * 50) % len(FAILURES)] if failed else (200, "")
        latency_ms = _latency_ms(random(), failed=failed)
        counts = Counts() if failed else _counts(self._random, credential, warmup=warmup)
        return Usage(
            timestamp_ns=at,
            latency_ms=latency_ms,
            ttft_ms=0 if failed or latency_ms % 9 == 0 else latency_ms // 7,
            auth_index=credential.auth_index,
            auth_number=credential.number,
            source=source or client_key,
            provider=credential.provider,
            executor_type=credential.executor,
            family=credential.family,
            model=model.name,
            alias=model.alias,
            endpoint=model.endpoint,
            auth_type=auth_type,
            client_key=client_key,
            request_id=request_id,
            failed=failed,
            generate=not warmup,
            status_code=status,
            fail_body=body.replace("{who}", source),
            service_tier=TIERS[at % 5 if credential.provider == TIERED else at % 5 % 3],
            reasoning_effort=EFFORTS[at % 7 % 5],
            uncached_input=counts.uncached_input,
            cache_read=counts.cache_read,
            cache_write=counts.cache_write,
            non_reasoning_output=counts.non_reasoning_output,
            reasoning=counts.reasoning,
            unclassified=counts.unclassified,
            channel=channel.name,
            channel_group=channel.group,
            channel_kind=channel.kind,
            known_since=known_since,
        )


def _latency_ms(luck: float, *, failed: bool) -> int:
    """Return a latency: some not measured, some of hours, so that calls end in another order than begun."""
    if luck < 0.01:  # noqa: PLR2004
        return 0
    if failed:
        return 40 + int(luck * 900)
    if luck > 0.998:  # noqa: PLR2004
        return int((luck - 0.998) * 500 * 4 * 3_600_000)
    return 200 + int(luck**6 * 120_000)


def _counts(rng: Random, credential: Credential, *, warmup: bool) -> Counts:
    random = rng.random
    luck, prompt = random(), 1 + int(random() ** 3 * 24_000)
    if warmup:
        return Counts(uncached_input=prompt)
    output = 1 + int(random() ** 2 * 3_000)
    if credential.family == "plain":
        return Counts(uncached_input=prompt, non_reasoning_output=output)
    if luck < 0.02:  # noqa: PLR2004  (a stream whose upstream sent no usage)
        return Counts()
    if luck < 0.06 and credential.mapping == "openai-compatibility":  # noqa: PLR2004
        return Counts(unclassified=prompt + output)
    read = int(random() * 60_000) if luck < 0.6 else 0  # noqa: PLR2004
    writes = {"independent": 0.5, "subset": 0.1}.get(credential.family, 0.0)
    return Counts(
        uncached_input=prompt,
        cache_read=read,
        cache_write=int(random() * 9_000) if random() < writes else 0,
        non_reasoning_output=output,
        reasoning=int(random() * 2_000) if luck > 0.4 else 0,  # noqa: PLR2004
    )


# What a reader can know of a call, by rendering.


class Reported(NamedTuple):
    """The five token counts that every generation reports."""

    input: int
    output: int
    reasoning: int
    cached: int
    total: int


class Normalised(NamedTuple):
    """Token counts that exclude one another, as far as a rendering lets them be told apart."""

    uncached_input: int
    cache_read: int
    cache_write: int
    billed_output: int
    unclassified: int


def reported(usage: Usage, rendering: Rendering = "7.2.140") -> Reported:
    """Return the raw counts as the proxy of that rendering would report them."""
    if usage.unclassified:
        return Reported(0, 0, 0, 0, usage.unclassified)
    output = usage.billed_output
    prompt = usage.uncached_input + usage.cache_read + usage.cache_write
    if usage.family == "independent":
        cached = usage.cache_read or usage.cache_write
        if rendering == "7.2.140":
            return Reported(usage.uncached_input, output, usage.reasoning, cached, prompt + output)
        return Reported(usage.uncached_input, output, 0, cached, usage.uncached_input + output)
    visible = usage.non_reasoning_output if usage.family == "separate_reasoning" else output
    return Reported(prompt, visible, usage.reasoning, usage.cache_read, prompt + output)


def normalised(usage: Usage, rendering: Rendering = "7.2.140") -> Normalised:
    """Return what can be known: all in 7.2.140; before, cache writes pass for reads or for plain input."""
    uncached, read, write = usage.uncached_input, usage.cache_read, usage.cache_write
    if rendering != "7.2.140":
        if usage.family == "independent":
            read, write = read or write, 0
        else:
            uncached, write = uncached + write, 0
    return Normalised(uncached, read, write, usage.billed_output, usage.unclassified)


def provider_name(usage: Usage, rendering: Rendering) -> str:
    """Return the provider id a rendering gives; a snapshot gives none."""
    if rendering == "7.2.140":
        return usage.provider
    return usage.provider.removeprefix("openai-compatible-") if rendering == "6.10.8" else ""


def outcome(usage: Usage, rendering: Rendering = "7.2.140") -> Outcome:
    """Return how the call ended; only 7.2.140 tells a warm-up, and what the client cancelled."""
    if rendering == "7.2.140" and not usage.generate:
        return "warmup"
    if rendering == "7.2.140" and usage.failed and usage.status_code == CLIENT_CLOSED:
        return "cancelled"
    return "failed" if usage.failed else "success"


class TotalsKey(NamedTuple):
    """The dimensions of a daily sum. A field that the rendering does not tell is an empty string."""

    day: date
    channel: str
    channel_group: str
    channel_kind: str
    client_key: str
    """As presented, never masked."""
    provider: str
    endpoint: str
    model: str
    alias: str
    outcome: Outcome


@dataclass(slots=True)
class Totals:
    """Sums over the calls of one key: token counts, and milliseconds over the calls that were measured."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    total_tokens: int = 0
    uncached_input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    billed_output_tokens: int = 0
    unclassified_tokens: int = 0
    latency_ms_sum: int = 0
    latency_samples: int = 0
    ttft_ms_sum: int = 0
    ttft_samples: int = 0

    def add(self, usage: Usage, rendering: Rendering) -> None:
        """Count one call in."""
        raw, split = reported(usage, rendering), normalised(usage, rendering)
        self.requests += 1
        self.input_tokens += raw.input
        self.output_tokens += raw.output
        self.reasoning_tokens += raw.reasoning
        self.cached_tokens += raw.cached
        self.total_tokens += raw.total
        self.uncached_input_tokens += split.uncached_input
        self.cache_read_tokens += split.cache_read
        self.cache_write_tokens += split.cache_write
        self.billed_output_tokens += split.billed_output
        self.unclassified_tokens += split.unclassified
        if usage.latency_ms and rendering != "snapshot-int":
            self.latency_ms_sum += usage.latency_ms
            self.latency_samples += 1
        if usage.ttft_ms and rendering == "7.2.140":
            self.ttft_ms_sum += usage.ttft_ms
            self.ttft_samples += 1


def totals(usages: Iterable[Usage], zone: tzinfo, rendering: Rendering = "7.2.140") -> dict[TotalsKey, Totals]:
    """Return the daily sums that a perfect reader of `rendering` arrives at, days cut in `zone`.

    A snapshot tells no provider, no alias but the model, and the endpoint only of calls without a client key.
    """
    sums: defaultdict[TotalsKey, Totals] = defaultdict(Totals)
    days: dict[int, date] = {}
    for usage in usages:
        quarter = usage.timestamp_ns // (900 * SECOND_NS)  # no zone moves its midnight by less
        day = days.get(quarter)
        if day is None:
            day = days[quarter] = datetime.fromtimestamp(quarter * 900, zone).date()
        sums[totals_key(usage, day, rendering)].add(usage, rendering)
    return dict(sums)


def totals_key(usage: Usage, day: date, rendering: Rendering) -> TotalsKey:
    """Return where a call of that day is booked."""
    name, group, kind = usage.channel, usage.channel_group, usage.channel_kind
    if ERA[rendering] < usage.known_since:
        name, group, kind = UNKNOWN
    in_queue = rendering in ("7.2.140", "6.10.8")
    return TotalsKey(
        day=day,
        channel=name,
        channel_group=group,
        channel_kind=kind,
        client_key=usage.client_key,
        provider=provider_name(usage, rendering),
        endpoint=usage.endpoint if in_queue or not usage.client_key else "",
        model=usage.model,
        alias=usage.alias if in_queue else usage.model,
        outcome=outcome(usage, rendering),
    )


# Rendering.


@lru_cache(maxsize=16)
def offset_s(offset: str) -> int:
    """Return the seconds east of UTC that `Z` or `+08:00` stands for."""
    if offset == "Z":
        return 0
    shift = datetime.strptime(offset, "%z").utcoffset()
    return int((shift or timedelta()).total_seconds())


@lru_cache(maxsize=4096)
def _day_text(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def stamp(timestamp_ns: int, offset: str = "Z") -> str:
    """Return a time as Go's RFC3339Nano writes it: nanoseconds without trailing zeros."""
    second, fraction = divmod(timestamp_ns, SECOND_NS)
    day, second = divmod(second + offset_s(offset), DAY_S)
    text = f"{_day_text(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{text}{f'.{fraction:09d}'.rstrip('0')}{offset}" if fraction else text + offset


def queue_item(usage: Usage, version: QueueVersion = "7.2.140", offset: str = "Z") -> Json:
    """Return one item of the queue as that version writes it."""
    rendering: Rendering = "7.2.140" if version == "8.0.20" else version  # what is told of tokens has stayed
    raw = reported(usage, rendering)
    tokens: Json = {
        "input_tokens": raw.input,
        "output_tokens": raw.output,
        "reasoning_tokens": raw.reasoning,
        "cached_tokens": raw.cached,
        "total_tokens": raw.total,
    }
    item: Json = {
        "timestamp": stamp(usage.timestamp_ns, offset),
        "latency_ms": usage.latency_ms,
        "source": usage.source,
        "auth_index": usage.auth_index,
        "tokens": tokens,
        "failed": usage.failed,
        "provider": provider_name(usage, rendering),
        "model": usage.model,
        "alias": usage.alias,
        "endpoint": usage.endpoint,
        "auth_type": usage.auth_type,
        "api_key": usage.client_key,
        "request_id": usage.request_id,
    }
    if rendering == "7.2.140":
        tokens["cache_read_tokens"] = usage.cache_read
        tokens["cache_read_tokens_present"] = True
        tokens["cache_creation_tokens"] = usage.cache_write
        _add_modern_fields(item, usage)
    if version == "8.0.20":
        _add_fields_of_v8(item, usage)
    return item


def _add_modern_fields(item: Json, usage: Usage) -> None:
    dice = int(usage.request_id, 16)
    address = ADDRESSES[dice % 4]
    item["ttft_ms"] = usage.ttft_ms
    item["client_ip"] = address
    item["x_forwarded_for"] = address if dice & 16 else ""
    item["user_agent"] = USER_AGENTS[dice >> 5 & 3]
    item["generate"] = usage.generate
    item["fail"] = {"status_code": usage.status_code, "body": usage.fail_body}
    item["accounting_version"] = 2
    item["token_breakdown"] = _breakdown(usage)
    item["executor_type"] = usage.executor_type
    item["reasoning_effort"] = usage.reasoning_effort
    item["service_tier"] = usage.service_tier
    if usage.service_tier == "auto":
        item["response_service_tier"] = "default"
    if usage.auth_type == "oauth":
        item["access_token_sha256"] = _token_digest(usage.auth_index)
    if dice % 3 == 0:
        item["response_headers"] = {"Content-Type": ["text/event-stream"], "X-Note": ["é", usage.request_id]}


def _add_fields_of_v8(item: Json, usage: Usage) -> None:
    """Add what v8 tells of an attempt; a session is a client's that goes on for some requests."""
    dice = int(usage.request_id, 16)
    told = sha256(f"{usage.timestamp_ns} {usage.request_id} {usage.model} {usage.auth_index}".encode()).digest()
    item["execution_id"] = str(UUID(bytes=told[:16], version=4))
    item["trace_id"] = usage.request_id
    item["stream"] = dice % 5 != 0
    if usage.client_key and dice % 4:
        number = dice % 17
        item["session_id"] = _session_id(usage.client_key, number)
        if number and number % 5 == 0:
            item["parent_session_id"] = _session_id(usage.client_key, 0)
    if not usage.failed:
        item["response_model"] = f"{usage.model}-2026-08-07"


def _session_id(client_key: str, number: int) -> str:
    return str(UUID(bytes=sha256(f"{client_key} {number}".encode()).digest()[:16], version=4))


@lru_cache(maxsize=256)
def _token_digest(auth_index: str) -> str:
    return sha256(auth_index.encode()).hexdigest()


def _breakdown(usage: Usage) -> Json:
    prompt = usage.uncached_input + usage.cache_read + usage.cache_write
    output = usage.billed_output
    return {
        "schema_version": 2,
        "quality": "unclassified" if usage.unclassified else "complete",
        "total_tokens": prompt + output + usage.unclassified,
        "input": {
            "total_tokens": prompt,
            "uncached_tokens": usage.uncached_input,
            "cache_read_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output": {
            "total_tokens": output,
            "non_reasoning_tokens": usage.non_reasoning_output,
            "reasoning_tokens": usage.reasoning,
        },
        "unclassified_tokens": usage.unclassified,
    }


class Detail(NamedTuple):
    """One call as a snapshot lists it, with what its sums need."""

    api: str
    model: str
    at: str
    tokens: int
    failed: bool
    body: Json


def snapshot_detail(usage: Usage, auth_index: IndexKind = "string", offset: str = "Z") -> Detail:
    """Return the call's entry in a snapshot of v6.9.49 (`string`) or v6.6.55 (`int`)."""
    rendering: Rendering = "snapshot" if auth_index == "string" else "snapshot-int"
    raw, at = reported(usage, rendering), stamp(usage.timestamp_ns, offset)
    body: Json = {"timestamp": at}
    if auth_index == "string":
        body["latency_ms"] = usage.latency_ms
    body["source"] = usage.source
    body["auth_index"] = usage.auth_index if auth_index == "string" else usage.auth_number
    body["tokens"] = {
        "input_tokens": raw.input,
        "output_tokens": raw.output,
        "reasoning_tokens": raw.reasoning,
        "cached_tokens": raw.cached,
        "total_tokens": raw.total,
    }
    body["failed"] = usage.failed
    return Detail(usage.client_key or usage.endpoint, usage.model, at, raw.total, usage.failed, body)


def snapshot_body(details: Iterable[Detail]) -> Json:
    """Return the answer of `/usage`: {"usage": {"apis": …, sums}, "failed_requests": n}."""
    apis: dict[str, dict[str, list[Detail]]] = {}
    requests: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    tokens: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for detail in details:
        apis.setdefault(detail.api, {}).setdefault(detail.model, []).append(detail)
        for i, part in enumerate((detail.at[:10], detail.at[11:13])):
            requests[i][part] += 1
            tokens[i][part] += detail.tokens
    everything = [detail for models in apis.values() for details in models.values() for detail in details]
    failures = sum(detail.failed for detail in everything)
    usage: Json = {
        "total_requests": len(everything),
        "success_count": len(everything) - failures,
        "failure_count": failures,
        "total_tokens": sum(detail.tokens for detail in everything),
        "apis": {api: _api(models) for api, models in apis.items()},
        "requests_by_day": dict(requests[0]),
        "requests_by_hour": dict(requests[1]),
        "tokens_by_day": dict(tokens[0]),
        "tokens_by_hour": dict(tokens[1]),
    }
    return {"usage": usage, "failed_requests": failures}


def _api(models: dict[str, list[Detail]]) -> Json:
    return {
        "total_requests": sum(map(len, models.values())),
        "total_tokens": sum(detail.tokens for details in models.values() for detail in details),
        "models": {
            model: {
                "total_requests": len(details),
                "total_tokens": sum(detail.tokens for detail in details),
                "details": [detail.body for detail in details],
            }
            for model, details in models.items()
        },
    }


def snapshot(usages: Iterable[Usage], auth_index: IndexKind = "string", offset: str = "Z") -> Json:
    """Return the answer of `/usage` after these calls."""
    return snapshot_body(snapshot_detail(usage, auth_index, offset) for usage in usages)


# The management API's answers about credentials.


def _mapping(
    credentials: Sequence[Credential], client_keys: Sequence[str], endpoint: str, auth_index: IndexKind
) -> Json:
    listed = [c for c in credentials if c.mapping == endpoint and c.mapped]
    rows: list[Json] | list[str]
    if endpoint == "auth-files":
        listed.sort(key=lambda c: c.file.lower())
        return {"files": [_auth_file(c, auth_index) for c in listed]}
    if endpoint == "api-keys":
        rows = [key for key in client_keys if key]
    elif endpoint == "openai-compatibility":
        rows = _compatibility(listed, auth_index)
    elif endpoint.endswith("-api-key"):
        rows = [_provider_key(c, auth_index) for c in listed]
    else:
        raise ValueError(f"no mapping endpoint is called {endpoint!r}")
    unset = None if auth_index == "int" or endpoint == "api-keys" else rows
    return {endpoint: rows or unset}


def _auth_file(credential: Credential, auth_index: IndexKind) -> Json:
    entry: Json = {
        "id": credential.file,
        "auth_index": credential.auth_index if auth_index == "string" else credential.number,
        "name": credential.file,
        "type": credential.provider,
        "provider": credential.provider,
        "label": credential.label,
        "status": "active",
        "status_message": "",
        "disabled": False,
        "unavailable": False,
        "runtime_only": False,
        "source": "file",
        "size": 4213,
        "path": f"/root/.cli-proxy-api/{credential.file}",
        "modtime": "2026-04-30T13:58:11Z",
    }
    if credential.email:
        entry |= {"email": credential.email, "account_type": "oauth", "account": credential.email}
    if auth_index == "string":
        times = (f"15:{minute:02d}-15:{minute + 3:02d}" for minute in range(0, 60, 3))
        entry |= {"success": 88, "failed": 4}
        entry["recent_requests"] = [{"time": time, "success": 1, "failed": 0} for time in times]
        if credential.project:
            entry["project_id"] = credential.project
        if credential.provider == "codex":
            entry["id_token"] = {"chatgpt_account_id": "acc-1f2e", "plan_type": "plus"}
    return entry


def _index(credential: Credential, auth_index: IndexKind) -> Json:
    return {"auth-index": credential.auth_index} if auth_index == "string" and credential.auth_index else {}


def _provider_key(credential: Credential, auth_index: IndexKind) -> Json:
    entry: Json = {"api-key": credential.key}
    if credential.base_url or credential.mapping in ("claude-api-key", "codex-api-key"):
        entry["base-url"] = credential.base_url
    if credential.mapping in ("claude-api-key", "codex-api-key", "xai-api-key"):
        entry["proxy-url"] = ""
        entry["models"] = _aliases(credential) or None
    return entry | _index(credential, auth_index)


def _compatibility(listed: Sequence[Credential], auth_index: IndexKind) -> list[Json]:
    """Return one provider per name; its entries stand under it, or its index on itself when it has no key."""
    providers: dict[str, list[Credential]] = {}
    for credential in listed:
        providers.setdefault(credential.name, []).append(credential)
    rows: list[Json] = []
    for name, members in providers.items():
        entries = [{"api-key": c.key, **_index(c, auth_index)} for c in members if c.key]
        disabled = not any(c.weight for c in members)
        row: Json = {"name": name, "disabled": disabled, "base-url": members[0].base_url}
        row |= {"api-key-entries": entries} if entries else _index(members[0], auth_index)
        rows.append(row | {"models": _aliases(members[0])})
    return rows


def _aliases(credential: Credential) -> list[Json]:
    return [{"name": model.name, "alias": model.alias} for model in credential.models]
