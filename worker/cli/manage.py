"""`worker channels` and `worker keys`: what an operator says of channels and client keys."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from worker.cli import state
from worker.cli.options import Json, Since, UpstreamName, day
from worker.errors import UsageError

if TYPE_CHECKING:
    from worker.db.database import Connection
    from worker.storage.channels import ListedChannel

T = TypeVar("T")
RATE_MAX = 1_000_000
RATE_DECIMALS = 12

channels_app = typer.Typer(help="Channels: the names that usage goes by.", no_args_is_help=True, rich_markup_mode=None)
keys_app = typer.Typer(help="Client keys: who used the proxy.", no_args_is_help=True, rich_markup_mode=None)

Which = Annotated[str, typer.Argument(metavar="CHANNEL", help="Number, name or label.")]
WhichKey = Annotated[str, typer.Argument(metavar="KEY", help="Number, mask or label.")]


@channels_app.command("list")
def channels_list(upstream: UpstreamName = None, as_json: Json = False) -> None:
    """List every channel ever seen."""
    from worker.db import database
    from worker.storage import channels

    with database.open_engine(state.configured()) as engine, database.transaction(engine) as connection:
        found = channels.listed(connection, upstream=upstream)
    rows = [{**c._asdict(), "rate": format(c.rate_multiplier.normalize(), "f")} for c in found]
    shown = ("channel_id", "upstream", "channel", "kind", "configured", "linked_to", "rate", "last_seen_at")
    _print("Channels", rows if not as_json else [c._asdict() for c in found], shown, as_json=as_json)


@channels_app.command("show")
def channels_show(which: Which, upstream: UpstreamName = None, as_json: Json = False) -> None:
    """Print a channel with all its names and all the credentials the proxy ever listed for it."""
    from worker.cli import show
    from worker.db import database
    from worker.storage import channels
    from worker.storage.credentials import credentials_of

    with database.open_engine(state.configured()) as engine, database.transaction(engine) as connection:
        channel = _channel(connection, which, upstream)
        linked = [c.channel for c in channels.listed(connection) if c.channel_id == channel.linked_to]
        names = channels.history(connection, channel.channel_id)
        credentials = credentials_of(connection, channel.channel_id)
    if as_json:
        show.json_document({**channel._asdict(), "names": names, "credentials": credentials})
        return
    rate = format(channel.rate_multiplier.normalize(), "f")
    show.facts("Channel", {**channel._asdict(), "linked_to": next(iter(linked), None), "rate_multiplier": rate})
    show.table("Names", list(names[0]), names) if names else show.say("no name was ever noted")
    if credentials:
        show.table("Credentials", [name for name in credentials[0] if name != "key_digest"], credentials)
    else:
        show.say("the proxy has never listed a credential of it")


@channels_app.command("rename")
def channels_rename(
    which: Which,
    label: Annotated[str, typer.Argument(help="The new label; empty takes it away.")],
    upstream: UpstreamName = None,
) -> None:
    """Give a channel a label; its past goes by it too."""
    from worker.cli import show
    from worker.clock import now
    from worker.db import database, migrations
    from worker.storage import channels

    with migrations.open_engine_to_change(state.configured()) as engine, database.transaction(engine) as connection:
        channel = _channel(connection, which, upstream)
        channels.label(connection, channel.channel_id, _label(label) or None, now())
    show.say(f"channel {channel.channel_id}: {channel.channel} -> {_label(label) or channel.configured_name}")


@channels_app.command("link")
def channels_link(
    which: Which,
    to: Annotated[str, typer.Argument(metavar="TO", help="The channel to book it on: number, name or label.")],
    upstream: UpstreamName = None,
) -> None:
    """Book a channel on another one, its past included: a moved file, a rotated key."""
    from worker.cli import show
    from worker.corrections import link
    from worker.db import database, migrations

    with migrations.open_engine_to_change(state.configured()) as engine:
        with database.transaction(engine) as connection:
            channel = _channel(connection, which, upstream)
            target = _channel(connection, to, channel.upstream)
        moved = link.link(engine, channel.upstream, channel.channel_id, target.channel_id)
    show.say(f"{channel.channel} is booked on {target.channel} from now on; {moved} records moved")


@channels_app.command("set-rate")
def channels_set_rate(
    which: Which,
    rate: Annotated[str, typer.Argument(help="What a request really costs, as a multiple of its cost; 0 is free.")],
    since: Since = None,
    upstream: UpstreamName = None,
) -> None:
    """Set a channel's rate multiplier for requests that begin from now on, or from a day on."""
    from zoneinfo import ZoneInfo

    from worker.cli import show
    from worker.clock import now
    from worker.db import database, migrations, settings
    from worker.rollups.calendar import day_bounds
    from worker.storage import channels

    multiplier, first = _decimal(rate), day("--since", since)
    with migrations.open_engine_to_change(state.configured()) as engine, database.transaction(engine) as connection:
        channel = _channel(connection, which, upstream)
        zone = ZoneInfo(settings.setting(connection, "timezone") or "UTC")
        begins = day_bounds(first, zone)[0] if first else now()
        channels.set_rate(connection, channel.channel_id, multiplier, begins, now())
    show.say(f"{channel.channel}: rate multiplier {multiplier} from {begins:%Y-%m-%d %H:%M}Z on")
    if first:
        show.say("requests that are here already keep their actual cost until `worker reprice`")


