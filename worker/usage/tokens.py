"""Reported token counts → counts that exclude one another (pure).

What a reported count includes differs by provider family: OpenAI's input includes what was read from a cache,
Claude's does not; Gemini's output leaves reasoning out, and so does xAI's where it speaks OpenAI's chat protocol. A
price holds for a kind of token, so each token must be in exactly one count. Where the reported numbers contradict
each other nothing is guessed: the whole total is `unclassified`, which no price fits.

The rules are those of the proxy's own accounting (version 2), carried back to the versions that did not have it, and
those of vendors that the proxy reads by the rules of another: there it finds its numbers inconsistent.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

TokenConvention = Literal["subset", "beside", "hidden", "compatible", "independent", "separate_reasoning", "unknown"]
"""How a provider counts.

- `subset`: input holds the cache, output holds reasoning (OpenAI, DeepSeek, Kimi, Qwen).
- `beside`: the same, but the total tells whether output holds reasoning (xAI: not in chat completions, but in
  responses).
- `hidden`: Gemini in OpenAI's shape: thinking is in the total alone, beside output, and not told.
- `compatible`: whoever speaks OpenAI's protocol, with a model of nobody we know.
- `independent`: input excludes the cache (Claude).
- `separate_reasoning`: output excludes reasoning (Gemini).
"""

COMPATIBLE_PROVIDERS = ("openai-compatibility", "openai-compatible-")
INDEPENDENT = ("claude", "anthropic")
SEPARATE_REASONING = ("gemini", "aistudio", "antigravity", "vertex", "interaction")
BESIDE = ("xai", "grok")
SUBSET = ("openai", "codex", "kimi", "qwen", "deepseek", "openrouter")

BESIDE_MODELS = re.compile(r"(?:.*/)?grok")
SUBSET_MODELS = re.compile(r"(?:.*/)?(?:gpt-|chatgpt-|codex|o[134]\b|kimi|qwen|deepseek)")
COMPATIBLE_MODELS: tuple[tuple[re.Pattern[str], TokenConvention], ...] = (
    (BESIDE_MODELS, "beside"),
    (re.compile(r"(?:.*/)?gemini"), "hidden"),
    (re.compile(r"(?:.*/)?claude|.*[./]claude"), "subset"),
    (SUBSET_MODELS, "subset"),
)
"""What a model's maker tells of the arithmetic where it is served over OpenAI's protocol."""


class ReportedCounts(NamedTuple):
    """Token counts as a payload reports them, and as they are stored beside those that exclude one another."""

    input: int
    output: int
    reasoning: int
    cached: int
    total: int


class Reported(NamedTuple):
    """Token counts as a payload reports them; `cache_read` and `cache_write` are None before proxy v7.0.3."""

    input: int
    output: int
    reasoning: int
    cached: int
    total: int
    cache_read: int | None
    cache_write: int | None

    @property
    def counts(self) -> ReportedCounts:
        """Those that are stored."""
        return ReportedCounts(self.input, self.output, self.reasoning, self.cached, self.total)


class Normalised(NamedTuple):
    """Token counts that exclude one another; their sum is the record's total."""

    uncached_input: int
    cache_read: int
    cache_write: int
    billed_output: int
    unclassified: int


NOTHING = Normalised(0, 0, 0, 0, 0)


def convention(provider: str, executor: str, model: str) -> TokenConvention:
    """Return which token arithmetic a record follows.

    Args:
        provider: the proxy's provider id, empty in a snapshot.
        executor: the proxy's executor type, empty before v7.1.38.
        model: the model that ran; evidence only where provider and executor say nothing.
    """
    provider, executor = provider.lower().strip(), executor.lower().strip()
    if executor == "openaicompatexecutor" or provider.startswith(COMPATIBLE_PROVIDERS):
        named_as: list[TokenConvention] = [of for pattern, of in COMPATIBLE_MODELS if pattern.match(model.lower())]
        return named_as[0] if named_as else "compatible"
    named = f"{provider} {executor}".replace("unknown", "").strip()
    evidence = named or model.lower()
    if any(marker in evidence for marker in INDEPENDENT):
        return "independent"
    if any(marker in evidence for marker in SEPARATE_REASONING):
        return "separate_reasoning"
    if any(marker in evidence for marker in BESIDE):
        return "beside"
    if any(marker in evidence for marker in SUBSET) or (not named and SUBSET_MODELS.match(evidence)):
        return "subset"
    return "unknown"


