"""What usage records cost, worked out on paper: every provider family, version of the proxy, and kind of price.

Each case is an item as the proxy writes it, and its cost. The sum above it is in millionths of a US dollar, which is
what rates per million tokens make of counts; the arrow divides by a million. The rates are round, and no two of a
price are alike, so that a token charged as another kind shows. What a count includes is told in docs/how-it-works.md.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from support import Books, differing

from worker.channels.resolve import Resolution, resolve
from worker.cliproxyapi import directory
from worker.cliproxyapi import payload as decode
from worker.clock import now
from worker.config import OwnPrice, Prices
from worker.db import database
from worker.loading.load import Loader
from worker.loading.names import of_credential
from worker.loading.pass_result import PassResult
from worker.pricing import price
from worker.pricing.price import Price, Subject
from worker.secret import Keyring, is_account
from worker.storage import channels, price_table
from worker.storage import credentials as stored_credentials
from worker.usage.tokens import normalise

D = Decimal
ZERO = D(0)
ZONE = ZoneInfo("Europe/Berlin")  # prices begin and end at its midnight: 23:00 UTC in winter, 22:00 UTC in summer
CLIENT = "sk-client-team-a-7Q2mX"
PAYLOADS = Path(__file__).parent / "payloads"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEYRING = Keyring(b"EXAMPLE-pepper")

stamps = itertools.count()


# -- what it costs -------------------------------------------------------------------------------------------------


def own(model, input_, read, write, output, **more):
    """A price: US dollars per million tokens, None where it is not known."""
    return OwnPrice(
        model=model, input_usd_per_mtok=input_, cache_read_usd_per_mtok=read, cache_write_usd_per_mtok=write,
        output_usd_per_mtok=output, **more,
    )  # fmt: skip


OWN = {
    "gpt-5": own("gpt-5", "2", "0.2", "3", "16"),
    "gpt-5 priority": own("gpt-5", "4", "0.5", "5", "30", service_tier="priority"),
    "gpt-5 flex": own("gpt-5", "1", "0.1", "1.5", "7", service_tier="flex"),
    "gpt-5 batch": own("gpt-5", "0.9", "0.09", "1.1", "6", service_tier="batch"),
    "gpt-5 over OpenRouter": own("gpt-5", "2.2", "0.22", "3.3", "17", channel="OpenRouter"),
    "gpt-5-mini": own("gpt-5-mini", "0.25", "0.025", "0.35", "2"),
    "gpt-5-nano in every tier": own("gpt-5-nano", "0.05", "0.005", "0.06", "0.4", service_tier="*"),
    "gpt-5-nano flex": own("gpt-5-nano", "0.025", "0.0025", "0.03", "0.2", service_tier="flex"),
    "gpt-5-codex": own("gpt-5-codex", "1.5", "0.15", "1.7", "12"),
    "gpt-4.1": own("gpt-4.1", "2.3", "0.58", "2.5", "9.2"),
    "gpt-4.1-2025-04-14": own("gpt-4.1-2025-04-14", "2.4", "0.6", "2.6", "9.6"),
    "o4-mini": own("o4-mini", "1.1", "0.275", "1.2", "4.4"),
    "o4-mini long": own("o4-mini", "2.2", "0.55", "2.4", "8.8", above_input_tokens=100_000),
    "o4-mini priority": own("o4-mini", "1.9", "0.475", "2", "7.6", service_tier="priority"),
    "o4-mini from July": own("o4-mini", "0.9", "0.225", "1", "4", valid_from=date(2026, 7, 1)),
    "gpt-image-2": own("gpt-image-2", "5", "1.25", "6", "40", request_usd="0.04"),
    "text-embedding-3-small": own("text-embedding-3-small", "0.02", None, None, None),
    "claude-sonnet-4-5": own("claude-sonnet-4-5", "3", "0.3", "3.75", "15"),
    "claude-sonnet-4-5 long": own("claude-sonnet-4-5", "6", "0.6", "7.5", "22.5", above_input_tokens=200_000),
    "claude-sonnet-4-5 of antigravity": own("claude-sonnet-4-5", "2.8", "0.28", "3.5", "14", provider="antigravity"),
    "claude-opus-4-1": own("claude-opus-4-1", "11", "1.1", "13.75", "55"),
    "claude-haiku-4-5": own("claude-haiku-4-5", "1", "0.1", "1.25", "5"),
    "gemini-2.5-pro": own("gemini-2.5-pro", "1.25", "0.31", "1.6", "10"),
    "gemini-2.5-pro long": own("gemini-2.5-pro", "2.5", "0.625", "3.2", "15", above_input_tokens=200_000),
    "gemini-2.5-flash": own("gemini-2.5-flash", "0.3", "0.03", "0.4", "2.5"),
    "gemini-2.5-flash long": own("gemini-2.5-flash", "0.6", "0.06", "0.8", "5", above_input_tokens=100_000),
    "gemini-2.5-flash priority": own("gemini-2.5-flash", "0.5", "0.05", "0.7", "4", service_tier="priority"),
    "gemini-3-pro": own("gemini-3-pro", "2", "0.2", "2.2", "12"),
    "gemini-3-pro long": own("gemini-3-pro", "4", "0.4", "4.4", "18", above_input_tokens=200_000),
    "gemini-3-pro longest": own("gemini-3-pro", "8", "0.8", "8.8", "24", above_input_tokens=400_000),
    "veo-3": own("veo-3", None, None, None, None, request_usd="0.15"),
    "grok-4": own("grok-4", "3.1", "0.7", "3.3", "15.5"),
    "grok-4-fast": own("grok-4-fast", "0.2", "0.05", "0.3", "0.5"),
    "grok-4-fast by day": own("grok-4-fast", "0.4", "0.1", "0.6", "1", hours="09:00-17:00"),
    "grok-3": own("grok-3", "3", "0.75", "3.5", "15", valid_from=date(2025, 2, 1), valid_to=date(2026, 2, 1)),
    "kimi-k2": own("kimi-k2", "0.6", "0.15", "0.7", "2.5"),
    "moonshotai/kimi-k2": own("moonshotai/kimi-k2", "0.5", "0.12", "0.55", "2.4"),
    "qwen*": own("qwen*", "0.4", "0.04", "0.5", "1.2"),
    "qwen3-coder*": own("qwen3-coder*", "1", "0.1", "1.3", "5"),
    "qwen3-max": own("qwen3-max", "1.2", "0.12", "1.4", "6"),
    "deepseek-chat until 2026": own("deepseek-chat", "0.27", "0.07", "0.3", "1.1", valid_to=date(2026, 1, 1)),
    "deepseek-chat from 2026": own("deepseek-chat", "0.28", "0.028", "0.32", "0.42", valid_from=date(2026, 1, 1)),
    "deepseek-reasoner": own("deepseek-reasoner", "0.55", "0.14", "0.6", "2.19"),
    "deepseek-reasoner by night": own("deepseek-reasoner", "0.135", "0.035", "0.15", "0.55", hours="16:30-00:30"),
    "glm-4.6": own("glm-4.6", "0.6", "0.11", None, "2.2"),
    "llama-4-scout": own("llama-4-scout", "0.2", None, None, "0.6"),
    "gemma-3-1b": own("gemma-3-1b", "0.000001", "0.000002", "0.000004", "0.000003"),
    "local-*": own("local-*", "0", "0", "0", "0", channel="local-vllm"),
}

# -- who serves it, and what they charge ---------------------------------------------------------------------------

LISTED = {
    "auth-files": [
        {"name": f"{provider}-{email}.json", "provider": provider, "email": email, "auth_index": index}
        for provider, email, index in (
            ("codex", "alice@example.com", "45333f9784294f6d"),
            ("claude", "bob@example.com", "09888ec1434ba3fb"),
            ("antigravity", "carol@example.com", "888f8df5a5721f02"),
        )
    ],
    "openai-compatibility": [
        {"name": name, "api-key-entries": [{"api-key": f"sk-EXAMPLE-{name}", "auth-index": index}]}
        for name, index in (
            ("OpenRouter", "a91baaa28e621b1d"),
            ("local-vllm", "c0ffee0123456789"),
            ("claude-relay", "fa9f32422e730cb3"),
        )
    ],
}
NOBODY: Mapping[str, Any] = {}
ALICE = {"source": "alice@example.com", "auth_index": "45333f9784294f6d", "auth_type": "oauth"}
BOB = {"source": "bob@example.com", "auth_index": "09888ec1434ba3fb", "auth_type": "oauth"}
CAROL = {"source": "carol@example.com", "auth_index": "888f8df5a5721f02", "auth_type": "oauth"}
OPENROUTER = {"source": "sk-EXAMPLE-OpenRouter", "auth_index": "a91baaa28e621b1d", "auth_type": "apikey"}
LOCAL = {"source": "sk-EXAMPLE-local-vllm", "auth_index": "c0ffee0123456789", "auth_type": "apikey"}
RELAY = {"source": "sk-EXAMPLE-claude-relay", "auth_index": "fa9f32422e730cb3", "auth_type": "apikey"}

RATE_MULTIPLIERS = (
    ("codex/alice@example.com", datetime(2020, 1, 1, tzinfo=UTC), D(0)),
    ("OpenRouter", datetime(2020, 1, 1, tzinfo=UTC), D("0.5")),
    ("claude/bob@example.com", datetime(2026, 3, 1, tzinfo=UTC), D("0.8")),
    ("claude/bob@example.com", datetime(2026, 4, 1, tzinfo=UTC), D("0.25")),
)


# -- items as the proxy writes them --------------------------------------------------------------------------------


class Item(NamedTuple):
    """An item of the queue, or a detail of a snapshot with what stands around it."""

    version: str
    model: str
    fields: Mapping[str, Any]
    in_snapshot: bool = False


FIVE = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens")
QUEUE_SINCE: Mapping[tuple[int, ...], Mapping[str, Any]] = {
    (7, 0, 0): {"fail": {"status_code": 200, "body": ""}},
    (7, 1, 18): {"reasoning_effort": ""},
    (7, 1, 24): {"ttft_ms": 300},
    (7, 1, 27): {"service_tier": "default"},
    (7, 1, 38): {"executor_type": "unknown"},
    (7, 2, 65): {"request_service_tier": "default"},
    (7, 2, 78): {"generate": True},
    (7, 2, 97): {"accounting_version": 2, "token_breakdown": None},
    (7, 2, 104): {"client_ip": "127.0.0.1", "x_forwarded_for": "", "user_agent": "python-httpx/0.28.1"},
}
EXECUTORS = {
    "codex": "CodexExecutor", "xai": "XAIExecutor", "kimi": "KimiExecutor", "claude": "ClaudeExecutor",
    "gemini": "GeminiExecutor", "gemini-interactions": "GeminiExecutor", "vertex": "GeminiVertexExecutor",
    "aistudio": "AIStudioExecutor", "antigravity": "AntigravityExecutor", "openai": "OpenAICompatExecutor",
    "deepseek": "OpenAICompatExecutor",
}  # fmt: skip


def parsed(version):
    return tuple(int(n) for n in version.split("."))


def tokens(**counts):
    return {f"{name}_tokens": count for name, count in counts.items()}


def stamp():
    """A second of its own around noon UTC, as the official image tells it."""
    n = next(stamps)
    return f"2026-02-10T20:{n // 60:02}:{n % 60:02}+08:00"


def queue(version, provider, model, counts, told=None, over=NOBODY, **more):
    """An item of the queue with all the fields of its version; `told` is its breakdown, from v7.2.97 on."""
    v = parsed(version)
    item = {
        "timestamp": stamp(), "latency_ms": 1500, "source": "", "auth_index": "", "failed": False,
        "provider": provider, "model": model, "alias": model, "endpoint": "POST /v1/responses",
        "auth_type": "unknown", "api_key": CLIENT, "request_id": "3fa29c1b", "tokens": dict.fromkeys(FIVE, 0),
    }  # fmt: skip
    for since, fields in QUEUE_SINCE.items():
        item |= fields if v >= since else {}
    if "executor_type" in item:
        item["executor_type"] = "OpenAICompatExecutor" if "compatible" in provider else EXECUTORS.get(provider)
        item["executor_type"] = item["executor_type"] or "unknown"
    if v >= (7, 2, 74):
        del item["request_service_tier"]
    if v >= (7, 0, 3):
        item["tokens"] |= tokens(cache_read=0, cache_creation=0)
    if v >= (7, 2, 74):
        item["tokens"] |= {"cache_read_tokens_present": True}
    if "token_breakdown" in item:
        item["token_breakdown"] = told
    if more.get("failed") and "fail" in item:
        item["fail"] = {"status_code": 429, "body": '{"error":{"type":"rate_limit_error"}}'}
    omitted_when_empty = {"response_service_tier"} if v >= (7, 2, 65) else set()
    assert more.keys() | over.keys() <= item.keys() | omitted_when_empty, "a field that this version does not have"
    assert counts.keys() <= item["tokens"].keys(), "a count that this version does not have"
    assert (told is not None) == (v >= (7, 2, 97)), "from v7.2.97 on every item has a breakdown"
    return Item(version, model, {**item, **over, **more, "tokens": item["tokens"] | counts})


def breakdown(quality, uncached=0, read=0, write=0, plain=0, reasoning=0, unclassified=0, **wrong):
    """The proxy's own accounting; `wrong` is what does not add up in it."""
    return {
        "schema_version": 2, "quality": quality,
        "total_tokens": uncached + read + write + plain + reasoning + unclassified,
        "input": {"total_tokens": uncached + read + write, "uncached_tokens": uncached, "cache_read_tokens": read,
                  "cache_write_tokens": write},
        "output": {"total_tokens": plain + reasoning, "non_reasoning_tokens": plain, "reasoning_tokens": reasoning},
        "unclassified_tokens": unclassified,
    } | wrong  # fmt: skip


