"""History put right: late channels, renames and links, and every sum held against the ledger after each of them."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from support import KEY, QUICK, RENDERINGS, SEED, SELECT_WAITING, Books, calls, proxy, wait_until

from worker.cliproxyapi import payload as decode
from worker.cliproxyapi.client import ProxyClient
from worker.config import Upstream
from worker.corrections import resolve_again, walk
from worker.corrections.link import link as link_channels
from worker.db import database
from worker.errors import UsageError
from worker.loading.load import Arrival
from worker.loading.pass_result import PassResult
from worker.rollups import apply as rollups
from worker.simulator import traffic
from worker.simulator.traffic import CREDENTIALS, Traffic
from worker.storage import channels as stored_channels
from worker.storage import records as stored_records
from worker.sync import run as sync
from worker.sync.credentials import refresh
from worker.usage import measures

MAPPINGS = (
    "auth-files", "openai-compatibility", "gemini-api-key", "claude-api-key", "codex-api-key", "vertex-api-key",
    "interactions-api-key", "xai-api-key",
)  # fmt: skip
BOOKED = "SELECT channel, sum(requests)::int FROM usage_api.v1_daily GROUP BY 1"
DAYS = """
SELECT day, sum(requests), sum(total_tokens), sum(billed_output_tokens), sum(latency_ms_sum)
FROM usage_api.v1_daily GROUP BY day ORDER BY day
"""
NAMES = """
SELECT n.name, n.given_by FROM usage.channel_name AS n JOIN usage.channel AS c USING (channel_id)
WHERE c.name = %s ORDER BY n.since
"""


def broken(simulator):
    """From now on, no mapping endpoint answers."""
    for mapping in MAPPINGS:
        simulator.override(mapping, b'{"error":"read config: permission denied"}', 500)


def upstream_of(simulator, **more):
    return Upstream(**{"url": simulator.url, "key": SecretStr(KEY), "queue_count": 500, **more})


def resolve(books, simulator, *, everything=False, dry_run=False):
    one = upstream_of(simulator)
    return sync.resolve_once(books.config(one), books.engine, one, everything=everything, dry_run=dry_run)


def booked(books):
    """How many requests each channel has."""
    return dict(books.ask(BOOKED))


def channels(books, name=None):
    with database.transaction(books.engine) as connection:
        return stored_channels.listed(connection, which=name)


def channel(books, name):
    (found,) = channels(books, name)
    return found


def link(books, name, to):
    return link_channels(books.engine, "default", channel(books, name).channel_id, channel(books, to).channel_id)


def asked(simulator, mapping="auth-files"):
    return sum(path.endswith(f"/{mapping}") for _, path, _ in simulator.requests)


def changed(change, credentials=CREDENTIALS):
    """The world in which `change` has gone over every credential that the proxy lists; None takes one away."""
    return Traffic(SEED, credentials=[c for each in credentials if (c := change(each) if each.mapped else each)])


def rename(was, now):
    return lambda c: replace(c, name=now) if c.name == was else c


def on(usages, was, now, group=None):
    """The ledger with the calls of one channel booked on another."""
    return [
        replace(call, channel=now, channel_group=group or call.channel_group) if call.channel == was else call
        for call in usages
    ]


def mapped(usages):
    """The ledger of a world that lists every credential."""
    everyone = {
        c.auth_index: traffic.channel_of(replace(c, mapped=True)) for c in CREDENTIALS if c.auth_index and not c.mapped
    }
    return [
        replace(call, channel=name, channel_group=group, channel_kind=kind, known_since=0)
        if (found := everyone.get(call.auth_index))
        and (name := found[0])
        and (group := found[1])
        and (kind := found[2])
        else call
        for call in usages
    ]


def everyone_listed():
    return Traffic(SEED, credentials=[replace(c, mapped=bool(c.auth_index) or c.mapped) for c in CREDENTIALS])


def known(usages, rendering="7.2.140"):
    """How many of these calls lead to a channel in that rendering."""
    return sum(
        traffic.totals_key(call, datetime.fromtimestamp(call.timestamp_ns // 10**9, UTC).date(), rendering).channel
        != "unknown"
        for call in usages
    )


def file_channel(c):
    return traffic.channel_of(c).name


# -- channels found late ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["queue", "queue-6.10.8", "snapshot", "both"])
def test_records_of_a_pass_without_a_directory_find_their_channels_in_the_next_one(books, generation):
    rendering = RENDERINGS[generation]
    with proxy(generation, calls(1500)) as simulator:
        broken(simulator)
        result = books.sync(simulator)
        assert (result.exit_code, result.inserted, result.unknown_channel, result.resolved) == (0, 1500, 1500, 0)
        assert set(booked(books)) == {"unknown"}
        books.balance()
        simulator.clear_overrides()
        result = books.sync(simulator)
        assert (result.exit_code, result.inserted) == (0, 0)
        assert result.resolved == known(calls(1500), rendering)
        books.require_exactly(calls(1500), rendering)
        assert books.differences() == []
        before = books.dump()
        assert books.sync(simulator).resolved == 0
        assert books.dump() == before


@pytest.mark.parametrize("generation", ["snapshot", "queue-6.10.8"])
def test_what_is_resolved_late_has_the_sums_of_what_is_resolved_at_once(database_url, books, generation):
    """Token arithmetic of a snapshot is the credential's: it can only be known when that is."""
    shown = [name for name in measures.MEASURES if name != "priced_requests"]
    sums = f"SELECT day, {', '.join(shown)} FROM usage_api.v1_daily"
    records = (
        "SELECT occurred_at, channel, channel_kind, channel_rule, auth_index, source, provider, model, outcome, "
        "input_tokens, uncached_input_tokens, cache_read_tokens, cache_write_tokens, billed_output_tokens, "
        "unclassified_tokens FROM usage_api.v1_records WHERE upstream = %s"
    )
    with proxy(generation, calls(1200)) as simulator:
        books.sync(simulator, name="at-once")
        if generation != "snapshot":
            simulator.push(calls(1200))
        broken(simulator)
        books.sync(simulator, name="late")
        simulator.clear_overrides()
        assert books.sync(simulator, name="late").resolved > 0
    at_once, late = (sorted(books.ask(records, [name]), key=repr) for name in ("at-once", "late"))
    assert len(at_once) == 1200
    assert late == at_once
    by_upstream = [sorted(books.ask(f"{sums} WHERE upstream = %s", [name]), key=repr) for name in ("at-once", "late")]
    assert by_upstream[0] == by_upstream[1]
    books.balance()


