"""What records name, looked up once: channel, client key, combination of dimensions, credential.

What is new is entered in short transactions beforehand: a name without records harms nobody, and no lock on one
outlives its statement for as long as a batch takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from worker.channels.resolve import Resolution, resolve
from worker.cliproxyapi import directory
from worker.cliproxyapi.directory import UNKNOWN, Channel, Directory
from worker.cliproxyapi.payload import Labels
from worker.db import database
from worker.db.retry import run_transaction
from worker.db.session import SHORT
from worker.loading.target import Target
from worker.secret import is_account
from worker.storage import channels as stored_channels
from worker.storage import client_keys, credentials, dimensions
from worker.storage.pricer import Pricer, Tariff
from worker.storage.rows import Dimension, Origin
from worker.usage import tokens

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KNOWN_MAX = 1 << 15
"""Of so many kinds of records, those with the same labels, it is known what they name."""

NO_DIMENSION = Dimension(0, 0, "", "", "", "", "")

Span = tuple[int, int]
"""The first and the last of some times, in nanoseconds since 1970 UTC."""


@dataclass(slots=True)
class Known:
    """What all records with the same labels have in common."""

    origin: Origin
    resolution: Resolution
    convention: tokens.TokenConvention | None
    """The arithmetic of their credential, where it goes before their own."""
    head: str
    tail: str
    """What their identity is made of, before and after their time."""
    dimension_id: int = 0
    origin_id: int = 0
    dimension: Dimension = NO_DIMENSION
    tariffs: dict[str, Tariff] = field(default_factory=dict[str, Tariff])
    """What they are charged by, for each service tier."""


class Names:
    """The names of one upstream's records, and their numbers in the database."""

    def __init__(self, target: Target, pricer: Pricer, *, match_account: bool) -> None:
        """Read the last good directory; `match_account` is channels.match_account of the configuration."""
        self._target, self._pricer, self._match_account = target, pricer, match_account
        self._resolutions: dict[tuple[Origin, str, bool], Resolution] = {}
        self._origins: dict[Origin, int] = {}
        self._dimensions: dict[Dimension, int] = {}
        self._known: dict[Labels, Known] = {}
        self.use(self._listed())

    def _listed(self) -> Directory:
        with database.transaction(self._target.engine, SHORT) as connection:
            return directory.build(*credentials.load_credentials(connection, self._target.upstream_id))

    def use(self, new: Directory) -> None:
        """Resolve by another directory from now on."""
        self.directory = new
        keyring = self._target.keyring
        # Accounts that are neither address nor file, such as projects, by what records keep of them.
        self._accounts = {keyring.digest(account): account for account in new.by_account}
        self._resolutions.clear()
        self._known.clear()

    def relearn(self) -> bool:
        """Resolve by what the database lists now; return whether that is something else than before."""
        listed = self._listed()
        changed = listed != self.directory
        if changed:
            self.use(listed)
        return changed

    def resolve(self, origin: Origin, provider: str, *, fresh: bool = True) -> Resolution:
        """Return the channel for what records say of their credential; looked up once per distinct value.

        `fresh` says that the records are of this run of the proxy, whose integer indexes the directory has.
        """
        key = (origin, provider, fresh)
        known = self._resolutions.get(key)
        if known is None:
            label = origin.source_label
            known = self._resolutions[key] = resolve(
                self.directory,
                auth_index=origin.auth_index,
                source_digest=origin.source_digest,
                account=label if is_account(label) else self._accounts.get(origin.source_digest, ""),
                provider=provider,
                auth_type=origin.auth_type,
                fresh=fresh,
                match_account=self._match_account,
            )
        return known

    def look_up(self, labels: Labels) -> Known:
        """Return what is known of the records with these labels; their dimension is entered by `enter`."""
        known = self._known.get(labels)
        if known is None:
            target, source = self._target, labels.source
            shown = source if is_account(source) or not source else target.keyring.label(source)
            origin = Origin(labels.auth_index, target.keyring.digest(source), shown, labels.auth_type)
            resolution = self.resolve(origin, labels.provider)
            head, tail = labels.identity(target.upstream, target.keyring)
            convention = of_credential(labels.provider, labels.model, resolution)
            known = self._known[labels] = Known(origin, resolution, convention, head, tail)
        return known

    def unknown_origins(self, labels: Iterable[Labels]) -> set[Origin]:
        """Return what records say of their credentials that no channel is known of."""
        known = map(self.look_up, labels)
        return {one.origin for one in known if one.resolution.channel == UNKNOWN}

    def enter(self, spans: Mapping[Labels, Span]) -> None:
        """Enter what is new of the names of a batch, and learn their prices.

        Args:
            spans: its labels, with the first and the last time of records that have them.
        """
        if len(self._known) > KNOWN_MAX:
            self._known.clear()
        channels: dict[Channel, Span] = {}
        keys: dict[str, Span] = {}
        for labels, span in spans.items():
            channel, key = self.look_up(labels).resolution.channel, labels.client_key
            channels[channel] = _joined(channels.get(channel, span), span)
            keys[key] = _joined(keys.get(key, span), span)
        channel_ids, key_ids = self._enter_channels_and_keys(channels, keys)
        changed: dict[Labels, Dimension] = {}
        for labels in spans:
            known, digest = self._known[labels], self._target.keyring.digest(labels.client_key)
            channel = known.resolution.channel
            dimension = Dimension(
                channel_ids[channel.kind, channel.identity], key_ids[digest],
                labels.provider, labels.endpoint, labels.model, labels.alias, labels.outcome,
            )  # fmt: skip
            if dimension != known.dimension:
                changed[labels] = dimension
        if changed:
            self._number(changed)

    def _enter_channels_and_keys(
        self, channels: Mapping[Channel, Span], keys: Mapping[str, Span]
    ) -> tuple[dict[tuple[str, str], int], dict[bytes, int]]:
        keyring, upstream_id = self._target.keyring, self._target.upstream_id
        used = {channel: _instants(span) for channel, span in channels.items()}
        seen = {
            keyring.digest(key): client_keys.Seen(keyring.label(key), *_instants(span)) for key, span in keys.items()
        }

        def enter(connection: database.Connection) -> tuple[dict[tuple[str, str], int], dict[bytes, int]]:
            return (
                stored_channels.channel_ids(connection, upstream_id, used),
                client_keys.client_key_ids(connection, upstream_id, seen),
            )

        return run_transaction(self._target.engine, enter)

    def _number(self, changed: Mapping[Labels, Dimension]) -> None:
        """Give dimensions and origins their numbers, entering those that have none, and learn their prices."""
        new_dimensions = set(changed.values()) - self._dimensions.keys()
        new_origins: dict[Origin, str] = {}
        for labels in changed:
            origin, candidates = self._known[labels].origin, self._known[labels].resolution.candidates
            if origin not in self._origins or candidates:  # a sibling's provider may have decided for it
                new_origins[origin] = " | ".join(candidates) or new_origins.get(origin, "")

        def enter(connection: database.Connection) -> tuple[dict[Dimension, int], dict[Origin, int]]:
            found = dimensions.dimension_ids(connection, new_dimensions)
            self._pricer.learn(connection, new_dimensions)
            return found, dimensions.origin_ids(connection, self._target.upstream_id, new_origins)

        if new_dimensions or new_origins:
            numbered, origins = run_transaction(self._target.engine, enter)
            self._dimensions |= numbered
            self._origins |= origins
        for labels, dimension in changed.items():
            known = self._known[labels]
            known.dimension_id, known.origin_id = self._dimensions[dimension], self._origins[known.origin]
            known.dimension, known.tariffs = dimension, {}


def of_credential(provider: str, model: str, resolution: Resolution) -> tokens.TokenConvention | None:
    """Return the arithmetic of a record's credential where its provider id tells none; None where the record's holds.

    A snapshot names no provider. Before v7.2.21 an OpenAI-compatible one went by its configured name alone, which may
    be that of another family.
    """
    ids = resolution.providers.split("\n")
    named = ids[0] == directory.COMPATIBILITY and provider.lower() in ids
    if ids == [""] or (provider and not named):
        return None
    return tokens.convention(resolution.providers, "", model)


def instant(ns: int) -> datetime:
    """Return nanoseconds since 1970 UTC as an instant, to the microsecond."""
    return EPOCH + timedelta(microseconds=ns // 1000)


def _instants(span: Span) -> tuple[datetime, datetime]:
    return instant(span[0]), instant(span[1])


def _joined(one: Span, other: Span) -> Span:
    return min(one[0], other[0]), max(one[1], other[1])