def snapshot(version, model, counts, over=NOBODY, **more):
    """A detail of a snapshot, with an integer index up to v6.6.55 and a latency from v6.9.1 on."""
    v = parsed(version)
    item = {"timestamp": stamp(), "source": "", "auth_index": "" if v >= (6, 6, 56) else 0, "failed": False}
    item |= {"latency_ms": 1500} if v >= (6, 9, 1) else {}
    item |= {name: over[name] for name in ("source", "auth_index") if name in over}
    assert more.keys() <= item.keys(), "a field that a snapshot does not have"
    assert counts.keys() <= set(FIVE), "a count that a snapshot does not have"
    return Item(version, model, {**item, **more, "tokens": dict.fromkeys(FIVE, 0) | counts}, in_snapshot=True)


THOUSAND = tokens(input=1000, output=100, total=1100)
NO_TOKENS = tokens()


def call(provider, model, over=NOBODY, version="7.1.44", **more):
    """A thousand tokens in and a hundred out: for cases that are about the price and not about the tokens."""
    return queue(version, provider, model, THOUSAND, over=over, **more)


class Case(NamedTuple):
    """An item and what it costs: None for no cost. `by` names the price, empty where none is needed or found.

    `actual` is what it costs after the channel's rate multiplier, where that is not the cost itself.
    """

    name: str
    item: Item
    cost: Decimal | None
    by: str = ""
    read: Decimal = ZERO
    write: Decimal = ZERO
    actual: Decimal | None = None


# -- input holds the cache, output holds reasoning -----------------------------------------------------------------

OPENAI = [
    # (1000-200)*2 + 200*0.2 + 300*16 = 1600 + 40 + 4800 = 6440 → 0.00644
    Case(
        "openai v6 snapshot: reasoning is inside output and charged once",
        snapshot("6.9.49", "gpt-5", tokens(input=1000, cached=200, output=300, reasoning=120, total=1300)),
        D("0.00644"), "gpt-5", read=D("0.00004"),
    ),
    # (5800-4096)*1.5 + 4096*0.15 + 414*12 = 2556 + 614.4 + 4968 = 8138.4 → 0.0081384
    Case(
        "codex v6 snapshot with an integer index",
        snapshot("6.6.55", "gpt-5-codex", tokens(input=5800, cached=4096, output=414, reasoning=256, total=6214)),
        D("0.0081384"), "gpt-5-codex", read=D("0.0006144"),
    ),
    # (2000-1500)*1.5 + 1500*0.15 + 400*12 = 750 + 225 + 4800 = 5775 → 0.005775
    Case(
        "codex v6.10.8",
        queue("6.10.8", "codex", "gpt-5-codex",
              tokens(input=2000, cached=1500, output=400, reasoning=350, total=2400)),
        D("0.005775"), "gpt-5-codex", read=D("0.000225"),
    ),
    # 1000*2 + 500*16 = 2000 + 8000 = 10000 → 0.01
    Case(
        "codex v6.10.8: the proxy filled in a total that counts reasoning again",
        queue("6.10.8", "codex", "gpt-5", tokens(input=1000, output=500, reasoning=400, total=1900)),
        D("0.01"), "gpt-5",
    ),
    # 1000*0.25 + 500*2 = 250 + 1000 = 1250 → 0.00125
    Case(
        "openai v7.2.96: the last version that fills in such a total",
        queue("7.2.96", "openai", "gpt-5-mini", tokens(input=1000, output=500, reasoning=400, total=1900)),
        D("0.00125"), "gpt-5-mini",
    ),
    # (1000-1000)*0.25 + 1000*0.025 + 400*2 = 0 + 25 + 800 = 825 → 0.000825
    Case(
        "codex: all input from the cache, all output reasoning",
        queue("7.1.44", "codex", "gpt-5-mini",
              tokens(input=1000, cached=1000, output=400, reasoning=400, total=1400)),
        D("0.000825"), "gpt-5-mini", read=D("0.000025"),
    ),
    # (800-300)*3.1 + 300*0.7 + 200*15.5 = 1550 + 210 + 3100 = 4860 → 0.00486
    Case(
        "xai v7.0.0: no split of the cache yet",
        queue("7.0.0", "xai", "grok-4", tokens(input=800, cached=300, output=200, reasoning=150, total=1000)),
        D("0.00486"), "grok-4", read=D("0.00021"),
    ),
    # (3000-1000)*0.6 + 1000*0.15 + 500*2.5 = 1200 + 150 + 1250 = 2600 → 0.0026
    Case(
        "kimi before v7.2.67: the count of reads is there and 0, `cached` tells them",
        queue("7.1.44", "kimi", "kimi-k2", tokens(input=3000, cached=1000, output=500, total=3500)),
        D("0.0026"), "kimi-k2", read=D("0.00015"),
    ),
    # (5000-2000-1000)*2 + 2000*0.2 + 1000*3 + 100*16 = 4000 + 400 + 3000 + 1600 = 9000 → 0.009
    Case(
        "openai v7.2.60: writes are told and inside input, reads by `cached` alone",
        queue("7.2.60", "openai", "gpt-5",
              tokens(input=5000, cached=2000, cache_creation=1000, output=100, total=5100)),
        D("0.009"), "gpt-5", read=D("0.0004"), write=D("0.003"),
    ),
    # (5000-2000-1000)*2 + 2000*0.2 + 1000*3 + 200*16 = 4000 + 400 + 3000 + 3200 = 10600 → 0.0106
    Case(
        "openai v7.2.67: reads are told twice and charged once",
        queue("7.2.67", "openai", "gpt-5",
              tokens(input=5000, cached=2000, cache_read=2000, cache_creation=1000, output=200, total=5200)),
        D("0.0106"), "gpt-5", read=D("0.0004"), write=D("0.003"),
    ),
    # (5800-4096)*2 + 4096*0.2 + 414*16 = 3408 + 819.2 + 6624 = 10851.2 → 0.0108512
    Case(
        "codex v7.2.140: complete breakdown",
        queue("7.2.140", "codex", "gpt-5",
              tokens(input=5800, cached=4096, cache_read=4096, output=414, reasoning=256, total=6214),
              breakdown("complete", uncached=1704, read=4096, plain=158, reasoning=256)),
        D("0.0108512"), "gpt-5", read=D("0.0008192"),
    ),
    # 100*3.1 + 200*0.7 + 300*3.3 + 400*15.5 = 310 + 140 + 990 + 6200 = 7640 → 0.00764
    Case(
        "xai v7.2.140: complete breakdown with writes",
        queue("7.2.140", "xai", "grok-4",
              tokens(input=600, cached=200, cache_read=200, cache_creation=300, output=400, reasoning=150, total=1000),
              breakdown("complete", uncached=100, read=200, write=300, plain=250, reasoning=150)),
        D("0.00764"), "grok-4", read=D("0.00014"), write=D("0.00099"),
    ),
    # (700-200)*1 + 200*0.1 + 60*5 = 500 + 20 + 300 = 820 → 0.00082
    Case(
        "qwen v6.10.8",
        queue("6.10.8", "qwen", "qwen3-coder-plus", tokens(input=700, cached=200, output=60, total=760)),
        D("0.00082"), "qwen3-coder*", read=D("0.00002"),
    ),
    # (1000-600)*0.28 + 600*0.028 + 250*0.42 = 112 + 16.8 + 105 = 233.8 → 0.0002338
    Case(
        "deepseek v7.2.20, under its configured name",
        queue("7.2.20", "deepseek", "deepseek-chat",
              tokens(input=1000, cached=600, output=250, reasoning=200, total=1250)),
        D("0.0002338"), "deepseek-chat from 2026", read=D("0.0000168"),
    ),
    # (2000-500)*0.5 + 500*0.12 + 300*2.4 = 750 + 60 + 720 = 1530 → 0.00153
    Case(
        "openai-compatible v7.2.66, the model's whole name has a price",
        queue("7.2.66", "openai-compatible-openrouter", "moonshotai/kimi-k2",
              tokens(input=2000, cached=500, output=300, total=2300)),
        D("0.00153"), "moonshotai/kimi-k2", read=D("0.00006"),
    ),
    # (1000-400)*3 + 400*0.3 + 200*15 = 1800 + 120 + 3000 = 4920 → 0.00492
    Case(
        "openai-compatible v7.2.66 counts as openai does, whatever it and its model are called",
        queue("7.2.66", "openai-compatible-claude-pool", "claude-sonnet-4-5",
              tokens(input=1000, cached=400, output=200, total=1200)),
        D("0.00492"), "claude-sonnet-4-5", read=D("0.00012"),
    ),
    # (1000-400)*3 + 400*0.3 + 200*15 = 1800 + 120 + 3000 = 4920 → 0.00492
    Case(
        "openai-compatible before v7.1.38 goes by its configured name alone: the credential says what it is",
        queue("6.10.8", "claude-relay", "claude-sonnet-4-5",
              tokens(input=1000, cached=400, output=200, total=1200), over=RELAY),
        D("0.00492"), "claude-sonnet-4-5", read=D("0.00012"),
    ),
    # (1000-400)*0.6 + 400*0.15 + 200*2.5 = 360 + 60 + 500 = 920 → 0.00092
    Case(
        "openai-compatible before v7.1.38 under a name that tells no family: the credential says what it is",
        queue("6.10.8", "local-vllm", "kimi-k2",
              tokens(input=1000, cached=400, output=200, total=1200), over=LOCAL),
        D("0.00092"), "kimi-k2", read=D("0.00006"),
    ),
    # (1000-400)*3 + 400*0.3 + 200*15 = 1800 + 120 + 3000 = 4920 → 0.00492, half of it actual
    Case(
        "a snapshot names no provider: the credential says that this Claude is counted as openai does",
        snapshot("6.9.49", "anthropic/claude-sonnet-4-5",
                 tokens(input=1000, cached=400, output=200, total=1200), OPENROUTER),
        D("0.00492"), "claude-sonnet-4-5", read=D("0.00012"), actual=D("0.00246"),
    ),
]  # fmt: skip

