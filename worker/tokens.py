"""Reported token counts → counts that exclude one another (pure).

What a reported count includes differs by provider family: OpenAI's input includes what was read from a cache,
Claude's does not; Gemini's output leaves reasoning out. A price holds for a kind of token, so each token must be
in exactly one count. Where the reported numbers contradict each other nothing is guessed: the whole total is
`unclassified`, which no price fits.

The rules are those of the proxy's own accounting (version 2), carried back to the versions that did not have it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Family = Literal["subset", "independent", "separate_reasoning", "unknown"]

SUBSET_PROVIDERS = ("openai-compatibility", "openai-compatible-")
INDEPENDENT = ("claude", "anthropic")
SEPARATE_REASONING = ("gemini", "aistudio", "antigravity", "vertex", "interaction")
SUBSET = ("openai", "codex", "xai", "grok", "kimi", "qwen", "deepseek", "openrouter")
SUBSET_MODELS = re.compile(r"(?:.*/)?(?:gpt-|chatgpt-|codex|o[134]\b|grok|kimi|qwen|deepseek)")


class Reported(NamedTuple):
    """Token counts as a payload reports them; `cache_read` and `cache_write` are None before proxy v7.0.3."""

    input: int
    output: int
    reasoning: int
    cached: int
    total: int
    cache_read: int | None
    cache_write: int | None


class Normalised(NamedTuple):
    """Token counts that exclude one another; their sum is the record's total."""

    uncached_input: int
    cache_read: int
    cache_write: int
    billed_output: int
    unclassified: int


NOTHING = Normalised(0, 0, 0, 0, 0)


def family(provider: str, executor: str, model: str) -> Family:
    """Return which token arithmetic a record follows.

    Args:
        provider: the proxy's provider id, empty in a snapshot.
        executor: the proxy's executor type, empty before v7.1.38.
        model: the model that ran; evidence only where provider and executor say nothing.
    """
    provider, executor = provider.lower().strip(), executor.lower().strip()
    if executor == "openaicompatexecutor" or provider.startswith(SUBSET_PROVIDERS):
        return "subset"
    named = f"{provider} {executor}".replace("unknown", "").strip()
    evidence = named or model.lower()
    if any(marker in evidence for marker in INDEPENDENT):
        return "independent"
    if any(marker in evidence for marker in SEPARATE_REASONING):
        return "separate_reasoning"
    if any(marker in evidence for marker in SUBSET) or (not named and SUBSET_MODELS.match(evidence)):
        return "subset"
    return "unknown"


def normalise(reported: Reported, of: Family, *, filled_in: bool = True) -> Normalised:
    """Return `reported` as counts that exclude one another, by the arithmetic of the family `of`.

    `filled_in` says that the proxy may have made the total itself, as it did before it had a breakdown (v7.2.97).
    """
    if not any(count or 0 for count in reported):
        return NOTHING
    if of == "subset":
        return _subset(reported, filled_in=filled_in)
    if of == "independent":
        return _independent(reported)
    if of == "separate_reasoning":
        return _separate_reasoning(reported)
    return _unknown(reported)


def _subset(r: Reported, *, filled_in: bool) -> Normalised:
    """Input includes the cache, output includes reasoning."""
    read, write = _cache(r)
    parts = r.input + r.output
    # Where the upstream gave no total, the proxy filled in one that counts reasoning again.
    known = r.total in (0, parts) or (filled_in and r.total == parts + r.reasoning)
    one_side_missing = r.total > parts and not (r.input and r.output)
    if read + write > r.input or r.reasoning > r.output or not (known or one_side_missing):
        return _unclassified(r)
    rest = 0 if known else r.total - parts
    return Normalised(r.input - read - write, read, write, r.output, rest)


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


def _unknown(r: Reported) -> Normalised:
    """Only where every family would say the same: no cache, no reasoning, and a total that adds up."""
    read, write = _cache(r)
    if read or write or r.reasoning or r.total not in (0, r.input + r.output):
        return _unclassified(r)
    return Normalised(r.input, 0, 0, r.output, 0)


def _cache(r: Reported) -> tuple[int, int]:
    """Return (read, write); before v7.2.67 the count of reads stayed 0 and `cached` alone held them."""
    return r.cache_read or r.cached, r.cache_write or 0


def _unclassified(r: Reported) -> Normalised:
    read, write = _cache(r)
    least = max(r.input, read + write) + max(r.output, r.reasoning)
    return Normalised(0, 0, 0, 0, r.total or least)
