"""A model's name, as the proxy reports it → the names under which its price is looked for (pure).

Names say more than the model: where it is served, how hard it shall think, from which day it is. What leaves the price
as it is, is taken off; what changes it (`-fast`, `:online`, `-highspeed`) stays, and then such a name has a price only
where a list has it. What may leave the price as it is, is taken off last, and the name that is left is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

NOT_A_MODEL = ("", "unknown")

NAMES_MAX = 48
"""A name that a client made up to have more names than this has no more of them."""

CATALOGUE = {
    ("antigravity", "gemini-pro-agent"): "gemini-3.1-pro",
    ("antigravity", "gemini-3-flash-agent"): "gemini-3.5-flash",
    ("xai", "grok-composer-2.5-fast"): "composer-2.5-fast",
}
"""What the proxy's catalogue calls otherwise than whoever makes it: each is the model that it displays it as."""

SAME_PRICE = (
    re.compile(r"\([^()]*\)$"),  # the proxy's own suffix of thinking: (high), (8192)
    re.compile(r"\[1m\]$"),  # Claude with a context of a million; what is long is told by the tokens
    re.compile(r":thinking$|-thinking(?:-\d+)?$"),
    re.compile(r"(?<=[\w.]):\d+(?::\d+k)?$"),  # Bedrock: -v1:0, -v1:0:200k
    re.compile(r"(?<=\d)-v\d+$"),
)
EFFORTS = re.compile(r"-(?:none|minimal|extra-low|low|medium|high|xhigh)$")
WITH_EFFORTS = re.compile(r"(?:.*[/.])?(?:gpt-(?!image)|codex|o\d|gemini-|claude-|grok-)")
"""Models that come in efforts. Of others, `-medium` and the like tell sizes: `mistral-medium` is no `mistral`."""

# 2025-09-29, 20250929, 09-2025, 06-05, 0905 (a month and a day), 2507 (a year and a month), 002, latest.
DATED = re.compile(
    r"[-@](?:20\d\d-?(?:0[1-9]|1[0-2])-?[0-3]\d|(?:0[1-9]|1[0-2])-(?:20\d\d|[0-3]\d)|(?:0[1-9]|1[0-2])[0-3]\d"
    r"|2[3-9](?:0[1-9]|1[0-2])|00\d|latest|default)$"
)

ROUTED = re.compile(r":(?:nitro|floor|exacto|beta)$")
"""OpenRouter's ways to choose who serves a model: the price is that of whom it chose."""

REGION = re.compile(r"^(?:us-gov|us|eu|apac|au|jp|in|ca|global|regional)\.(?=[a-z]+\.)")
MAKER = re.compile(r"^[a-z]+\.(?=[a-z])")
"""Bedrock's prefixes: a region, which has a price of its own, and the model's maker."""

PREVIEW = "-preview"

WINDOW = re.compile(r"-\d+k$")
"""A model with a context of its own length: `kimi-k3-256k`."""


class Names(NamedTuple):
    """Names of a model in lower case, the nearest first: those it goes by, then those that may cost otherwise."""

    sure: tuple[str, ...]
    guessed: tuple[str, ...]


def names(provider: str, model: str, alias: str) -> Names:
    """Return the names under which a model's price is looked for.

    As it is; without the proxy's prefix (`team-a/`); without what leaves the price alone; each of these without its
    date. Guessed are those without what may change the price: the route, the region, the length of
    the context, and whether it is a preview.
    The name that the client asked for stands in where the model that ran is not known.
    """
    name = (model if model.lower() not in NOT_A_MODEL else alias).lower().strip()
    if name in NOT_A_MODEL:
        return Names((), ())
    bare = _grown([name, *_without_prefix(name)], _plainer)
    known_as = [CATALOGUE[provider.lower(), one] for one in bare if (provider.lower(), one) in CATALOGUE]
    sure = _grown([*known_as, *_grown(bare, lambda one: (*_plainer(one), DATED.sub("", one)))], lambda _: ())
    guessed = _grown([other for one in sure for other in _others(one)], _further)
    return Names(tuple(sure), tuple(one for one in guessed if one not in sure))


def is_free(model: str, alias: str) -> bool:
    """Say whether a name is of a model that its router serves for nothing."""
    return (model if model.lower() not in NOT_A_MODEL else alias).lower().strip().endswith(":free")


def _without_prefix(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.partition("/")[2]
        yield name


def _plainer(name: str) -> Sequence[str]:
    shorter = [pattern.sub("", name) for pattern in SAME_PRICE]
    return [*shorter, EFFORTS.sub("", name)] if WITH_EFFORTS.match(name) else shorter


def _further(name: str) -> Sequence[str]:
    return (*_plainer(name), DATED.sub("", name), *_others(name))


def _others(name: str) -> Iterator[str]:
    yield ROUTED.sub("", name)
    yield WINDOW.sub("", name)
    yield REGION.sub("", name)
    yield MAKER.sub("", REGION.sub("", name))
    if name.endswith(PREVIEW):
        yield name.removesuffix(PREVIEW)
    elif name.startswith("gemini-"):
        yield name + PREVIEW


def _grown(names: Iterable[str], step: Callable[[str], Iterable[str]]) -> list[str]:
    """Return these names and all that `step` makes of them and of what it made, each once and in that order."""
    found = list(dict.fromkeys(one for one in names if one))[:NAMES_MAX]
    seen = set(found)
    for one in found:
        for new in step(one):
            if new and new not in seen and len(found) < NAMES_MAX:
                seen.add(new)
                found.append(new)
    return found