# -- input leaves the cache out, output holds thinking -------------------------------------------------------------

CLAUDE = [
    # 12*3 + 48213*0.3 + 1000*15 = 36 + 14463.9 + 15000 = 29499.9 → 0.0294999
    Case(
        "claude v6 snapshot: more cached than input, and a total without it",
        snapshot("6.9.49", "claude-sonnet-4-5", tokens(input=12, cached=48213, output=1000, total=1012)),
        D("0.0294999"), "claude-sonnet-4-5", read=D("0.0144639"),
    ),
    # 100*1 + 5000*0.1 + 40*5 = 100 + 500 + 200 = 800 → 0.0008
    Case(
        "claude v6.10.8: `cached` stands for reads",
        queue("6.10.8", "claude", "claude-haiku-4-5", tokens(input=100, cached=5000, output=40, total=140)),
        D("0.0008"), "claude-haiku-4-5", read=D("0.0005"),
    ),
    # 20*11 + 2000*1.1 + 10*55 = 220 + 2200 + 550 = 2970 → 0.00297
    Case(
        "claude v7.0.0: what was written cannot be told from what was read, and passes for it",
        queue("7.0.0", "claude", "claude-opus-4-1", tokens(input=20, cached=2000, output=10, total=30)),
        D("0.00297"), "claude-opus-4-1", read=D("0.0022"),
    ),
    # 12*3 + 48000*0.3 + 2000*3.75 + 1000*15 = 36 + 14400 + 7500 + 15000 = 36936 → 0.036936
    Case(
        "claude v7.0.3: reads and writes are told apart, the total leaves both out",
        queue("7.0.3", "claude", "claude-sonnet-4-5",
              tokens(input=12, cached=48000, cache_read=48000, cache_creation=2000, output=1000, total=1012)),
        D("0.036936"), "claude-sonnet-4-5", read=D("0.0144"), write=D("0.0075"),
    ),
    # 12*3 + 2000*3.75 + 100*15 = 36 + 7500 + 1500 = 9036 → 0.009036
    Case(
        "claude v7.0.3: nothing was read, so `cached` repeats the writes",
        queue("7.0.3", "claude", "claude-sonnet-4-5",
              tokens(input=12, cached=2000, cache_creation=2000, output=100, total=112)),
        D("0.009036"), "claude-sonnet-4-5", write=D("0.0075"),
    ),
    # 500*3 + 3000*0.3 + 1000*3.75 + 200*15 = 1500 + 900 + 3750 + 3000 = 9150 → 0.00915
    Case(
        "claude v7.1.25: the total leaves the cache out",
        queue("7.1.25", "claude", "claude-sonnet-4-5",
              tokens(input=500, cached=3000, cache_read=3000, cache_creation=1000, output=200, total=700)),
        D("0.00915"), "claude-sonnet-4-5", read=D("0.0009"), write=D("0.00375"),
    ),
    # 500*3 + 3000*0.3 + 1000*3.75 + 200*15 = 1500 + 900 + 3750 + 3000 = 9150 → 0.00915
    Case(
        "claude v7.1.26: the same call with a total that holds the cache",
        queue("7.1.26", "claude", "claude-sonnet-4-5",
              tokens(input=500, cached=3000, cache_read=3000, cache_creation=1000, output=200, total=4700)),
        D("0.00915"), "claude-sonnet-4-5", read=D("0.0009"), write=D("0.00375"),
    ),
    # 10*1 + 4000*1.25 + 50*5 = 10 + 5000 + 250 = 5260 → 0.00526
    Case(
        "claude v7.1.26: nothing but writes, in `cached` and in the total once more",
        queue("7.1.26", "claude", "claude-haiku-4-5",
              tokens(input=10, cached=4000, cache_creation=4000, output=50, total=4060)),
        D("0.00526"), "claude-haiku-4-5", write=D("0.005"),
    ),
    # 12*3 + 48213*0.3 + 2048*3.75 + 1000*15 = 36 + 14463.9 + 7680 + 15000 = 37179.9 → 0.0371799
    Case(
        "claude v7.2.140: complete breakdown, thinking inside output",
        queue("7.2.140", "claude", "claude-sonnet-4-5",
              tokens(input=12, cached=48213, cache_read=48213, cache_creation=2048, output=1000, reasoning=300,
                     total=51273),
              breakdown("complete", uncached=12, read=48213, write=2048, plain=700, reasoning=300)),
        D("0.0371799"), "claude-sonnet-4-5", read=D("0.0144639"), write=D("0.00768"),
    ),
    Case(
        "claude: a total with half of the cache contradicts every version",
        queue("7.1.44", "claude", "claude-sonnet-4-5",
              tokens(input=12, cached=30, cache_read=30, cache_creation=20, output=50, total=92)),
        None,
    ),
]  # fmt: skip

# -- input holds the cache, reasoning stands beside output ---------------------------------------------------------

GEMINI = [
    # 2500*1.25 + (300+500)*10 = 3125 + 8000 = 11125 → 0.011125
    Case(
        "gemini v6 snapshot: reasoning is outside output and added",
        snapshot("6.9.49", "gemini-2.5-pro", tokens(input=2500, output=300, reasoning=500, total=3300)),
        D("0.011125"), "gemini-2.5-pro",
    ),
    # (2500-1000)*1.25 + 1000*0.31 + (300+500)*10 = 1875 + 310 + 8000 = 10185 → 0.010185
    Case(
        "gemini v6.10.8: input holds what was cached",
        queue("6.10.8", "gemini", "gemini-2.5-pro",
              tokens(input=2500, cached=1000, output=300, reasoning=500, total=3300)),
        D("0.010185"), "gemini-2.5-pro", read=D("0.00031"),
    ),
    # (1000-400)*0.3 + 400*0.03 + (100+60)*2.5 = 180 + 12 + 400 = 592 → 0.000592
    Case(
        "gemini-cli v7.0.0",
        queue("7.0.0", "gemini-cli", "gemini-2.5-flash",
              tokens(input=1000, cached=400, output=100, reasoning=60, total=1160)),
        D("0.000592"), "gemini-2.5-flash", read=D("0.000012"),
    ),
    # 900*1.25 + (50+30)*10 = 1125 + 800 = 1925 → 0.001925
    Case(
        "vertex v7.1.44",
        queue("7.1.44", "vertex", "gemini-2.5-pro", tokens(input=900, output=50, reasoning=30, total=980)),
        D("0.001925"), "gemini-2.5-pro",
    ),
    # (1300-300)*0.3 + 300*0.03 + (100+400)*2.5 = 300 + 9 + 1250 = 1559 → 0.001559
    Case(
        "aistudio v7.2.66: only `cached` tells reads",
        queue("7.2.66", "aistudio", "gemini-2.5-flash",
              tokens(input=1300, cached=300, output=100, reasoning=400, total=1800)),
        D("0.001559"), "gemini-2.5-flash", read=D("0.000009"),
    ),
    # (2500-1000)*2 + 1000*0.2 + (300+500)*12 = 3000 + 200 + 9600 = 12800 → 0.0128
    Case(
        "antigravity v7.2.67: reads are told twice and charged once",
        queue("7.2.67", "antigravity", "gemini-3-pro",
              tokens(input=2500, cached=1000, cache_read=1000, output=300, reasoning=500, total=3300)),
        D("0.0128"), "gemini-3-pro", read=D("0.0002"),
    ),
    # 600*1.25 + (20+80)*10 = 750 + 1000 = 1750 → 0.00175
    Case(
        "gemini-interactions v7.2.60",
        queue("7.2.60", "gemini-interactions", "gemini-2.5-pro",
              tokens(input=600, output=20, reasoning=80, total=700)),
        D("0.00175"), "gemini-2.5-pro",
    ),
    # (600-100-200)*0.3 + 100*0.03 + 200*0.4 + (20+80)*2.5 = 90 + 3 + 80 + 250 = 423 → 0.000423
    Case(
        "interactions v7.2.67: writes are inside input, too",
        queue("7.2.67", "interactions", "gemini-2.5-flash",
              tokens(input=600, cached=100, cache_read=100, cache_creation=200, output=20, reasoning=80, total=700)),
        D("0.000423"), "gemini-2.5-flash", read=D("0.000003"), write=D("0.00008"),
    ),
    # 1000*1.25 + 1000*0.31 + 500*1.6 + (300+500)*10 = 1250 + 310 + 800 + 8000 = 10360 → 0.01036
    Case(
        "vertex v7.2.140: complete breakdown",
        queue("7.2.140", "vertex", "gemini-2.5-pro",
              tokens(input=2500, cached=1000, cache_read=1000, cache_creation=500, output=300, reasoning=500,
                     total=3300),
              breakdown("complete", uncached=1000, read=1000, write=500, plain=300, reasoning=500)),
        D("0.01036"), "gemini-2.5-pro", read=D("0.00031"), write=D("0.0008"),
    ),
    # (1000-250)*2.8 + 250*0.28 + (100+40)*14 = 2100 + 70 + 1960 = 4130 → 0.00413
    Case(
        "antigravity counts as gemini does when it serves Claude, too",
        queue("7.2.67", "antigravity", "claude-sonnet-4-5",
              tokens(input=1000, cached=250, cache_read=250, output=100, reasoning=40, total=1140)),
        D("0.00413"), "claude-sonnet-4-5 of antigravity", read=D("0.00007"),
    ),
    # (1000-250)*3 + 250*0.3 + (100+40)*15 = 2250 + 75 + 2100 = 4425 → 0.004425
    Case(
        "a snapshot of it: the credential decides how it counts, but a price for a provider needs the record's word",
        snapshot("6.9.49", "claude-sonnet-4-5",
                 tokens(input=1000, cached=250, output=100, reasoning=40, total=1140), CAROL),
        D("0.004425"), "claude-sonnet-4-5", read=D("0.000075"),
    ),
    Case(
        "gemini before v7.2.97: tokens of tools are in the total and nowhere else",
        queue("7.1.44", "gemini", "gemini-2.5-pro", tokens(input=1000, output=100, reasoning=50, total=1350)),
        None,
    ),
    Case(
        "gemini: more cached than input",
        queue("7.1.44", "gemini", "gemini-2.5-pro", tokens(input=1000, cached=1001, output=100, total=1100)),
        None,
    ),
]  # fmt: skip

