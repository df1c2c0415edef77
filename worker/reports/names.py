"""Names that a filter asks for and nobody has: which there are instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import LiteralString, NamedTuple

from sqlalchemy.engine import Engine

from worker.config import Config
from worker.db import database
from worker.errors import DatabaseError, UsageError
from worker.secret import MASK_MIN_LENGTH, mask

NEAREST_MAX = 5
LIKE = 0.6
"""From which likeness on difflib takes two names for near."""


class Filter(NamedTuple):
    """What a filter goes by, and where the names that it can have stand."""

    what: str
    known: LiteralString
    former: LiteralString = ""
    """Names that were others' before, and theirs now."""
    more: LiteralString = ""
    """The same, of which only the owner of the tables may know."""


FILTERS: Mapping[str, Filter] = {
    "upstream": Filter("proxy", "SELECT upstream FROM usage_api.v1_freshness"),
    "channel": Filter(
        "channel",
        "SELECT channel FROM usage_api.v1_channels UNION SELECT channel FROM usage_api.v1_daily_channels",
        "SELECT configured_name, channel FROM usage_api.v1_channels",
        "SELECT n.name, coalesce(c.label, c.name)"
        " FROM usage.channel_name AS n JOIN usage.channel AS c USING (channel_id)",
    ),
    "client_key": Filter(
        "client key",
        "SELECT client_key FROM usage_api.v1_client_keys UNION SELECT client_key FROM usage_api.v1_daily_keys",
        "SELECT mask, client_key FROM usage_api.v1_client_keys",
    ),
    "model": Filter("model", "SELECT DISTINCT model FROM usage_api.v1_daily_channels"),
}


def require(engine: Engine, config: Config, **asked: str | None) -> None:
    """Make sure that there is what filters ask for.

    Args:
        engine: the database.
        config: what is configured: a proxy may have no usage yet.
        asked: names by filter, which are those of FILTERS; None where it was not given.

    Raises:
        UsageError: nobody has one of these names; it tells who had it before, and which names are like it.
    """
    for option, name in asked.items():
        if name is not None:
            known = _known(engine, option)
            if option == "upstream":
                known |= {u.name for u in config.upstream}
            if name not in known:
                raise UsageError(_nobody(engine, option, name, known))


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the names that are like `name`, the likest first; upper and lower case are alike."""
    folded = {one.casefold(): one for one in sorted(known, reverse=True)}
    wanted = name.casefold()
    within = sorted((one for one in folded if wanted and wanted in one), key=len)
    like = get_close_matches(wanted, folded, NEAREST_MAX, LIKE)
    return [folded[one] for one in dict.fromkeys((*like, *within))][:NEAREST_MAX]


def hint(name: str, known: Iterable[str]) -> str:
    """Return what to say of the names that are like `name`; nothing where none is."""
    found = nearest(name, known)
    return f"; nearest: {', '.join(map(repr, found))}" if found else ""


def _nobody(engine: Engine, option: str, name: str, known: set[str]) -> str:
    what = FILTERS[option].what
    # it may be the key itself
    said = mask(name) if option == "client_key" and len(name) >= MASK_MIN_LENGTH and "#" not in name else name
    now = sorted(_former(engine, option, name) & known)
    if now:
        return f"no {what} is named {said!r} any more: it is {' or '.join(map(repr, now))} now"
    return f"no {what} is named {said!r}{hint(name, known)}"


def _known(engine: Engine, option: str) -> set[str]:
    with database.transaction(engine) as connection:
        return {name for (name,) in connection.execute(FILTERS[option].known)}


def _former(engine: Engine, option: str, name: str) -> set[str]:
    """Return the names that those have now who once had this one."""
    found: set[str] = set()
    for statement in (FILTERS[option].former, FILTERS[option].more):
        with suppress(DatabaseError), database.transaction(engine) as connection:  # readers may not know
            found |= {now for before, now in connection.execute(statement) if before == name} if statement else set()
    return found - {name}