def normalise(reported: Reported, of: TokenConvention, *, filled_in: bool = True) -> Normalised:
    """Return `reported` as counts that exclude one another, by the arithmetic of the family `of`.

    `filled_in` says that the proxy may have made the total itself, as it did before it had a breakdown (v7.2.97).
    """
    if not any(count or 0 for count in reported):
        return NOTHING
    if of == "independent":
        return _independent(reported)
    if of == "separate_reasoning":
        return _separate_reasoning(reported)
    if of == "unknown":
        return _unknown(reported, filled_in=filled_in)
    return _openai(reported, of, filled_in=filled_in)


def _openai(r: Reported, of: TokenConvention, *, filled_in: bool) -> Normalised:
    """Input includes the cache; the total tells where reasoning is, unless the proxy may have made it."""
    read, write = _cache(r)
    outside = r.total - r.input - r.output
    if read + write > r.input or (r.reasoning > r.output and outside != r.reasoning):
        return _unclassified(r)
    if of == "beside" and r.reasoning and not r.total:
        return _unclassified(r)
    output, rest = r.output, 0
    if outside == r.reasoning > 0:
        # Beside output, or in it and counted again by a proxy that made up for a missing total.
        if of == "compatible" and filled_in and r.reasoning <= r.output:
            return _unclassified(r)
        again = of == "subset" and filled_in and r.reasoning <= r.output
        output += 0 if again else r.reasoning
    elif of == "hidden" and not r.reasoning and outside > 0 and r.input:
        output += outside
    elif r.total and outside > 0 and not (r.input and r.output):
        rest = outside
    elif r.total and outside:
        return _unclassified(r)
    return Normalised(r.input - read - write, read, write, output, rest)


def _independent(r: Reported) -> Normalised:
    """Input excludes the cache, output includes thinking; the total left the cache out before v7.1.26."""
    read, write = r.cache_read or 0, r.cache_write or 0
    if not (read or write):
        read = r.cached  # before v7.0.3 the one count stood for reads, or for writes where nothing was read
    parts = r.input + r.output
    if r.reasoning > r.output or r.total not in (0, parts, parts + read + write):
        return _unclassified(r)
    return Normalised(r.input, read, write, r.output, 0)


def _separate_reasoning(r: Reported) -> Normalised:
    """Input includes the cache, reasoning stands beside output."""
    read, write = _cache(r)
    if read + write > r.input or r.total not in (0, r.input + r.output + r.reasoning):
        return _unclassified(r)
    return Normalised(r.input - read - write, read, write, r.output + r.reasoning, 0)


def _unknown(r: Reported, *, filled_in: bool) -> Normalised:
    """Only what all the families say whose arithmetic these numbers obey."""
    said = (
        _openai(r, "subset", filled_in=filled_in), _openai(r, "beside", filled_in=filled_in),
        _independent(r), _separate_reasoning(r),
    )  # fmt: skip
    readings = {counts for counts in said if not counts.unclassified}
    return readings.pop() if len(readings) == 1 else _unclassified(r)


def _cache(r: Reported) -> tuple[int, int]:
    """Return (read, write); before v7.2.67 the count of reads stayed 0 and `cached` alone held them."""
    return r.cache_read or r.cached, r.cache_write or 0


def _unclassified(r: Reported) -> Normalised:
    read, write = _cache(r)
    least = max(r.input, read + write) + max(r.output, r.reasoning)
    return Normalised(0, 0, 0, 0, r.total or least)