# -- a family that nobody knows ------------------------------------------------------------------------------------

UNKNOWN_FAMILY = [
    # 1000*0.2 + 500*0.6 = 200 + 300 = 500 → 0.0005
    Case(
        "unknown provider: without cache and reasoning every family says the same",
        queue("6.10.8", "iflow", "llama-4-scout", tokens(input=1000, output=500, total=1500)),
        D("0.0005"), "llama-4-scout",
    ),
    # 300*0.2 + 100*0.6 = 60 + 60 = 120 → 0.00012
    Case(
        "unknown model in a snapshot",
        snapshot("6.9.49", "llama-4-scout", tokens(input=300, output=100, total=400)),
        D("0.00012"), "llama-4-scout",
    ),
    Case(
        "unknown provider with a cache",
        queue("6.10.8", "iflow", "kimi-k2", tokens(input=1000, cached=100, output=500, total=1500)),
        None,
    ),
    # 1000*0.6 + 500*2.5 = 600 + 1250 = 1850 → 0.00185
    Case(
        "unknown provider with reasoning: by its total it is in output, whoever counts",
        queue("6.10.8", "iflow", "kimi-k2", tokens(input=1000, output=500, reasoning=100, total=1500)),
        D("0.00185"), "kimi-k2",
    ),
    Case(
        "unknown provider with a total that holds reasoning once more: the proxy may have made it",
        queue("6.10.8", "iflow", "kimi-k2", tokens(input=1000, output=500, reasoning=100, total=1600)),
        None,
    ),
    # (1000-500)*2 + 500*0.2 + 100*16 = 1000 + 100 + 1600 = 2700 → 0.0027
    Case(
        "the provider is `unknown`: the model tells the family",
        queue("7.0.0", "unknown", "gpt-5", tokens(input=1000, cached=500, output=100, reasoning=80, total=1100)),
        D("0.0027"), "gpt-5", read=D("0.0001"),
    ),
]  # fmt: skip

# -- the proxy's own breakdown, and where it has none --------------------------------------------------------------

BREAKDOWN = [
    # 700*0.25 + 300*0.025 + 100*2 = 175 + 7.5 + 200 = 382.5 → 0.0003825
    Case(
        "complete: it tells what the numbers of an unknown family do not",
        queue("7.2.140", "my-plugin", "gpt-5-mini",
              tokens(input=1000, cached=300, cache_read=300, output=100, reasoning=20, total=1100),
              breakdown("complete", uncached=700, read=300, plain=80, reasoning=20)),
        D("0.0003825"), "gpt-5-mini", read=D("0.0000075"),
    ),
    Case(
        "inconsistent: more cached than input",
        queue("7.2.140", "openai-compatible-openrouter", "gpt-5",
              tokens(input=100, cached=200, cache_read=200, output=50, total=150),
              breakdown("inconsistent", unclassified=150)),
        None,
    ),
    # 100*3 + 200*15 = 300 + 3000 = 3300 → 0.0033
    Case(
        "inconsistent for the proxy, which adds thinking to an output that holds it already: the numbers are sound",
        queue("7.2.140", "my-claude-plugin", "claude-sonnet-4-5",
              tokens(input=100, output=200, reasoning=80, total=300),
              breakdown("inconsistent", unclassified=300)),
        D("0.0033"), "claude-sonnet-4-5",
    ),
    Case(
        "unclassified: nothing but a total",
        queue("7.2.140", "openai-compatible-openrouter", "gpt-5", tokens(total=512),
              breakdown("unclassified", unclassified=512)),
        None,
    ),
    Case(
        "unclassified: input and a larger total",
        queue("7.2.140", "openai-compatible-openrouter", "gpt-5",
              tokens(input=1000, cached=200, cache_read=200, total=1500),
              breakdown("unclassified", uncached=800, read=200, unclassified=500)),
        None,
    ),
    # 400*0.2 + 100*0.6 = 80 + 60 = 140 → 0.00014
    Case(
        "unclassified for the proxy, since it does not know the provider: every family says the same",
        queue("7.2.140", "my-plugin", "llama-4-scout", tokens(input=400, output=100, total=500),
              breakdown("unclassified", unclassified=500)),
        D("0.00014"), "llama-4-scout",
    ),
    # (1000-200)*2 + 200*0.2 + 300*16 = 1600 + 40 + 4800 = 6440 → 0.00644
    Case(
        "complete, but its sums contradict each other: the numbers of the provider hold",
        queue("7.2.140", "codex", "gpt-5",
              tokens(input=1000, cached=200, cache_read=200, output=300, reasoning=120, total=1300),
              breakdown("complete", uncached=900, read=200, plain=180, reasoning=120, total_tokens=1300)),
        D("0.00644"), "gpt-5", read=D("0.00004"),
    ),
    # (1000-200)*2 + 200*0.2 + 300*16 = 1600 + 40 + 4800 = 6440 → 0.00644
    Case(
        "complete, but something is unclassified",
        queue("7.2.140", "codex", "gpt-5",
              tokens(input=1000, cached=200, cache_read=200, output=300, reasoning=120, total=1300),
              breakdown("complete", uncached=700, read=200, plain=180, reasoning=120, unclassified=100)),
        D("0.00644"), "gpt-5", read=D("0.00004"),
    ),
    # (1000-200)*2 + 200*0.2 + 300*16 = 1600 + 40 + 4800 = 6440 → 0.00644
    Case(
        "complete, but a part of it is negative",
        queue("7.2.140", "codex", "gpt-5",
              tokens(input=1000, cached=200, cache_read=200, output=300, reasoning=120, total=1300),
              breakdown("complete", uncached=1200, read=-200, plain=180, reasoning=120)),
        D("0.00644"), "gpt-5", read=D("0.00004"),
    ),
    Case(
        "before breakdowns: nothing but a total",
        queue("7.1.44", "openai-compatible-openrouter", "gpt-5", tokens(total=512)),
        None,
    ),
    Case(
        "before breakdowns: a snapshot whose total is the cache alone",
        snapshot("6.9.49", "gpt-5", tokens(cached=300, total=300)),
        None,
    ),
    # (10120-128)*3.1 + 128*0.7 + (1499+2809)*15.5 = 30975.2 + 89.6 + 66774 = 97838.8 → 0.0978388
    Case(
        "xAI's chat completions: reasoning stands beside output, which the proxy finds inconsistent",
        queue("7.2.140", "openai-compatible-xai", "grok-4",
              tokens(input=10120, output=1499, reasoning=2809, cached=128, cache_read=128, total=14428),
              breakdown("inconsistent", unclassified=14428)),
        D("0.0978388"), "grok-4", read=D("0.0000896"),
    ),
    # 1000*3.1 + (500+400)*15.5 = 3100 + 13950 = 17050 → 0.01705, half of it actual
    Case(
        "no total is filled in from v7.2.97 on: one that holds reasoning beside output is the vendor's",
        queue("7.2.140", "openai-compatible-openrouter", "grok-4",
              tokens(input=1000, output=500, reasoning=400, total=1900),
              breakdown("inconsistent", unclassified=1900), over=OPENROUTER),
        D("0.01705"), "grok-4", actual=D("0.008525"),
    ),
    # 500*3.1 + (300+200)*15.5 = 1550 + 7750 = 9300 → 0.0093
    Case(
        "xAI before breakdowns: its total is its own, and reasoning is not dropped",
        queue("7.1.44", "openai-compatible-xai", "grok-4", tokens(input=500, output=300, reasoning=200, total=1000)),
        D("0.0093"), "grok-4",
    ),
    # 500*3.1 + 300*15.5 = 1550 + 4650 = 6200 → 0.0062
    Case(
        "xAI's responses: reasoning is in output",
        queue("7.2.140", "xai", "grok-4", tokens(input=500, output=300, reasoning=200, total=800),
              breakdown("complete", uncached=500, plain=100, reasoning=200)),
        D("0.0062"), "grok-4",
    ),
    # 500*3.1 + (300+200)*15.5 = 1550 + 7750 = 9300 → 0.0093
    Case(
        "xAI in a snapshot: the total tells",
        snapshot("6.9.49", "grok-4", tokens(input=500, output=300, reasoning=200, total=1000)),
        D("0.0093"), "grok-4",
    ),
    # 9*0.3 + (105-9)*2.5 = 2.7 + 240 = 242.7 → 0.0002427
    Case(
        "Gemini over OpenAI's protocol: thinking is in the total alone",
        queue("7.2.140", "openai-compatible-google", "gemini-2.5-flash", tokens(input=9, output=3, total=105),
              breakdown("inconsistent", unclassified=105)),
        D("0.0002427"), "gemini-2.5-flash",
    ),
    Case(
        "anyone else over OpenAI's protocol: what is in the total alone is not known",
        queue("7.2.140", "openai-compatible-relay", "glm-4.6", tokens(input=9, output=3, total=105),
              breakdown("inconsistent", unclassified=105)),
        None,
    ),
    # 1000*0.6 + (500+400)*2.2 = 600 + 1980 = 2580 → 0.00258
    Case(
        "anyone over OpenAI's protocol: a total of all three is the vendor's own",
        queue("7.2.140", "openai-compatible-relay", "glm-4.6",
              tokens(input=1000, output=500, reasoning=400, total=1900), breakdown("inconsistent", unclassified=1900)),
        D("0.00258"), "glm-4.6",
    ),
    Case(
        "the same before breakdowns: the proxy may have made the total",
        queue("7.1.44", "openai-compatible-relay", "glm-4.6",
              tokens(input=1000, output=500, reasoning=400, total=1900)),
        None,
    ),
    # 1000*0.6 + (200+400)*2.2 = 600 + 1320 = 1920 → 0.00192
    Case(
        "the same with more reasoning than output: it cannot be in output",
        queue("7.1.44", "openai-compatible-relay", "glm-4.6",
              tokens(input=1000, output=200, reasoning=400, total=1600)),
        D("0.00192"), "glm-4.6",
    ),
]  # fmt: skip