@keys_app.command("list")
def keys_list(upstream: UpstreamName = None, as_json: Json = False) -> None:
    """List every client key ever seen, as label or mask."""
    from worker.db import database
    from worker.storage import client_keys

    with database.open_engine(state.configured()) as engine, database.transaction(engine) as connection:
        found = client_keys.client_keys(connection, upstream=upstream)
    _print("Client keys", [k._asdict() for k in found], client_keys.ListedKey._fields, as_json=as_json)


@keys_app.command("rename")
def keys_rename(
    which: WhichKey,
    label: Annotated[str, typer.Argument(help="A person, a team; empty takes the label away.")],
    upstream: UpstreamName = None,
) -> None:
    """Give a client key a label; its past goes by it too."""
    from worker.cli import show
    from worker.cliproxyapi.payload import text
    from worker.db import database, migrations
    from worker.secret import MASK_MIN_LENGTH, mask
    from worker.storage import client_keys

    with migrations.open_engine_to_change(state.configured()) as engine, database.transaction(engine) as connection:
        name = text(which)
        found = client_keys.client_keys(connection, upstream=upstream, which=name)
        found = [k for k in found if str(k.client_key_id) == name] or found
        said = name if len(name) < MASK_MIN_LENGTH or "#" in name else mask(name)  # it may be the key itself
        key = _only(found, said, "client key", [f"{k.client_key_id} ({k.upstream}: {k.client_key})" for k in found])
        client_keys.label_client_key(connection, key.client_key_id, _label(label) or None)
    show.say(f"client key {key.client_key_id}: {key.client_key} -> {_label(label) or key.mask}")


def _channel(connection: Connection, which: str, upstream: str | None) -> ListedChannel:
    from worker.cliproxyapi.payload import clean
    from worker.storage import channels

    name = clean(which).strip()
    found = channels.listed(connection, upstream=upstream, which=name)
    found = [c for c in found if str(c.channel_id) == name] or found
    return _only(found, name, "channel", [f"{c.channel_id} ({c.upstream}: {c.channel})" for c in found])


def _only(found: list[T], which: str, what: str, described: list[str]) -> T:
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"no {what} is {which!r}; `worker {what.rpartition(' ')[2]}s list` shows them all")
    raise UsageError(f"several {what}s are {which!r}, name one by its number: {', '.join(described)}")


def _label(given: str) -> str:
    """Return a label as one short line that no terminal obeys."""
    from worker.cliproxyapi.payload import clean, text

    return text("".join(c if c.isprintable() else " " for c in clean(given)))


def _decimal(given: str) -> Decimal:
    try:
        value = Decimal(given)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or not 0 <= value <= RATE_MAX or int(value.as_tuple().exponent) < -RATE_DECIMALS:
        raise UsageError(f"{given!r} is not a rate: a number from 0 to {RATE_MAX}, such as 0.5")
    return value


def _print(title: str, rows: list[dict[str, Any]], shown: Sequence[str], *, as_json: bool) -> None:
    from worker.cli import show

    if as_json:
        show.json_document(rows)
    elif rows:
        show.table(title, shown, rows)
    else:
        show.say("none yet")