def test_a_snapshot_of_integer_indexes_gives_no_record_to_another_run_of_the_proxy(books):
    """Such an index is dealt out anew by each run: late, only a key or an account may say whose a record is."""
    with proxy("snapshot-int", calls(1500)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        books.sync(simulator)
        right = {key[:-1] for key in books.expected(calls(1500), "snapshot-int")}
        assert {key[:-1] for key in books.daily() if key[1] != "unknown"} <= right
        books.balance()
        stays = booked(books)["unknown"] - (1500 - known(calls(1500), "snapshot-int"))
        nameless = sum(
            c.source in ("", c.client_key) or (c.auth_type == "oauth" and "@" not in c.source) for c in calls(1500)
        )
        assert 0 <= stays <= nameless


def test_a_dry_run_says_the_same_moves_and_changes_nothing(books):
    with proxy("queue", calls(600)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        before = books.dump()[:4]
        said = resolve(books, simulator, dry_run=True)
        assert books.dump()[:4] == before
        done = resolve(books, simulator)
        assert (done.looked_at, done.moves) == (said.looked_at, said.moves) == (600, said.moves)
        assert sum(done.moves.values()) == known(calls(600))
        assert {move.from_channel for move in done.moves} == {"unknown"}
        by_channel = Counter()
        for move, records in done.moves.items():
            by_channel[move.to_channel] += records
        assert by_channel == Counter(call.channel for call in calls(600) if call.channel != "unknown")
        books.require_exactly(calls(600))
        assert resolve(books, simulator) == resolve_again.Resolved("default", 600 - known(calls(600)), {})
        assert asked(simulator, "usage-queue") <= 3  # those of the pass: looking again pops nothing


@pytest.mark.parametrize("what", ["found late", "renamed"])
def test_a_dry_run_writes_nothing_at_all(books, what):
    kept = ("channel", "channel_name", "credential", "origin", "dimension")
    with proxy("queue", calls(200)) as simulator:
        if what == "found late":
            broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        simulator.traffic = changed(rename("OpenRouter", "OpenRouter EU"))
        before = [books.dump(), *(sorted(books.ask(f"SELECT t::text FROM usage.{t} AS t")) for t in kept)]
        resolve(books, simulator, dry_run=True)
        assert [books.dump(), *(sorted(books.ask(f"SELECT t::text FROM usage.{t} AS t")) for t in kept)] == before


def test_a_dry_run_does_not_keep_the_next_pass_from_resolving(books):
    with proxy("queue", calls(200)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        resolve(books, simulator, dry_run=True)
        books.sync(simulator)
        books.require_exactly(calls(200))


@pytest.mark.parametrize("generation", RENDERINGS)
def test_looking_at_everything_moves_nothing_that_is_right(books, generation):
    with proxy(generation, calls(900)) as simulator:
        books.sync(simulator)
        before = books.dump()
        done = resolve(books, simulator, everything=True)
        assert (done.looked_at, dict(done.moves)) == (900, {})
        assert books.dump() == before


def test_looking_at_everything_turns_no_known_channel_into_unknown(books):
    with proxy("queue", calls(900)) as simulator:
        books.sync(simulator)
        books.ask("DELETE FROM usage.credential")  # nothing is known of any credential any more
        broken(simulator)
        done = resolve(books, simulator, everything=True)
        assert (done.looked_at, dict(done.moves)) == (900, {})
        books.require_exactly(calls(900))


def test_looking_at_everything_corrects_a_wrong_channel(books):
    with proxy("queue", calls(900)) as simulator:
        books.sync(simulator)
        wrong, right = channel(books, "OpenRouter").channel_id, channel(books, "local-vllm").channel_id
        books.ask(
            "UPDATE usage.credential SET channel_id = %s WHERE channel_id = %s RETURNING channel_id", [wrong, right]
        )
        broken(simulator)
        assert resolve(books, simulator).moves == {}
        moves = resolve(books, simulator, everything=True).moves
        moved = sum(call.channel == "local-vllm" for call in calls(900))
        assert moves == {resolve_again.Move("local-vllm", "OpenRouter", "auth_index"): moved}
        books.require_exactly(on(calls(900), "local-vllm", "OpenRouter", "OpenRouter"))


@pytest.mark.parametrize("late", [False, True])
def test_what_a_record_tells_of_its_tokens_outlives_looking_again(books, late):
    """Without a provider id, but with a breakdown: the credential's arithmetic has nothing to add to that."""
    items = [{**traffic.queue_item(call), "provider": ""} for call in calls(600)]
    with proxy("queue") as simulator:
        simulator.push_raw(items)
        if late:
            broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        resolve(books, simulator, everything=not late)
        found = books.ask(
            "SELECT sum(uncached_input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), "
            "sum(billed_output_tokens), sum(unclassified_tokens) FROM usage_api.v1_daily"
        )
        assert found == [tuple(map(sum, zip(*map(traffic.normalised, calls(600)), strict=True)))]
        books.balance()


def test_a_credential_listed_late_gets_its_past_and_only_that(books):
    with proxy("queue", calls(1000)[:700]) as simulator:
        books.sync(simulator)
        simulator.traffic = everyone_listed()
        simulator.push(calls(1000)[700:])
        result = books.sync(simulator)
        assert result.resolved == known(mapped(calls(1000)[:700])) - known(calls(1000)[:700]) > 0
        books.require_exactly(mapped(calls(1000)))


def test_one_endpoint_that_comes_back_resolves_what_it_lists(books):
    with proxy("queue", calls(800)) as simulator:
        simulator.override("codex-api-key", b"oops", 500)
        books.sync(simulator)
        simulator.clear_overrides()
        late = {file_channel(c) for c in CREDENTIALS if c.mapping == "codex-api-key"}
        assert books.sync(simulator).resolved == sum(call.channel in late for call in calls(800))
        books.require_exactly(calls(800))


def test_a_pass_whose_queue_fails_resolves_all_the_same(books):
    with proxy("queue", calls(300)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        simulator.override("usage-queue", b"oops", 500)
        result = books.sync(simulator)
        assert (result.exit_code, result.resolved) == (4, known(calls(300)))
        books.require_exactly(calls(300))


def test_with_the_proxy_away_the_directory_that_was_kept_is_resolved_by(books):
    with proxy("queue", calls(500)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        with ProxyClient(upstream_of(simulator)) as source:
            refresh(books.loader(), source)  # and then it was killed
        simulator.stop()
        assert sum(resolve(books, simulator).moves.values()) == known(calls(500))
        books.require_exactly(calls(500))


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_what_moves_late_stays_in_its_day_of_the_configured_zone(database_url, tmp_path, zone):
    with Books(database_url, tmp_path, zone) as books, proxy("queue", calls(600)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        books.sync(simulator)
        books.require_exactly(calls(600))


# -- interrupted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["a pass", "resolve"])
def test_a_pass_that_dies_between_two_batches_leaves_true_sums_and_the_next_run_does_the_rest(
    books, monkeypatch, again
):
    monkeypatch.setattr(walk, "BATCH_RECORDS", 100)
    move, moved = stored_records.move, []

    def dying(connection, rows):
        if len(moved) == 2:
            raise RuntimeError("foreseen by nobody")
        moved.append(rows)
        move(connection, rows)

    with proxy("queue", calls(600)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        with monkeypatch.context() as patched:
            patched.setattr(stored_records, "move", dying)
            result = books.sync(simulator)
        assert (result.exit_code, "RuntimeError: foreseen by nobody" in result.error) == (1, True)
        assert sum(n for name, n in booked(books).items() if name != "unknown") == sum(map(len, moved)) > 0
        books.balance()
        if again == "a pass":
            books.sync(simulator)
        else:
            resolve(books, simulator)
        books.require_exactly(calls(600))


def test_a_batch_that_fails_after_its_records_moved_takes_them_back(books, monkeypatch):
    with proxy("queue", calls(300)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        before = books.dump()[:4]

        def failing(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(rollups, "apply", failing)
            with pytest.raises(KeyboardInterrupt):
                resolve(books, simulator)
        assert books.dump()[:4] == before
        resolve(books, simulator)
        books.require_exactly(calls(300))


def test_a_command_killed_while_it_resolves_leaves_true_sums_and_the_next_does_the_rest(books):
    with proxy("queue", calls(500)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        with (
            books.holding("LOCK TABLE usage.daily IN EXCLUSIVE MODE"),
            books.starting(simulator, "resolve") as running,
        ):
            books.wait_until_it_waits()
            running.kill()
        books.wait_until_it_left()
        assert set(booked(books)) == {"unknown"}
        books.balance()
        finished = books.worker(simulator, "resolve", "--json")
        assert sum(move["records"] for move in finished.json["moves"]) == known(calls(500))
        books.require_exactly(calls(500))


def test_a_pass_killed_while_it_resolves_is_made_up_for_by_the_next_pass(books):
    with proxy("queue", calls(500)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        with (
            books.holding("LOCK TABLE usage.daily IN EXCLUSIVE MODE"),
            books.starting(simulator, "sync", "--once") as running,
        ):
            books.wait_until_it_waits()
            running.kill()
        books.wait_until_it_left()
        books.balance()
        result = books.sync(simulator)
        assert (result.exit_code, result.resolved) == (0, known(calls(500)))
        books.require_exactly(calls(500))


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_batches_of_any_size_come_to_the_same(books, monkeypatch, batch):
    some = calls(60) if batch == 1 else calls(500)
    monkeypatch.setattr(walk, "BATCH_RECORDS", batch)
    with proxy("queue", some) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        assert books.sync(simulator).resolved == known(some)
        books.require_exactly(some)


def test_records_of_one_instant_are_all_found_across_batches(books, monkeypatch):
    monkeypatch.setattr(walk, "BATCH_RECORDS", 4)
    template = next(call for call in calls(100) if call.channel != "unknown")
    same = [replace(template, request_id=f"{n:08x}") for n in range(21)]
    with proxy("queue", same) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        assert books.sync(simulator).resolved == 21
        books.require_exactly(same)


# -- asked once more --------------------------------------------------------------------------------------------


class Appearing:
    """A simulator's push that lets a credential be listed only after the pass has asked once."""

    def __init__(self, simulator, world):
        self.simulator, self.world, self.seen = simulator, world, 0
        self.mapping = simulator._mapping
        simulator._mapping = self.answer

    def answer(self, name):
        self.seen += name == "auth-files"
        if self.seen > 1:
            self.simulator.traffic = self.world
        return self.mapping(name)


def of_unlisted(usages):
    return [call for call in usages if call.channel == "unknown" and call.auth_index]


def test_a_brand_new_credential_is_asked_for_once_more_and_found(books):
    with proxy("queue", calls(600)[:300]) as simulator:
        books.sync(simulator)
        held = booked(books)["unknown"]
        new = [replace(call, auth_index="abad1deaabad1dea") for call in of_unlisted(calls(900)[300:])]
        assert len({call.source for call in new}) > 1
        dave = next(c for c in CREDENTIALS if c.email == "dave@example.com")
        late = replace(dave, mapped=True, auth_index="abad1deaabad1dea", email="erin@example.com", file="erin.json")
        new = [replace(call, source="erin@example.com", auth_type="oauth", provider="codex") for call in new]
        Appearing(simulator, Traffic(SEED, credentials=[*CREDENTIALS, late]))
        before = asked(simulator)
        simulator.push(new)
        result = books.sync(simulator)
        assert asked(simulator) - before == 2
        assert (result.inserted, result.unknown_channel, result.resolved) == (len(new), 0, 0)
        assert booked(books)["codex/erin@example.com"] == len(new)
        assert booked(books)["unknown"] == held
        books.balance()


def test_a_credential_that_stays_unknown_is_asked_for_once_and_never_again(books):
    stranger = [replace(call, auth_index="abad1deaabad1dea") for call in of_unlisted(calls(1500))]
    with proxy("queue", stranger[:10]) as simulator:
        books.sync(simulator, queue_count=2)  # several batches name it
        assert asked(simulator) == 2
        for begin in (10, 12):
            simulator.push(stranger[begin : begin + 2])
            books.sync(simulator)
            assert asked(simulator) == 3 + (begin == 12)
        assert booked(books) == {"unknown": 14}


def test_a_snapshot_asks_once_more_too_and_its_old_strangers_cost_nothing(books):
    with proxy("snapshot", calls(400)) as simulator:
        Appearing(simulator, everyone_listed())
        result = books.sync(simulator)
        assert asked(simulator) == 2
        ledger = mapped(calls(400))
        assert result.unknown_channel == 400 - known(ledger, "snapshot")
        books.require_exactly(ledger, "snapshot")
        books.sync(simulator)
        assert asked(simulator) == 3


def test_a_proxy_that_refuses_the_second_question_loses_no_record(books):
    with proxy("queue", calls(200)) as simulator:
        books.sync(simulator)
        simulator.push(replace(call, auth_index="abad1deaabad1dea") for call in calls(260)[200:])
        mapping, seen = simulator._mapping, []

        def once(name):
            seen.append(name)
            if seen.count("auth-files") > 1:
                simulator.refuse("remote management disabled")
            return mapping(name)

        simulator._mapping = once
        result = books.sync(simulator)
        assert result.inserted == 60
        books.balance()


# -- renamed in the proxy's configuration -----------------------------------------------------------------------


def vllm_with_a_key(c):
    return replace(c, key="sk-EXAMPLE-vllm-0001") if c.name == "local-vllm" else c


RENAMED = [
    pytest.param(rename("OpenRouter", "OpenRouter EU"), "OpenRouter", "OpenRouter EU", "OpenRouter EU", id="keyed"),
    pytest.param(rename("local-vllm", "gpu-box"), "local-vllm", "gpu-box", "gpu-box", id="keyless"),
    pytest.param(
        lambda c: replace(c, label="Kimi Ops 运维") if c.provider == "kimi" else c,
        "kimi/Kimi Team 研究", "kimi/Kimi Ops 运维", "kimi", id="auth file",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "was", "now", "group"), RENAMED)
def test_a_rename_in_the_proxy_takes_the_past_along_and_keeps_the_old_name_in_its_history(
    books, change, was, now, group
):
    with proxy("queue", calls(900)[:500]) as simulator:
        books.sync(simulator)
        one = channel(books, was).channel_id
        simulator.traffic = changed(change)
        simulator.push(calls(900)[500:])
        assert books.sync(simulator).exit_code == 0
        books.require_exactly(on(calls(900), was, now, group))
        assert channels(books, was) == []
        renamed = channel(books, now)
        assert (renamed.channel_id, renamed.configured, renamed.group) == (one, True, group)
        assert books.ask(NAMES, [now]) == [(was, "proxy"), (now, "proxy")]
        assert resolve(books, simulator, everything=True).moves == {}
        # And back again.
        simulator.traffic = Traffic(SEED)
        books.sync(simulator)
        books.require_exactly(calls(900))
        assert channel(books, was).channel_id == one
        assert [name for name, _ in books.ask(NAMES, [was])] == [was, now, was]


def test_a_rename_while_the_directory_does_not_answer_is_followed_when_it_does(books):
    with proxy("queue", calls(800)[:300]) as simulator:
        books.sync(simulator)
        simulator.traffic = changed(rename("OpenRouter", "OpenRouter EU"))
        simulator.override("openai-compatibility", b"oops", 500)
        simulator.push(calls(800)[300:500])
        books.sync(simulator)
        books.require_exactly(calls(500))
        simulator.clear_overrides()
        simulator.push(calls(800)[500:])
        books.sync(simulator)
        books.require_exactly(on(calls(800), "OpenRouter", "OpenRouter EU", "OpenRouter EU"))


def test_a_name_that_another_endpoint_still_lists_is_not_taken_from_it_while_that_one_fails(books):
    shared = changed(rename("OpenRouter", "relay.example.net"))  # which is also the base URL of a claude key
    with proxy("queue", calls(900)[:500]) as simulator:
        simulator.traffic = shared
        books.sync(simulator)
        simulator.traffic = changed(rename("OpenRouter", "Router two"))
        simulator.override("claude-api-key", b"oops", 500)
        simulator.push(calls(900)[500:])
        books.sync(simulator)
        relay = on(calls(900)[:500], "OpenRouter", "relay.example.net", "relay.example.net")
        router = on(calls(900)[500:], "OpenRouter", "Router two", "Router two")
        books.require_exactly([*relay, *router])


def test_two_providers_that_change_their_names_for_each_other_keep_their_credentials_with_their_names(books):
    def swapped(c):
        return replace(c, name={"OpenRouter": "local-vllm", "local-vllm": "OpenRouter"}.get(c.name, c.name))

    with proxy("queue", calls(400)) as simulator:
        books.sync(simulator)
        simulator.traffic = changed(swapped)
        books.sync(simulator)
        books.require_exactly(calls(400))


def test_a_removed_provider_stays_a_channel_that_is_not_configured(books):
    with proxy("queue", calls(800)[:500]) as simulator:
        books.sync(simulator)
        simulator.traffic = changed(lambda c: None if c.name == "OpenRouter" else c)
        simulator.push(calls(800)[500:])
        books.sync(simulator)
        books.require_exactly(calls(800))
        assert channel(books, "OpenRouter").configured is False
        simulator.traffic = Traffic(SEED)
        books.sync(simulator)
        assert channel(books, "OpenRouter").configured is True
        books.require_exactly(calls(800))


def test_a_key_that_is_rotated_under_the_same_name_is_the_same_channel(books):
    def rotated(c):
        if c.key != "sk-or-v1-EXAMPLE-0001":
            return c
        return replace(c, key="sk-or-v1-EXAMPLE-0003", auth_index="0123456789abcde3")

    def by_new_key(call):
        if call.source != "sk-or-v1-EXAMPLE-0001":
            return call
        return replace(call, source="sk-or-v1-EXAMPLE-0003", auth_index="0123456789abcde3")

    with proxy("queue", calls(900)[:500]) as simulator:
        books.sync(simulator)
        simulator.traffic = changed(rotated)
        late = calls(900)[500:]
        simulator.push([*late[:200], *map(by_new_key, late[200:])])  # those that began before end by the old key
        books.sync(simulator)
        books.require_exactly(calls(900))
        assert books.ask(NAMES, ["OpenRouter"]) == [("OpenRouter", "proxy")]


def test_a_key_rotated_and_a_provider_renamed_at_once_are_two_channels_until_they_are_linked(books):
    def both(c):
        return (
            replace(c, name="New", key=f"{c.key}-new", auth_index=f"f{c.auth_index[1:]}")
            if c.name == "OpenRouter"
            else c
        )

    with proxy("queue", calls(500)) as simulator:
        books.sync(simulator)
        simulator.traffic = changed(both)
        books.sync(simulator)
        books.require_exactly(calls(500))
        assert channel(books, "OpenRouter").configured is False
        link(books, "OpenRouter", "New")
        books.require_exactly(on(calls(500), "OpenRouter", "New", "New"))


def test_a_label_outlives_a_rename_in_the_proxy(books):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
        with database.transaction(books.engine) as connection:
            one = channel(books, "OpenRouter").channel_id
            stored_channels.label(connection, one, "Team A", datetime.now(UTC))
        simulator.traffic = changed(rename("OpenRouter", "OpenRouter EU"))
        books.sync(simulator)
        books.require_exactly(on(calls(300), "OpenRouter", "Team A", "OpenRouter EU"))


# -- linked -----------------------------------------------------------------------------------------------------


def test_linked_channels_are_one_for_the_past_and_from_now_on(books):
    with proxy("queue", calls(1200)[:600]) as simulator:
        books.sync(simulator)
        days, group = books.ask(DAYS), channel(books, "local-vllm").group
        moved = link(books, "OpenRouter", "local-vllm")
        assert moved == sum(call.channel == "OpenRouter" for call in calls(600)) > 0
        assert books.ask(DAYS) == days
        books.require_exactly(on(calls(600), "OpenRouter", "local-vllm", group))
        simulator.push(calls(1200)[600:])
        books.sync(simulator)
        books.require_exactly(on(calls(1200), "OpenRouter", "local-vllm", group))
        done = resolve(books, simulator, everything=True)
        assert (done.looked_at, dict(done.moves)) == (1200, {})
        assert channel(books, "OpenRouter").linked_to == channel(books, "local-vllm").channel_id


def test_a_linked_channel_found_late_goes_to_where_it_is_linked(books):
    with proxy("queue", calls(500)[:1]) as simulator:
        books.sync(simulator)
        link(books, "OpenRouter", "local-vllm")
        books.ask("DELETE FROM usage.credential")
        broken(simulator)
        simulator.push(calls(500)[1:])
        books.sync(simulator)
        simulator.clear_overrides()
        books.sync(simulator)
        books.require_exactly(on(calls(500), "OpenRouter", "local-vllm", "local-vllm"))


def test_a_chain_of_links_ends_in_one_channel(books):
    with proxy("queue", calls(900)[:500]) as simulator:
        books.sync(simulator)
        link(books, "OpenRouter", "local-vllm")
        link(books, "local-vllm", "api.openai.com")
        link(books, "api.x.ai", "OpenRouter")  # to one that is itself booked elsewhere
        target = channel(books, "api.openai.com").channel_id
        assert {c.channel for c in channels(books) if c.linked_to == target} == {"OpenRouter", "local-vllm", "api.x.ai"}
        simulator.push(calls(900)[500:])
        books.sync(simulator)
        ledger = list(calls(900))
        for name in ("OpenRouter", "local-vllm", "api.x.ai"):
            ledger = on(ledger, name, "api.openai.com", "api.openai.com")
        books.require_exactly(ledger)


@pytest.mark.parametrize(("name", "to"), [("OpenRouter", "OpenRouter"), ("local-vllm", "OpenRouter")])
def test_a_channel_is_not_linked_to_itself_nor_to_one_that_is_linked_to_it(books, name, to):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
        link(books, "OpenRouter", "local-vllm")
        before = books.dump()
        if name == to:
            with pytest.raises(UsageError, match="itself"):
                link(books, "api.x.ai", "api.x.ai")
        else:
            with pytest.raises(UsageError, match="itself"):
                link(books, name, to)
        assert books.dump() == before


@pytest.mark.parametrize(("name", "to"), [("unknown", "OpenRouter"), ("OpenRouter", "unknown")])
def test_what_is_unknown_is_no_channel_to_link(books, name, to):
    """Linked, it would swallow every record to come, and none would ever be looked at again."""
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
        before = books.dump()
        with pytest.raises(UsageError):
            link(books, name, to)
        assert books.dump() == before


def test_a_channel_without_records_can_be_linked(books):
    with proxy("queue") as simulator:
        books.sync(simulator)
        assert link(books, "OpenRouter", "local-vllm") == 0
        simulator.push(calls(300))
        books.sync(simulator)
        books.require_exactly(on(calls(300), "OpenRouter", "local-vllm", "local-vllm"))


def test_what_was_made_ready_before_a_link_is_booked_by_it_all_the_same(books):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
    loader = books.loader()
    payload = json.dumps([traffic.queue_item(call) for call in calls(600)[300:]]).encode()
    decoded = decode.decode_queue(payload)
    batch = loader.prepare(decoded)
    assert link(books, "OpenRouter", "local-vllm") > 0
    result = PassResult(upstream="default")
    loader.commit(Arrival("made ready before"), batch, result)
    assert (result.pulled, result.inserted, result.duplicates) == (300, 300, 0)
    books.require_exactly(on(calls(600), "OpenRouter", "local-vllm", "local-vllm"))
    loader.commit(Arrival("made ready before"), batch, result)
    assert result.replayed == 1


def test_what_is_looked_at_again_while_a_link_is_made_is_booked_by_it_all_the_same(books, monkeypatch):
    """Each step of a repair is over before the link, or begins after it."""
    with proxy("queue", calls(600)) as simulator:
        books.sync(simulator)
    loader, linked = books.loader(), []
    store_move, linking = stored_records.move, []

    def move(connection, rows):
        if not linking:
            linking.append(threading.Thread(target=lambda: linked.append(link(books, "OpenRouter", "local-vllm"))))
            linking[0].start()
            books.wait_until_it_waits()
        store_move(connection, rows)

    monkeypatch.setattr(stored_records, "move", move)
    resolve_again.resolve_again(loader, everything=True)
    linking[0].join()
    assert linked[0] > 0
    books.require_exactly(on(calls(600), "OpenRouter", "local-vllm", "local-vllm"))


def test_links_at_any_moment_beside_a_service_and_imports_leave_nothing_behind(books, tmp_path):
    """Batches are prepared before a link and stored after it all the time here."""
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(json.dumps(traffic.queue_item(call)) for call in calls(3000)[1000:]))
    small = {**QUICK, "WORKER__UPSTREAM__0__QUEUE_COUNT": "20"}
    with proxy("queue", calls(200)) as simulator, books.starting(simulator, "run", **small) as service:
        wait_until(lambda: books.records() == 200, "it works")
        simulator.push(calls(2000)[200:])
        with books.starting(None, "import", "--upstream", "default", str(file)) as importing:
            for was, now in (("OpenRouter", "local-vllm"), ("old", "OpenRouter")):
                before = books.records()
                wait_until(lambda before=before: books.records() > before, "more of them are stored")
                linked = books.worker(None, "channels", "link", was, now)
                assert linked.code == 0, linked.stderr
            assert importing.wait().code == 0, importing.wait().stderr
        wait_until(lambda: books.records() == 3000, "all of them are stored")
        os.kill(service.pid, signal.SIGTERM)
        assert service.wait().code == 0
    books.require_exactly(on(calls(3000), "OpenRouter", "local-vllm", "local-vllm"))
    assert books.worker(None, "verify").code == 0


def test_a_link_that_fails_on_its_way_moves_nothing(books, monkeypatch):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
        before = books.dump()

        def failing(*_):
            raise KeyboardInterrupt

        for module, step in ((rollups, "apply"), (stored_channels, "link"), (stored_records, "move_dimensions")):
            with monkeypatch.context() as patched:
                patched.setattr(module, step, failing)
                with pytest.raises(KeyboardInterrupt):
                    link(books, "OpenRouter", "local-vllm")
            assert books.dump() == before
        link(books, "OpenRouter", "local-vllm")
        books.require_exactly(on(calls(300), "OpenRouter", "local-vllm", "local-vllm"))


# -- several workers --------------------------------------------------------------------------------------------


def batches(usages, size=40):
    for begin in range(0, len(usages), size):
        items = [traffic.queue_item(call) for call in usages[begin : begin + size]]
        yield decode.decode_queue(msgspec.json.encode(items))


def at_once(*works):
    """Do all of these at the same time; raise what one of them raised."""
    raised = []

    def guarded(work):
        try:
            work()
        except BaseException as e:  # noqa: BLE001  # raised again below
            raised.append(e)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        raise error


def loading(books, usages):
    def work():
        loader = books.loader()
        for decoded in batches(usages):
            loader.load(uuid4().hex, decoded, PassResult(upstream="default"))

    return work


def test_one_worker_resolves_while_another_loads(books, monkeypatch):
    monkeypatch.setattr(walk, "BATCH_RECORDS", 50)
    with proxy("queue", calls(1500)[:700]) as simulator:
        broken(simulator)
        books.sync(simulator)
        blind = books.loader()  # knows no credential: what it loads is unknown
        simulator.clear_overrides()
        with ProxyClient(upstream_of(simulator)) as source:
            seeing = books.loader()
            refresh(seeing, source)

        def load_blindly():
            for decoded in batches(calls(1500)[700:]):
                blind.load(uuid4().hex, decoded, PassResult(upstream="default"))

        at_once(
            load_blindly,
            lambda: resolve_again.resolve_again(seeing),
            lambda: resolve_again.resolve_again(books.loader()),
        )
        books.balance()
        resolve_again.resolve_again(seeing)
        books.require_exactly(calls(1500))


def test_two_workers_that_resolve_everything_at_once_move_each_record_once(books, monkeypatch):
    monkeypatch.setattr(walk, "BATCH_RECORDS", 30)
    with proxy("queue", calls(900)) as simulator:
        broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        with ProxyClient(upstream_of(simulator)) as source:
            refresh(books.loader(), source)
        done = []

        def work():
            done.append(resolve_again.resolve_again(books.loader(), everything=True))

        at_once(work, work, loading(books, calls(1200)[900:]))
        assert sum(sum(each.moves.values()) for each in done) >= known(calls(900))
        books.require_exactly(calls(1200))


def test_a_link_while_records_are_imported_leaves_true_sums(books):
    with proxy("queue", calls(1200)[:500]) as simulator:
        books.sync(simulator)
        at_once(loading(books, calls(1200)[500:]), lambda: link(books, "OpenRouter", "local-vllm"))
        books.balance()


def test_a_rename_that_is_followed_while_an_import_runs_holds_for_the_import_too(books):
    with proxy("queue", calls(700)[:400]) as simulator:
        books.sync(simulator)
        importing = books.loader()
        simulator.traffic = changed(rename("OpenRouter", "OpenRouter EU"))
        books.sync(simulator)
    for decoded in batches(calls(700)[400:]):
        importing.load(uuid4().hex, decoded, PassResult(upstream="default"))
    books.require_exactly(on(calls(700), "OpenRouter", "OpenRouter EU", "OpenRouter EU"))


def test_an_import_that_began_before_the_proxy_was_ever_asked_finds_its_channels_all_the_same(books, tmp_path):
    some = calls(400)
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(json.dumps(traffic.queue_item(call)) for call in some))
    with proxy("queue") as simulator, ExitStack() as stack:
        writing = "LOCK usage.daily IN SHARE MODE"  # to be read it stays
        with books.holding("SELECT usage.ensure_record_partition('2026-08-01')", "COMMIT", writing):
            importing = stack.enter_context(books.starting(None, "import", "--json", str(file)))
            books.wait_until_it_waits()
            books.sync(simulator)  # learns the directory, and finds nothing to resolve yet
        finished = importing.wait()
        assert finished.code == 0, finished.stderr
        assert finished.json[0]["resolved"] > 0
        books.require_exactly(some)


@pytest.mark.parametrize("everything", [False, True])
def test_a_rename_that_is_followed_while_records_are_resolved_holds_for_them_too(books, everything):
    with proxy("queue", calls(500)) as simulator:
        if not everything:
            broken(simulator)
        books.sync(simulator)
        simulator.clear_overrides()
        with ProxyClient(upstream_of(simulator)) as source:
            resolving = books.loader()
            refresh(resolving, source)
            simulator.traffic = changed(rename("OpenRouter", "OpenRouter EU"))
            refresh(books.loader(), source)
        resolve_again.resolve_again(resolving, everything=everything)
        books.require_exactly(on(calls(500), "OpenRouter", "OpenRouter EU", "OpenRouter EU"))


def gap(loaded, more):
    """A call of a sum that the loaded ones have on other days, and not yet on its own."""

    def sums(usages):
        return {(tuple(key), key._replace(day=None)) for key in traffic.totals(usages, UTC)}

    there = sums(loaded)
    keys, dimensions = {key for key, _ in there}, {dimension for _, dimension in there}
    for call in more:
        ((key, dimension),) = sums([call])
        if call.channel == "OpenRouter" and key not in keys and dimension in dimensions:
            return call
    raise AssertionError("no such call")


def test_a_record_that_arrives_while_its_channel_is_linked_is_summed_where_it_stands(books, monkeypatch):
    """An import does not hold the upstream: its batch may commit between any two statements of a link."""
    with proxy("queue", calls(500)) as simulator:
        books.sync(simulator)
    late = gap(calls(500), calls(3000)[500:])
    move, threads = stored_records.move_dimensions, []

    def beset(*arguments):
        thread = threading.Thread(target=loading(books, [late]))
        thread.start()
        threads.append(thread)
        wait_until(lambda: not thread.is_alive() or books.ask(SELECT_WAITING), "the import commits or waits")
        return move(*arguments)

    monkeypatch.setattr(stored_records, "move_dimensions", beset)
    link(books, "OpenRouter", "local-vllm")
    threads[0].join()
    books.balance()


# -- whatever happens -------------------------------------------------------------------------------------------

WORLDS = {
    "as it was": Traffic(SEED),
    "everyone listed": everyone_listed(),
    "OpenRouter renamed": changed(rename("OpenRouter", "OpenRouter EU")),
    "local-vllm renamed": changed(rename("local-vllm", "OpenRouter two")),
    "renamed to one that was": changed(rename("local-vllm", "OpenRouter")),
    "no OpenRouter": changed(lambda c: None if c.name == "OpenRouter" else c),
    "no accounts": changed(lambda c: None if c.mapping == "auth-files" else c),
    "another label": changed(lambda c: replace(c, label="Kimi Ops") if c.provider == "kimi" else c),
    "all in one": changed(lambda c: replace(c, name="One") if c.mapping == "openai-compatibility" else c),
    "other accounts": changed(lambda c: replace(c, email=f"new-{c.email}") if c.email else c),
}
STEPS = st.tuples(
    st.sampled_from(sorted(WORLDS)),
    st.sets(st.sampled_from(MAPPINGS)) | st.just(set(MAPPINGS)) | st.just(set()),
    st.sampled_from(["pass", "pass", "pass", "resolve", "everything", "dry run", "link", "refused"]),
    st.integers(0, 40),
)
BY_DAY = """
SELECT day, sum(requests)::int, sum(total_tokens)::bigint, sum(billed_output_tokens)::bigint FROM usage_api.v1_daily
WHERE upstream = %s GROUP BY day ORDER BY day
"""
UNKNOWN = """
SELECT coalesce(sum(requests) FILTER (WHERE channel_kind = 'unknown'), 0)::int, coalesce(sum(requests), 0)::int
FROM usage_api.v1_daily WHERE upstream = %s
"""


def by_day(usages):
    days = {}
    for key, total in traffic.totals(usages, UTC).items():
        sums = days.setdefault(key.day, [0, 0, 0])
        for place, name in enumerate(("requests", "total_tokens", "billed_output_tokens")):
            sums[place] += getattr(total, name)
    return [(day, *sums) for day, sums in sorted(days.items())]


def act(books, simulator, name, action, number):
    """Do one thing to the upstream called `name`."""
    one = upstream_of(simulator, name=name, queue_count=15)
    if action == "pass":
        assert sync.sync_once(books.config(one), books.engine, one).exit_code == 0
    elif action == "refused":
        simulator.refuse("remote management disabled")
        assert sync.sync_once(books.config(one), books.engine, one).exit_code == 4
        simulator.refuse(None)
    elif action == "link":
        with database.transaction(books.engine) as connection:
            found = [c for c in stored_channels.listed(connection, upstream=name) if c.kind == "apikey"]
        if found:
            pair = found[number % len(found)], found[number // 7 % len(found)]
            try:
                link_channels(books.engine, name, *(c.channel_id for c in pair))
            except UsageError:
                assert pair[0] == pair[1] or pair[1].linked_to == pair[0].channel_id
    else:
        options = {"everything": action == "everything", "dry_run": action == "dry run"}
        sync.resolve_once(books.config(one), books.engine, one, **options)


@settings(derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=2, max_size=7))
def test_whatever_happens_to_the_directory_every_record_is_in_one_channel_and_every_sum_is_true(books, steps):
    name, loaded, unknown_before = f"proxy-{uuid4().hex[:8]}", 0, 0
    with proxy("queue") as simulator:
        for world, failing, action, number in steps:
            simulator.traffic = WORLDS[world]
            simulator.clear_overrides()
            for mapping in failing:
                simulator.override(mapping, b"oops", 500)
            new = number if action == "pass" else 0
            simulator.push(calls()[loaded : loaded + new])
            loaded += new
            act(books, simulator, name, action, number)
            ((unknown_now, requests),) = books.ask(UNKNOWN, [name])
            assert requests == loaded
            assert unknown_now <= unknown_before + new, "a known channel became unknown"
            unknown_before = unknown_now
            assert books.ask(BY_DAY, [name]) == by_day(calls()[:loaded])
            assert books.differences() == []