# -- service tiers -------------------------------------------------------------------------------------------------

SERVICE_TIERS = [
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case("no tier yet", call("codex", "gpt-5", version="7.1.26"), D("0.0036"), "gpt-5"),
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case("tier auto", call("codex", "gpt-5", service_tier="auto"), D("0.0036"), "gpt-5"),
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case("tier default", call("codex", "gpt-5", service_tier="default"), D("0.0036"), "gpt-5"),
    # 1000*4 + 100*30 = 4000 + 3000 = 7000 → 0.007
    Case("tier priority", call("codex", "gpt-5", service_tier="priority"), D("0.007"), "gpt-5 priority"),
    # 1000*1 + 100*7 = 1000 + 700 = 1700 → 0.0017
    Case("tier flex", call("codex", "gpt-5", service_tier="flex"), D("0.0017"), "gpt-5 flex"),
    # 1000*0.9 + 100*6 = 900 + 600 = 1500 → 0.0015
    Case("tier batch", call("codex", "gpt-5", service_tier="batch"), D("0.0015"), "gpt-5 batch"),
    # a tier costs what it costs, and not what the standard one does
    Case("a tier without a price", call("codex", "gpt-5", service_tier="scale"), None),
    Case("a model without a price for the tier", call("codex", "gpt-5-mini", service_tier="priority"), None),
    # 1000*0.05 + 100*0.4 = 50 + 40 = 90 → 0.00009
    Case(
        "a price for every tier",
        call("codex", "gpt-5-nano", service_tier="priority"),
        D("0.00009"), "gpt-5-nano in every tier",
    ),
    # 1000*0.05 + 100*0.4 = 50 + 40 = 90 → 0.00009
    Case(
        "a price for every tier, the standard one",
        call("codex", "gpt-5-nano", service_tier="default"),
        D("0.00009"), "gpt-5-nano in every tier",
    ),
    # 1000*0.025 + 100*0.2 = 25 + 20 = 45 → 0.000045
    Case(
        "a tier with a price of its own, beside one for every tier",
        call("codex", "gpt-5-nano", service_tier="flex"),
        D("0.000045"), "gpt-5-nano flex",
    ),
    # 1000*3 + 100*15 = 3000 + 1500 = 4500 → 0.0045
    Case(
        "tier standard_only, as Claude's clients ask",
        call("claude", "claude-sonnet-4-5", service_tier="standard_only"),
        D("0.0045"), "claude-sonnet-4-5",
    ),
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case(
        "asked for priority, served as default",
        call("codex", "gpt-5", version="7.2.66", service_tier="priority", request_service_tier="priority",
             response_service_tier="default"),
        D("0.0036"), "gpt-5",
    ),
    # 1000*4 + 100*30 = 4000 + 3000 = 7000 → 0.007
    Case(
        "asked for auto, served with priority",
        call("codex", "gpt-5", version="7.2.66", service_tier="auto", response_service_tier="priority"),
        D("0.007"), "gpt-5 priority",
    ),
    # (1000-200)*4 + 200*0.5 + 100*30 = 3200 + 100 + 3000 = 6300 → 0.0063
    Case(
        "a tier has its own rate for the cache",
        queue("7.2.140", "codex", "gpt-5", tokens(input=1000, cached=200, cache_read=200, output=100, total=1100),
              breakdown("complete", uncached=800, read=200, plain=100), service_tier="priority"),
        D("0.0063"), "gpt-5 priority", read=D("0.0001"),
    ),
]  # fmt: skip

# -- long contexts -------------------------------------------------------------------------------------------------

CONTEXTS = [
    # 200000*1.25 + 1000*10 = 250000 + 10000 = 260000 → 0.26
    Case(
        "exactly as long as the threshold",
        queue("7.1.44", "gemini", "gemini-2.5-pro", tokens(input=200_000, output=1000, total=201_000)),
        D("0.26"), "gemini-2.5-pro",
    ),
    # 200001*2.5 + 1000*15 = 500002.5 + 15000 = 515002.5 → 0.5150025
    Case(
        "one token longer: the higher price holds for the whole request",
        queue("7.1.44", "gemini", "gemini-2.5-pro", tokens(input=200_001, output=1000, total=201_001)),
        D("0.5150025"), "gemini-2.5-pro long",
    ),
    # (200001-150000)*2.5 + 150000*0.625 + 100*15 = 125002.5 + 93750 + 1500 = 220252.5 → 0.2202525
    Case(
        "what was cached makes the context no shorter",
        queue("7.2.67", "gemini", "gemini-2.5-pro",
              tokens(input=200_001, cached=150_000, cache_read=150_000, output=100, total=200_101)),
        D("0.2202525"), "gemini-2.5-pro long", read=D("0.09375"),
    ),
    # 199999*1.25 + (5000+5000)*10 = 249998.75 + 100000 = 349998.75 → 0.34999875
    Case(
        "output and reasoning make it no longer",
        queue("7.1.44", "gemini", "gemini-2.5-pro",
              tokens(input=199_999, output=5000, reasoning=5000, total=209_999)),
        D("0.34999875"), "gemini-2.5-pro",
    ),
    # 100000*3 + 60000*0.3 + 40000*3.75 + 1000*15 = 300000 + 18000 + 150000 + 15000 = 483000 → 0.483
    Case(
        "claude's context is input, reads and writes together: exactly at the threshold",
        queue("7.1.44", "claude", "claude-sonnet-4-5",
              tokens(input=100_000, cached=60_000, cache_read=60_000, cache_creation=40_000, output=1000,
                     total=201_000)),
        D("0.483"), "claude-sonnet-4-5", read=D("0.018"), write=D("0.15"),
    ),
    # 100000*6 + 60000*0.6 + 40001*7.5 + 1000*22.5 = 600000 + 36000 + 300007.5 + 22500 = 958507.5 → 0.9585075
    Case(
        "claude's context is input, reads and writes together: one token written more",
        queue("7.1.44", "claude", "claude-sonnet-4-5",
              tokens(input=100_000, cached=60_000, cache_read=60_000, cache_creation=40_001, output=1000,
                     total=201_001)),
        D("0.9585075"), "claude-sonnet-4-5 long", read=D("0.036"), write=D("0.3000075"),
    ),
    # 1*6 + 200000*0.6 + 10*22.5 = 6 + 120000 + 225 = 120231 → 0.120231
    Case(
        "claude v7.2.140: one new token after a long cached context",
        queue("7.2.140", "claude", "claude-sonnet-4-5",
              tokens(input=1, cached=200_000, cache_read=200_000, output=10, total=200_011),
              breakdown("complete", uncached=1, read=200_000, plain=10)),
        D("0.120231"), "claude-sonnet-4-5 long", read=D("0.12"),
    ),
    # 1000*6 + 199001*0.6 + 10*22.5 = 6000 + 119400.6 + 225 = 125625.6 → 0.1256256
    Case(
        "claude v6 snapshot: a long cached context that no total tells",
        snapshot("6.9.49", "claude-sonnet-4-5", tokens(input=1000, cached=199_001, output=10, total=1010)),
        D("0.1256256"), "claude-sonnet-4-5 long", read=D("0.1194006"),
    ),
    # 400000*4 + 10*18 = 1600000 + 180 = 1600180 → 1.60018
    Case(
        "of two thresholds exactly at the higher one",
        queue("7.1.44", "gemini", "gemini-3-pro", tokens(input=400_000, output=10, total=400_010)),
        D("1.60018"), "gemini-3-pro long",
    ),
    # 400001*8 + 10*24 = 3200008 + 240 = 3200248 → 3.200248
    Case(
        "of two thresholds above both",
        queue("7.1.44", "gemini", "gemini-3-pro", tokens(input=400_001, output=10, total=400_011)),
        D("3.200248"), "gemini-3-pro longest",
    ),
    # 150000*0.6 + 100*5 = 90000 + 500 = 90500 → 0.0905
    Case(
        "a long request of the standard tier",
        queue("7.1.44", "gemini", "gemini-2.5-flash", tokens(input=150_000, output=100, total=150_100)),
        D("0.0905"), "gemini-2.5-flash long",
    ),
    # 150000*0.5 + 100*4 = 75000 + 400 = 75400 → 0.0754
    Case(
        "a long request of a tier that has one price for all lengths",
        queue("7.1.44", "gemini", "gemini-2.5-flash", tokens(input=150_000, output=100, total=150_100),
              service_tier="priority"),
        D("0.0754"), "gemini-2.5-flash priority",
    ),
    # 150000*2.2 + 100*8.8 = 330000 + 880 = 330880 → 0.33088
    Case(
        "a long request before a change",
        queue("7.1.44", "codex", "o4-mini", tokens(input=150_000, output=100, total=150_100)),
        D("0.33088"), "o4-mini long",
    ),
    # 150000*0.9 + 100*4 = 135000 + 400 = 135400 → 0.1354
    Case(
        "a long request after a change to one price for all lengths",
        queue("7.1.44", "codex", "o4-mini", tokens(input=150_000, output=100, total=150_100),
              timestamp="2026-07-15T12:00:00Z"),
        D("0.1354"), "o4-mini from July",
    ),
]  # fmt: skip

# -- what became of it ---------------------------------------------------------------------------------------------

OUTCOMES = [
    Case("failed without tokens", queue("7.1.44", "codex", "gpt-5", NO_TOKENS, failed=True), ZERO),
    Case(
        "failed without tokens, in a snapshot",
        snapshot("6.9.49", "claude-sonnet-4-5", NO_TOKENS, failed=True),
        ZERO,
    ),
    Case(
        "failed without tokens, where requests have a price",
        queue("7.1.44", "codex", "gpt-image-2", NO_TOKENS, failed=True),
        ZERO,
    ),
    Case(
        "failed without tokens, model without a price",
        queue("6.10.8", "iflow", "mystery-1", NO_TOKENS, failed=True),
        ZERO,
    ),
    # 100*5 = 500 → 0.0005 and no 0.04 for the request
    Case(
        "failed with tokens: they are charged, the request is not",
        queue("7.1.44", "codex", "gpt-image-2", tokens(input=100, total=100), failed=True),
        D("0.0005"), "gpt-image-2",
    ),
    # 100*3 + 1000*0.3 = 300 + 300 = 600 → 0.0006
    Case(
        "failed after the context was read",
        queue("7.1.44", "claude", "claude-sonnet-4-5",
              tokens(input=100, cached=1000, cache_read=1000, total=1100), failed=True),
        D("0.0006"), "claude-sonnet-4-5", read=D("0.0003"),
    ),
    Case(
        "failed with nothing but a total",
        queue("7.1.44", "openai-compatible-openrouter", "gpt-5", tokens(total=512), failed=True),
        None,
    ),
    Case("warm-up without tokens", queue("7.2.80", "codex", "gpt-image-2", NO_TOKENS, generate=False), ZERO),
    Case(
        "warm-up without tokens that failed, model without a price",
        queue("7.2.80", "codex", "mystery-1", NO_TOKENS, generate=False, failed=True),
        ZERO,
    ),
    # 1000*5 = 5000 → 0.005 and no 0.04 for the request
    Case(
        "warm-up with tokens: they are charged, the request is not",
        queue("7.2.80", "codex", "gpt-image-2", tokens(input=1000, total=1000), generate=False),
        D("0.005"), "gpt-image-2",
    ),
    Case(
        "success without tokens, model without a price",
        queue("7.1.44", "openai-compatible-openrouter", "mystery-1", NO_TOKENS),
        None,
    ),
    # no tokens at any rate = 0 → 0
    Case("success without tokens", queue("7.1.44", "codex", "gpt-5", NO_TOKENS), ZERO, "gpt-5"),
]  # fmt: skip

# -- prices per request, and rates that are missing ----------------------------------------------------------------

RATES = [
    # 1030*5 + 1056*40 = 5150 + 42240 = 47390 → 0.04739 and 0.04 for the request = 0.08739
    Case(
        "per token and per request",
        queue("7.1.44", "codex", "gpt-image-2", tokens(input=1030, output=1056, total=2086)),
        D("0.08739"), "gpt-image-2",
    ),
    # (1000-400)*5 + 400*1.25 + 10*40 = 3000 + 500 + 400 = 3900 → 0.0039 and 0.04 for the request = 0.0439
    Case(
        "per token and per request, with a cache",
        snapshot("6.9.49", "gpt-image-2", tokens(input=1000, cached=400, output=10, total=1010)),
        D("0.0439"), "gpt-image-2", read=D("0.0005"),
    ),
    # no tokens, 0.04 for the request = 0.04
    Case(
        "per request where no tokens are told",
        queue("7.1.44", "codex", "gpt-image-2", NO_TOKENS), D("0.04"), "gpt-image-2",
    ),
    # no tokens, 0.15 for the request = 0.15
    Case("nothing but per request", queue("7.1.44", "gemini", "veo-3", NO_TOKENS), D("0.15"), "veo-3"),
    Case("nothing but per request, and tokens", call("gemini", "veo-3"), None),
    Case(
        "no rate for reads, and reads",
        queue("7.1.44", "openai-compatible-groq", "llama-4-scout",
              tokens(input=1000, cached=1, output=100, total=1100)),
        None,
    ),
    # 1000*0.2 + 100*0.6 = 200 + 60 = 260 → 0.00026
    Case("no rate for reads, and none", call("openai-compatible-groq", "llama-4-scout"),
         D("0.00026"), "llama-4-scout"),
    Case(
        "no rate for writes, and writes",
        queue("7.2.67", "openai-compatible-zai", "glm-4.6",
              tokens(input=500, cached=100, cache_read=100, cache_creation=1, output=50, total=550)),
        None,
    ),
    # (500-100)*0.6 + 100*0.11 + 50*2.2 = 240 + 11 + 110 = 361 → 0.000361
    Case(
        "no rate for writes, and reads",
        queue("7.2.67", "openai-compatible-zai", "glm-4.6",
              tokens(input=500, cached=100, cache_read=100, output=50, total=550)),
        D("0.000361"), "glm-4.6", read=D("0.000011"),
    ),
    Case("no rate for output, and output", call("openai", "text-embedding-3-small"), None),
    # 1000*0.02 = 20 → 0.00002
    Case(
        "no rate for output, and none",
        queue("7.1.44", "openai", "text-embedding-3-small", tokens(input=1000, total=1000)),
        D("0.00002"), "text-embedding-3-small",
    ),
    # 7*0.000001 + 3*0.000003 = 0.000007 + 0.000009 = 0.000016 → 0.000000000016
    Case(
        "twelve decimals",
        queue("6.10.8", "iflow", "gemma-3-1b", tokens(input=7, output=3, total=10)),
        D("0.000000000016"), "gemma-3-1b",
    ),
    Case("no price", call("codex", "mystery-1"), None),
]  # fmt: skip

# -- dates and hours -----------------------------------------------------------------------------------------------

DATES = [
    # 1000*0.27 + 100*1.1 = 270 + 110 = 380 → 0.00038
    Case(
        "a nanosecond before a change, at 2026-01-01 00:00 in Berlin",
        call("deepseek", "deepseek-chat", timestamp="2025-12-31T22:59:59.999999999Z"),
        D("0.00038"), "deepseek-chat until 2026",
    ),
    # 1000*0.28 + 100*0.42 = 280 + 42 = 322 → 0.000322
    Case(
        "at a change",
        call("deepseek", "deepseek-chat", timestamp="2025-12-31T23:00:00Z"),
        D("0.000322"), "deepseek-chat from 2026",
    ),
    # 1000*0.27 + 100*1.1 = 270 + 110 = 380 → 0.00038
    Case(
        "before a change by a clock in Shanghai, where it is the next year already",
        call("deepseek", "deepseek-chat", timestamp="2026-01-01T06:59:59.5+08:00"),
        D("0.00038"), "deepseek-chat until 2026",
    ),
    # 1000*0.28 + 100*0.42 = 280 + 42 = 322 → 0.000322
    Case(
        "after a change by a clock in New York, where it is last year still",
        call("deepseek", "deepseek-chat", timestamp="2025-12-31T18:00:00.1-05:00"),
        D("0.000322"), "deepseek-chat from 2026",
    ),
    # 1000*1.1 + 100*4.4 = 1100 + 440 = 1540 → 0.00154
    Case(
        "before a change in summer, at 22:00 UTC",
        call("codex", "o4-mini", timestamp="2026-06-30T21:59:59.999999Z"),
        D("0.00154"), "o4-mini",
    ),
    # 1000*0.9 + 100*4 = 900 + 400 = 1300 → 0.0013
    Case(
        "at a change in summer: the new price replaces one without an end",
        call("codex", "o4-mini", timestamp="2026-06-30T22:00:00Z"),
        D("0.0013"), "o4-mini from July",
    ),
    # 1000*1.9 + 100*7.6 = 1900 + 760 = 2660 → 0.00266
    Case(
        "a new standard price leaves that of a tier alone",
        call("codex", "o4-mini", timestamp="2026-07-15T12:00:00Z", service_tier="priority"),
        D("0.00266"), "o4-mini priority",
    ),
    Case("before the first price", call("xai", "grok-3", timestamp="2025-01-31T22:59:59Z"), None),
    # 1000*3 + 100*15 = 3000 + 1500 = 4500 → 0.0045
    Case("as the first price begins", call("xai", "grok-3", timestamp="2025-01-31T23:00:00Z"), D("0.0045"), "grok-3"),
    # 1000*3 + 100*15 = 3000 + 1500 = 4500 → 0.0045
    Case("before the last price ends", call("xai", "grok-3", timestamp="2026-01-31T22:59:59Z"), D("0.0045"), "grok-3"),
    Case("as the last price ends", call("xai", "grok-3", timestamp="2026-01-31T23:00:00Z"), None),
]  # fmt: skip

HOURS = [
    # 1000*0.55 + 100*2.19 = 550 + 219 = 769 → 0.000769
    Case(
        "before the night",
        call("deepseek", "deepseek-reasoner", timestamp="2026-03-01T16:29:59.999Z"),
        D("0.000769"), "deepseek-reasoner",
    ),
    # 1000*0.135 + 100*0.55 = 135 + 55 = 190 → 0.00019
    Case(
        "as the night begins",
        call("deepseek", "deepseek-reasoner", timestamp="2026-03-01T16:30:00Z"),
        D("0.00019"), "deepseek-reasoner by night",
    ),
    # 1000*0.135 + 100*0.55 = 135 + 55 = 190 → 0.00019
    Case(
        "at midnight",
        call("deepseek", "deepseek-reasoner", timestamp="2026-03-02T00:00:00Z"),
        D("0.00019"), "deepseek-reasoner by night",
    ),
    # 1000*0.135 + 100*0.55 = 135 + 55 = 190 → 0.00019
    Case(
        "before the night ends",
        call("deepseek", "deepseek-reasoner", timestamp="2026-03-02T00:29:59.999999Z"),
        D("0.00019"), "deepseek-reasoner by night",
    ),
    # 1000*0.55 + 100*2.19 = 550 + 219 = 769 → 0.000769
    Case(
        "as the night ends",
        call("deepseek", "deepseek-reasoner", timestamp="2026-03-02T00:30:00Z"),
        D("0.000769"), "deepseek-reasoner",
    ),
    # 1000*0.135 + 100*0.55 = 135 + 55 = 190 → 0.00019
    Case(
        "hours are UTC whatever the clock of the proxy: 16:45 is 00:45 in Shanghai",
        call("deepseek", "deepseek-reasoner", timestamp="2026-03-03T00:45:00+08:00"),
        D("0.00019"), "deepseek-reasoner by night",
    ),
    # 1000*0.55 + 100*2.19 = 550 + 219 = 769 → 0.000769
    Case(
        "hours are UTC whatever the clock of the proxy: 20:00 in Shanghai is noon",
        call("deepseek", "deepseek-reasoner", timestamp="2026-03-03T20:00:00+08:00"),
        D("0.000769"), "deepseek-reasoner",
    ),
    # 1000*0.2 + 100*0.5 = 200 + 50 = 250 → 0.00025
    Case("before the day", call("xai", "grok-4-fast", timestamp="2026-03-01T08:59:59Z"), D("0.00025"), "grok-4-fast"),
    # 1000*0.4 + 100*1 = 400 + 100 = 500 → 0.0005
    Case(
        "as the day begins",
        call("xai", "grok-4-fast", timestamp="2026-03-01T09:00:00Z"),
        D("0.0005"), "grok-4-fast by day",
    ),
    # 1000*0.2 + 100*0.5 = 200 + 50 = 250 → 0.00025
    Case("as the day ends", call("xai", "grok-4-fast", timestamp="2026-03-01T17:00:00Z"), D("0.00025"), "grok-4-fast"),
]  # fmt: skip

# -- names of models -----------------------------------------------------------------------------------------------

NAMES = [
    # 1000*0.25 + 100*2 = 250 + 200 = 450 → 0.00045
    Case(
        "the model is `unknown`: what the client asked for stands in",
        call("codex", "unknown", alias="gpt-5-mini"),
        D("0.00045"), "gpt-5-mini",
    ),
    # 1000*0.25 + 100*2 = 250 + 200 = 450 → 0.00045
    Case(
        "the model is `unknown`, and the client's name has a prefix and a suffix",
        call("codex", "unknown", alias="team-a/gpt-5-mini(low)"),
        D("0.00045"), "gpt-5-mini",
    ),
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case(
        "the model is known: what the client asked for does not count",
        call("codex", "gpt-5", alias="gpt-5-mini"),
        D("0.0036"), "gpt-5",
    ),
    Case("the model is `unknown` and nothing else is told", snapshot("6.9.49", "unknown", THOUSAND), None),
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case("thinking suffix", call("codex", "gpt-5(high)"), D("0.0036"), "gpt-5"),
    # 1000*2.8 + 100*14 = 2800 + 1400 = 4200 → 0.0042
    Case(
        "-thinking",
        call("antigravity", "claude-sonnet-4-5-thinking"),
        D("0.0042"), "claude-sonnet-4-5 of antigravity",
    ),
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case("prefix of the proxy", call("codex", "team-a/gpt-5"), D("0.0036"), "gpt-5"),
    # 1000*2 + 100*16 = 2000 + 1600 = 3600 → 0.0036
    Case("prefix and suffix", call("codex", "team-a/gpt-5(high)"), D("0.0036"), "gpt-5"),
    # 1000*3 + 100*15 = 3000 + 1500 = 4500 → 0.0045
    Case("date", call("claude", "claude-sonnet-4-5-20250929"), D("0.0045"), "claude-sonnet-4-5"),
    # 1000*3 + 100*15 = 3000 + 1500 = 4500 → 0.0045
    Case("date, as Vertex writes it", call("vertex", "claude-sonnet-4-5@20250929"), D("0.0045"), "claude-sonnet-4-5"),
    # 1000*3 + 100*15 = 3000 + 1500 = 4500 → 0.0045
    Case(
        "date and suffix",
        snapshot("6.9.49", "claude-sonnet-4-5-20250929(8192)", THOUSAND),
        D("0.0045"), "claude-sonnet-4-5",
    ),
    # 1000*2.4 + 100*9.6 = 2400 + 960 = 3360 → 0.00336
    Case("date with a price of its own", call("openai", "gpt-4.1-2025-04-14"), D("0.00336"), "gpt-4.1-2025-04-14"),
    # 1000*2.3 + 100*9.2 = 2300 + 920 = 3220 → 0.00322
    Case("another date", call("openai", "gpt-4.1-2025-06-01"), D("0.00322"), "gpt-4.1"),
    # 1000*0.25 + 100*2 = 250 + 200 = 450 → 0.00045
    Case("upper case", call("codex", "GPT-5-Mini"), D("0.00045"), "gpt-5-mini"),
    # 1000*0.6 + 100*2.5 = 600 + 250 = 850 → 0.00085
    Case("the price of the bare name", call("openai-compatible-groq", "other/kimi-k2"), D("0.00085"), "kimi-k2"),
    # 1000*0.4 + 100*1.2 = 400 + 120 = 520 → 0.00052
    Case("wildcard", call("qwen", "qwen-max"), D("0.00052"), "qwen*"),
    # 1000*1 + 100*5 = 1000 + 500 = 1500 → 0.0015
    Case("the wildcard with more characters", call("qwen", "qwen3-coder-flash"), D("0.0015"), "qwen3-coder*"),
    # 1000*1.2 + 100*6 = 1200 + 600 = 1800 → 0.0018
    Case("a name before a wildcard", call("qwen", "qwen3-max"), D("0.0018"), "qwen3-max"),
    # 1000*1.2 + 100*6 = 1200 + 600 = 1800 → 0.0018
    Case(
        "a shortened name before a wildcard",
        call("openai-compatible-groq", "qwen/qwen3-max-2025-09-23"),
        D("0.0018"), "qwen3-max",
    ),
    Case("a part of a name is no match", call("codex", "gpt-5-codex-max"), None),
]  # fmt: skip

# -- channels ------------------------------------------------------------------------------------------------------

CHANNELS = [
    # 1000*2.2 + 100*17 = 2200 + 1700 = 3900 → 0.0039, half of it actual
    Case(
        "a price for the channel",
        call("openai-compatible-openrouter", "gpt-5", OPENROUTER),
        D("0.0039"), "gpt-5 over OpenRouter", actual=D("0.00195"),
    ),
    # 1000*4 + 100*30 = 4000 + 3000 = 7000 → 0.007, half of it actual
    Case(
        "a price for the tier, where the one for the channel is for the standard tier",
        call("openai-compatible-openrouter", "gpt-5", OPENROUTER, service_tier="priority"),
        D("0.007"), "gpt-5 priority", actual=D("0.0035"),
    ),
    # (1000-200)*2.2 + 200*0.22 + 100*17 = 1760 + 44 + 1700 = 3504 → 0.003504, half of it actual
    Case(
        "a price for the channel, in a snapshot",
        snapshot("6.9.49", "gpt-5", tokens(input=1000, cached=200, output=100, total=1100), OPENROUTER),
        D("0.003504"), "gpt-5 over OpenRouter", read=D("0.000044"), actual=D("0.001752"),
    ),
    # 1000*0.25 + 100*2 = 250 + 200 = 450 → 0.00045, half of it actual
    Case(
        "another model over a channel with a price: half price",
        call("openai-compatible-openrouter", "gpt-5-mini", OPENROUTER),
        D("0.00045"), "gpt-5-mini", actual=D("0.000225"),
    ),
    # 1000*0 + 100*0 = 0 → 0
    Case(
        "a wildcard for a channel, and a rate of 0 that is known",
        call("openai-compatible-local-vllm", "local-llama", LOCAL),
        ZERO, "local-*",
    ),
    Case("the same model over another channel", call("openai-compatible-groq", "local-llama"), None),
    # 1000*1.5 + 100*12 = 1500 + 1200 = 2700 → 0.0027, none of it actual
    Case(
        "a flat-rate account: multiplier 0",
        call("codex", "gpt-5-codex", ALICE),
        D("0.0027"), "gpt-5-codex", actual=ZERO,
    ),
    # 1000*1 + 100*5 = 1000 + 500 = 1500 → 0.0015
    Case(
        "before the first multiplier",
        call("claude", "claude-haiku-4-5", BOB, timestamp="2026-02-28T23:59:59.999999999Z"),
        D("0.0015"), "claude-haiku-4-5",
    ),
    # 1000*1 + 100*5 = 1000 + 500 = 1500 → 0.0015, 0.8 of it = 0.0012 actual
    Case(
        "as a multiplier begins",
        call("claude", "claude-haiku-4-5", BOB, timestamp="2026-03-01T00:00:00Z"),
        D("0.0015"), "claude-haiku-4-5", actual=D("0.0012"),
    ),
    # 1000*1 + 100*5 = 1000 + 500 = 1500 → 0.0015, 0.8 of it = 0.0012 actual
    Case(
        "before a multiplier changes, by a clock in Shanghai",
        call("claude", "claude-haiku-4-5", BOB, timestamp="2026-04-01T07:59:59+08:00"),
        D("0.0015"), "claude-haiku-4-5", actual=D("0.0012"),
    ),
    # 10*1 + 600*0.1 + 400*1.25 + 20*5 = 10 + 60 + 500 + 100 = 670 → 0.00067, a quarter of it = 0.0001675 actual
    Case(
        "as a multiplier changes: parts are those of the cost, not of the actual cost",
        queue("7.1.44", "claude", "claude-haiku-4-5",
              tokens(input=10, cached=600, cache_read=600, cache_creation=400, output=20, total=1030), over=BOB,
              timestamp="2026-04-01T00:00:00Z"),
        D("0.00067"), "claude-haiku-4-5", read=D("0.00006"), write=D("0.0005"), actual=D("0.0001675"),
    ),
    Case(
        "a multiplier makes no cost of none",
        call("openai-compatible-openrouter", "mystery-1", OPENROUTER),
        None,
    ),
    Case(
        "failed without tokens over a channel with a multiplier",
        queue("7.1.44", "claude", "claude-haiku-4-5", NO_TOKENS, over=BOB, failed=True,
              timestamp="2026-04-02T00:00:00Z"),
        ZERO,
    ),
]  # fmt: skip

CASES = [
    *OPENAI, *CLAUDE, *GEMINI, *UNKNOWN_FAMILY, *BREAKDOWN, *SERVICE_TIERS, *CONTEXTS, *OUTCOMES, *RATES, *DATES,
    *HOURS, *NAMES, *CHANNELS,
]  # fmt: skip


# -- the corpus itself ---------------------------------------------------------------------------------------------


def test_no_two_cases_are_one_and_every_price_is_needed():
    assert len(CASES) >= 64
    assert len({case.name for case in CASES}) == len(CASES)
    assert len({identity(case, KEYRING) for case in CASES}) == len(CASES)
    assert {case.by for case in CASES} - {""} == OWN.keys()


def shape(fields):
    """The names of an item's fields, those of objects in it included."""
    return {
        (name, *inner)
        for name, value in fields.items()
        for inner in (shape(value) if isinstance(value, dict) else [()])
    }


@pytest.mark.parametrize("version", ["6.10.8", "7.2.140"])
def test_items_of_the_queue_have_the_fields_that_the_proxy_writes(version):
    real = json.loads((PAYLOADS / f"queue-v{version}.json").read_bytes())
    seldom = {"response_headers", "response_service_tier", "access_token_sha256"}
    wanted = shape({name: value for name, value in real[-1].items() if name not in seldom})
    mine = [case.item for case in CASES if case.item.version == version and not case.item.in_snapshot]
    assert mine
    assert [item.fields for item in mine if shape(item.fields) != wanted] == []


@pytest.mark.parametrize(("name", "versions"), [("int", ["6.6.55"]), ("string", ["6.9.49"])])
def test_details_of_a_snapshot_have_the_fields_that_the_proxy_writes(name, versions):
    real = json.loads((PAYLOADS / f"snapshot-{name}-auth-index.json").read_bytes())
    (api, *_) = real["usage"]["apis"].values()
    (stats, *_) = api["models"].values()
    mine = [case.item for case in CASES if case.item.version in versions and case.item.in_snapshot]
    assert mine
    assert [item.fields for item in mine if shape(item.fields) != shape(stats["details"][0])] == []


# -- one record at a time, without a database ----------------------------------------------------------------------


def queue_answer(items):
    return json.dumps([item.fields for item in items]).encode()


def snapshot_answer(items):
    models: dict[str, Any] = {}
    for item in items:
        models.setdefault(item.model, {"details": []})["details"].append(item.fields)
    return json.dumps({"usage": {"apis": {CLIENT: {"models": models}}}}).encode()


def decoded(item):
    """The one record that an answer with this item alone holds."""
    if item.in_snapshot:
        (found,) = decode.decode_snapshot(snapshot_answer([item]))
    else:
        found = decode.decode_queue(queue_answer([item]))
    assert found.bad == []
    (record,) = found.records
    return record


def identity(case, keyring):
    """The number under which a case's record is stored."""
    record = decoded(case.item)
    return keyring.event_key(record.identity(*record.labels.identity("default", keyring))).hex()


def credentials(keyring):
    """What the proxy lists, and nothing that could not be read."""
    read = [directory.parse(name, json.dumps(entries).encode(), keyring) for name, entries in LISTED.items()]
    assert [skipped for _, skipped in read] == [0] * len(read)
    return [credential for found, _ in read for credential in found]


DIRECTORY = directory.build(credentials(KEYRING))


def resolution(record) -> Resolution:
    return resolve(
        DIRECTORY,
        auth_index=record.labels.auth_index,
        source_digest=KEYRING.digest(record.labels.source),
        account=record.labels.source if is_account(record.labels.source) else "",
        provider=record.labels.provider,
        auth_type=record.labels.auth_type,
    )


def as_price(number, stated):
    """A price as it is in force: days have become times, hours begin and end."""
    begins, ends = stated.span_of_hours() or (None, None)
    since, until = (
        day and datetime.combine(day, time(), ZONE).astimezone(UTC) for day in (stated.valid_from, stated.valid_to)
    )
    return Price(
        price_id=number, source="operator", valid_from=since, valid_to=until, hours_from=begins, hours_to=ends,
        **stated.model_dump(exclude={"hours", "valid_from", "valid_to"}),
    )  # fmt: skip


IN_FORCE = {name: as_price(number, stated) for number, (name, stated) in enumerate(OWN.items(), start=1)}


def counts_of(record):
    of = of_credential(record.labels.provider, record.labels.model, resolution(record))
    return record.normalised if record.classified or of is None else normalise(record.reported, of)


def charged(record):
    """What a record costs by the pure rules alone."""
    labels = record.labels
    subject = Subject(labels.provider, labels.model, labels.alias, (resolution(record).channel.name,))
    steps = price.rank_prices(
        IN_FORCE.values(), subject, price.charged_tier(record.service_tier, record.response_service_tier)
    )
    at = (EPOCH + timedelta(microseconds=record.occurred_at_ns // 1000)).astimezone(ZONE)
    return price.cost(steps, at, counts_of(record), labels.outcome)


def usd(pico):
    return D(pico).scaleb(-12)


def by_name(cases):
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.mark.parametrize("case", by_name(CASES))
def test_a_record_costs_what_it_costs_on_paper(case):
    found = charged(decoded(case.item))
    named = {p.price_id: name for name, p in IN_FORCE.items()} | {None: ""}
    if case.cost is None:
        assert found == price.UNPRICED
    else:
        assert named[found.price_id] == case.by
        assert tuple(map(usd, found[:3])) == (case.cost, case.read, case.write)


@pytest.mark.parametrize("case", by_name(case for case in CASES if case.by))
def test_the_parts_of_a_cost_sum_to_it(case):
    record = decoded(case.item)
    parts = price.parts(IN_FORCE[case.by], counts_of(record), record.labels.outcome)
    assert usd(sum(parts)) == case.cost
    assert (usd(parts.cache_read), usd(parts.cache_write)) == (case.read, case.write)
    assert usd(parts.request) == ((OWN[case.by].request_usd or 0) if record.labels.outcome == "success" else 0)
    assert usd(parts.input + parts.output) == case.cost - case.read - case.write - usd(parts.request)


# -- all of them, through the database -----------------------------------------------------------------------------

SELECT_RECORDS = """
SELECT record_id, cost_usd, actual_cost_usd, cache_read_cost_usd, cache_write_cost_usd, price_id
FROM usage_api.v1_records
"""
SELECT_SUMS = """
SELECT model, sum(requests), sum(unpriced_requests), sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd),
       sum(cache_write_cost_usd)
FROM usage_api.{} GROUP BY 1
"""
SELECT_TOTAL = """
SELECT sum(requests), sum(unpriced_requests), sum(cost_usd), sum(actual_cost_usd), sum(cache_read_cost_usd),
       sum(cache_write_cost_usd)
FROM usage_api.v1_daily
"""


@pytest.fixture(params=["by command", "by configuration"])
def loaded(request, database_url, tmp_path):
    """Books with all prices entered in one of the two ways, and then all cases loaded."""
    with Books(database_url, tmp_path, ZONE.key) as books:
        configured = tuple(OWN.values()) if request.param == "by configuration" else ()
        if not configured:
            with database.transaction(books.engine) as connection:
                for stated in OWN.values():
                    price_table.add(connection, stated, ZONE, now())
        loader = Loader(
            books.engine, "default", pepper="", timezone=ZONE.key, prices=Prices(dataset=False, own=configured)
        )
        enter_channels(books, loader)
        result = PassResult(upstream="default")
        loader.load("queue", decode.decode_queue(queue_answer(items(in_snapshot=False))), result)
        for number, part in enumerate(decode.decode_snapshot(snapshot_answer(items(in_snapshot=True)))):
            loader.load(f"snapshot-{number}", part, result)
        assert (result.inserted, result.quarantined, result.duplicates) == (len(CASES), 0, 0)
        yield books


def items(*, in_snapshot):
    return [case.item for case in CASES if case.item.in_snapshot == in_snapshot]


def enter_channels(books, loader):
    """What the proxy lists, and the rate multipliers."""
    with database.transaction(books.engine) as connection:
        stored_credentials.save_credentials(
            connection, loader.target.upstream_id, list(LISTED), credentials(loader.target.keyring), now()
        )
        loader.use(directory.build(*stored_credentials.load_credentials(connection, loader.target.upstream_id)))
    ids = dict(books.ask("SELECT channel, channel_id FROM usage_api.v1_channels"))
    with database.transaction(books.engine) as connection:
        for channel, since, multiplier in RATE_MULTIPLIERS:
            channels.set_rate(connection, ids[channel], multiplier, since, now())


def costs(case):
    """The four costs of a case, as a record has them."""
    if case.cost is None:
        return (None,) * 4
    return case.cost, case.cost if case.actual is None else case.actual, case.read, case.write


def price_names(books):
    """The names of prices by their number: they were entered in this order."""
    rows = books.ask("SELECT price_id, model, above_input_tokens FROM usage_api.v1_prices ORDER BY price_id")
    assert [row[1:] for row in rows] == [(p.model, p.above_input_tokens) for p in OWN.values()]
    return {row[0]: name for row, name in zip(rows, OWN, strict=True)} | {None: ""}


def counted(case):
    """Whether a call used any token."""
    return any(value for name, value in case.item.fields["tokens"].items() if name.endswith("_tokens"))


def summed(cases):
    """Requests, those without a cost, and the four costs, as rollups have them; None where nothing used has a cost."""
    priced = [costs(case) for case in cases if case.cost is not None]
    used = any(case.cost for case in cases) or any(case.cost is not None and counted(case) for case in cases)
    sums = [sum(column) for column in zip(*priced, strict=True)] if used else [None] * 4
    return (len(cases), len(cases) - len(priced), *sums)


def test_records_and_their_sums_cost_what_they_cost_on_paper(loaded):
    names, keyring = price_names(loaded), loaded.keyring()
    rows = loaded.ask(SELECT_RECORDS)
    wanted = {identity(case, keyring): (case.name, *costs(case), case.by) for case in CASES}
    found = {key: (wanted[key][0], *of_row, names[number]) for key, *of_row, number in rows}
    assert differing(found, wanted) == {}

    models: dict[str, list[Case]] = {}
    for case in CASES:
        models.setdefault(case.item.model, []).append(case)
    for view in ("v1_daily", "v1_hourly"):
        sums = {model: tuple(of_model) for model, *of_model in loaded.ask(SELECT_SUMS.format(view))}
        assert differing(sums, {model: summed(cases) for model, cases in models.items()}) == {}
    assert loaded.ask(SELECT_TOTAL) == [summed(CASES)]
    loaded.balance()
