"""Whole passes: a real proxy's answers over HTTP, a real PostgreSQL, and every sum held against the ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from support import KEY, RENDERINGS, Books, calls, differing, proxy, utc

from worker.simulator import traffic
from worker.simulator.proxy import Fault

ZONES = ("UTC", "Asia/Kolkata", "America/New_York")
MAPPINGS = (
    "auth-files", "openai-compatibility", "gemini-api-key", "claude-api-key", "codex-api-key", "vertex-api-key",
    "interactions-api-key", "xai-api-key",
)  # fmt: skip


def popped(simulator):
    return [path for _, path, _ in simulator.requests if "/usage-queue" in path]


def configured(books):
    return books.ask("SELECT channel, channel_kind, configured FROM usage_api.v1_channels ORDER BY 1, 2")


# -- every generation, every sum --------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", RENDERINGS)
def test_every_daily_sum_is_what_the_calls_add_up_to_and_a_second_pass_changes_nothing(books, generation):
    with proxy(generation, calls()) as simulator:
        result = books.sync(simulator)
        assert (result.exit_code, result.error, result.pulled, result.inserted) == (0, None, 3000, 3000)
        assert result.mode == ("snapshot" if generation.startswith("snapshot") else "queue")
        assert len(popped(simulator)) == (1 if generation.startswith("snapshot") else 7)
        books.require_exactly(calls(), RENDERINGS[generation])
        assert result.unknown_channel == sum(
            measures[0] for key, measures in books.daily().items() if key[3] == "unknown"
        )
        before = books.dump()
        again = books.sync(simulator)
        assert (again.exit_code, again.pulled) == (0, 0)
        assert books.dump() == before
        books.ask("DELETE FROM usage.snapshot_cursor")  # as if it did not know what it has read
        again = books.sync(simulator)
        assert (again.exit_code, again.inserted) == (0, 0)
        assert again.duplicates == (3000 if generation.startswith("snapshot") else 0)
        assert books.dump() == before
        assert (simulator.lost, books.journal()) == ([], [])


@pytest.mark.parametrize("generation", RENDERINGS)
@pytest.mark.parametrize("zone", ZONES[1:])
def test_days_are_cut_where_they_begin_in_the_configured_zone(database_url, tmp_path, generation, zone):
    some = calls(600)
    with Books(database_url, tmp_path, zone) as books, proxy(generation, some, offset="+08:00") as simulator:
        assert books.sync(simulator).inserted == len(some)
        books.require_exactly(some, RENDERINGS[generation])
        wrong = {key for key, _ in books.expected(some, RENDERINGS[generation]).items()}
        books.timezone = "UTC"
        assert wrong != set(books.expected(some, RENDERINGS[generation])), "these calls would tell no zone apart"


def test_hours_are_those_of_utc_in_every_zone(database_url, tmp_path):
    some = calls(1000)
    with Books(database_url, tmp_path, "Asia/Kolkata") as books, proxy("queue", some) as simulator:
        books.sync(simulator)
        found = books.ask("SELECT hour, sum(requests), sum(total_tokens) FROM usage_api.v1_hourly GROUP BY hour")
    requests, tokens = Counter(), Counter()
    for call in some:
        hour = datetime.fromtimestamp(call.timestamp_ns // 10**9 // 3600 * 3600, UTC)
        requests[hour] += 1
        tokens[hour] += traffic.reported(call).total
    assert {hour: (count, total) for hour, count, total in found} == {h: (requests[h], tokens[h]) for h in requests}


def test_a_record_keeps_what_the_queue_said_of_it(books):
    some = calls(300)
    with proxy("queue", some) as simulator:
        books.sync(simulator)
    columns = (
        "occurred_at, completed_at, upstream, channel, channel_kind, auth_index, source, client_key, provider, "
        "endpoint, auth_type, model, alias, request_id, outcome, status_code, service_tier, "
        "response_service_tier, reasoning_effort, latency_ms, ttft_ms, total_tokens, billed_output_tokens"
    )
    found = Counter(books.ask(f"SELECT {columns} FROM usage_api.v1_records"))
    keyring, wanted = books.keyring(), Counter()
    for call in some:
        at = datetime.fromtimestamp(call.timestamp_ns // 10**9, UTC).replace(
            microsecond=call.timestamp_ns // 1000 % 10**6
        )
        measured = call.latency_ms or None
        public = "@" in call.source or call.source.endswith(".json")
        wanted[
            at, at + timedelta(milliseconds=measured) if measured else None, "default", call.channel,
            call.channel_kind, call.auth_index, call.source if public or not call.source else
            keyring.label(call.source), keyring.label(call.client_key), call.provider, call.endpoint, call.auth_type,
            call.model, call.alias, call.request_id, traffic.outcome(call), call.status_code,
            call.service_tier, "default" if call.service_tier == "auto" else "", call.reasoning_effort, measured,
            call.ttft_ms or None, traffic.reported(call).total, call.billed_output,
        ] += 1  # fmt: skip
    assert found - wanted == Counter()
    assert wanted - found == Counter()


def test_calls_that_end_between_two_passes_are_added_to_the_days_that_are_there(books):
    with proxy("queue") as simulator:
        for begin in range(0, 1200, 300):
            simulator.push(calls(1200)[begin : begin + 300])
            assert books.sync(simulator, queue_count=100).inserted == 300
        books.require_exactly(calls(1200))


def test_a_long_lived_snapshot_gives_only_what_is_new_since(books):
    with proxy("snapshot", calls(900)[:600]) as simulator:
        assert books.sync(simulator).inserted == 600
        simulator.push(calls(900)[600:])
        result = books.sync(simulator)
        assert result.inserted == 300
        assert result.pulled < 600  # lists to which nothing was added are not read again
        books.require_exactly(calls(900), "snapshot")
        simulator.forget()  # a restart of the proxy takes nothing out of the books
        assert books.sync(simulator).pulled == 0
        books.require_exactly(calls(900), "snapshot")
        simulator.push(calls(2000)[1200:])  # other lists, with other beginnings
        assert books.sync(simulator).inserted == 800
        books.require_exactly([*calls(900), *calls(2000)[1200:]], "snapshot")


def test_what_is_added_to_a_snapshot_counts_by_its_place_among_its_equals(books):
    template = calls(10)[0]
    with proxy("snapshot", [template]) as simulator:
        for n in range(1, 4):
            simulator.override("usage", traffic.snapshot([template] * n))
            assert books.sync(simulator).inserted == 1
        assert books.sync(simulator).pulled == 0
    assert books.ask("SELECT sum(requests) FROM usage_api.v1_daily") == [(3,)]
    books.balance()


def test_a_mark_is_no_farther_than_what_is_stored(books):
    """Killed at any batch of a snapshot, the next pass reads what is missing."""
    some = calls(400)
    with proxy("snapshot", some) as simulator:
        with (
            books.holding("SELECT usage.ensure_record_partition('2026-08-01')", "COMMIT", "LOCK usage.daily"),
            books.starting(simulator, "sync", "--once", "--json") as process,
        ):
            books.wait_until_it_waits()
            process.kill()
        books.wait_until_it_left()
        assert books.ask("SELECT count(*) FROM usage.snapshot_cursor") == [(0,)]
        assert books.sync(simulator).inserted == 400
        books.require_exactly(some, "snapshot")


def test_a_call_seen_through_the_queue_and_through_a_snapshot_is_one_record(books):
    with proxy("both", calls(800)) as simulator:
        assert books.sync(simulator, mode="queue").inserted == 800
        before = books.dump()
        result = books.sync(simulator, mode="snapshot")
        assert (result.mode, result.inserted, result.duplicates) == ("snapshot", 0, 800)
        assert books.dump() == before
        books.require_exactly(calls(800), "6.10.8")


def test_two_proxies_with_the_same_calls_are_booked_apart(books):
    with proxy("queue", calls(200)) as simulator:
        assert books.sync(simulator, name="one").inserted == 200
        simulator.push(calls(200))
        assert books.sync(simulator, name="two").inserted == 200
    assert books.ask("SELECT upstream, sum(requests) FROM usage_api.v1_daily GROUP BY 1 ORDER BY 1") == [
        ("one", 200), ("two", 200)
    ]  # fmt: skip
    books.balance()


@pytest.mark.parametrize("generation", ["queue", "snapshot"])
def test_answers_may_be_compressed_and_the_url_may_end_in_the_management_path(books, generation):
    with proxy(generation, calls(300), gzip=True) as simulator:
        assert books.sync(simulator, url=f"{simulator.url}/v0/management/").inserted == 300
        books.require_exactly(calls(300), RENDERINGS[generation])


def test_identical_siblings_in_one_answer_were_that_many_requests_and_a_replay_adds_none(books):
    item = traffic.queue_item(calls(10)[0])
    with proxy("queue") as simulator:
        simulator.push_raw([item, item, item])
        assert books.sync(simulator).inserted == 3
        simulator.push_raw([item, item, item])
        result = books.sync(simulator)
        assert (result.inserted, result.duplicates) == (0, 3)
    assert books.ask("SELECT sum(requests) FROM usage_api.v1_daily") == [(3,)]
    books.balance()


def test_a_message_of_the_proxy_between_the_calls_is_no_call_and_does_not_end_the_pass(books):
    with proxy("queue", calls(300)[:150]) as simulator:
        simulator.push_raw([{"support_refresh": True}])
        simulator.push(calls(300)[150:])
        result = books.sync(simulator, queue_count=100)
        assert (result.exit_code, result.inserted, simulator.queued) == (0, 300, 0)
        books.require_exactly(calls(300))


# -- the directory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error":"read config: permission denied"}'),
        (200, b'[{"name": \xff\xfe'),
        (200, b"<!DOCTYPE html><html><body>Sign in</body></html>"),
        (200, b'{"unheard-of": []}'),
        (200, b'{"files": "none", "items": 7}'),
        (200, b""),
    ],
    ids=["an error", "garbage", "a page", "another list", "no list", "nothing"],
)
def test_an_answer_that_is_no_directory_leaves_the_last_good_one_in_force(books, status, body):
    with proxy("queue", calls(600)[:300]) as simulator:
        books.sync(simulator)
        before = configured(books)
        for mapping in MAPPINGS:
            simulator.override(mapping, body, status)
        simulator.push(calls(600)[300:])
        assert books.sync(simulator).exit_code == 0
        assert configured(books) == before
        books.require_exactly(calls(600))


def test_one_mapping_that_fails_does_not_stand_in_the_way_of_the_others(books):
    with proxy("queue", calls(400)) as simulator:
        simulator.override("codex-api-key", b"oops", 500)
        assert books.sync(simulator).exit_code == 0
        found = {key[1] for key in books.daily()}
        assert {"claude/bob@example.com", "OpenRouter", "unknown"} <= found
        assert "api.openai.com" not in found
        simulator.clear_overrides()
        simulator.push(calls(500)[400:])
        books.sync(simulator)
        assert "api.openai.com" in {key[1] for key in books.daily()}


def test_mapping_endpoints_that_a_version_does_not_have_are_no_error(books):
    with proxy("snapshot-int", calls(300)) as simulator:
        assert books.sync(simulator).exit_code == 0
        missing = {path.rpartition("/")[2] for _, path, status in simulator.requests if status == 404}
        assert missing >= {"vertex-api-key", "interactions-api-key", "xai-api-key"}
        books.require_exactly(calls(300), "snapshot-int")


def test_a_credential_that_is_no_longer_configured_is_marked_and_its_past_stays(books):
    with proxy("queue", calls(600)[:300]) as simulator:
        books.sync(simulator)
        simulator.override("auth-files", {"files": []})
        simulator.push(calls(600)[300:])
        books.sync(simulator)
        marked = books.ask(
            "SELECT channel_kind, bool_or(configured) FROM usage_api.v1_channels WHERE channel <> 'unknown' "
            "GROUP BY 1 ORDER BY 1"
        )
        assert marked == [("apikey", True), ("auth", False)]
        books.require_exactly(calls(600))  # its calls that end now are still known by what was seen


# -- a proxy that does not let us -------------------------------------------------------------------------------


def test_a_version_without_usage_over_http_is_named_and_asked_nothing_twice(books):
    with proxy("resp-only", calls(10)) as simulator:
        result = books.sync(simulator)
        assert result.exit_code == 4
        assert "6.10.5" in result.error
        assert "v6.10.8" in result.error
    assert books.ask("SELECT error FROM usage_api.v1_sync_runs") == [(result.error,)]


@pytest.mark.parametrize(("generation", "mode"), [("snapshot", "queue"), ("queue", "snapshot")])
def test_a_mode_that_the_proxy_does_not_offer_is_an_error_and_pops_nothing(books, generation, mode):
    with proxy(generation, calls(10)) as simulator:
        result = books.sync(simulator, mode=mode)
        assert (result.exit_code, result.inserted) == (4, 0)
        assert "does not offer" in result.error
        assert simulator.handed_out == []


def test_home_mode_is_told_and_leaves_the_directory_as_it_was(books):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
        before = configured(books)
        simulator.home_mode = True
        result = books.sync(simulator)
        assert result.exit_code == 4
        assert "Home mode" in result.error
        assert configured(books) == before
        simulator.home_mode = False
        simulator.push(calls(400)[300:])
        assert books.sync(simulator).exit_code == 0
        books.require_exactly(calls(400))


def test_switched_off_statistics_are_told(books, capsys):
    with proxy("queue", calls(10), statistics_enabled=False) as simulator:
        result = books.sync(simulator)
    assert (result.exit_code, result.statistics_enabled, result.pulled) == (0, False, 0)
    assert books.ask("SELECT statistics_enabled FROM usage_api.v1_sync_runs") == [(False,)]
    said = capsys.readouterr()
    assert "usage-statistics-enabled: true" in said.out + said.err


def test_a_wrong_key_is_tried_once_and_pops_nothing(books):
    with proxy("queue", calls(10)) as simulator:
        result = books.sync(simulator, key="EXAMPLE-wrong-key")
        assert result.exit_code == 4
        assert "management key" in result.error
        assert "EXAMPLE-wrong-key" not in result.error
        assert (simulator.auth_failures, simulator.queued) == (1, 10)


def test_a_ban_is_told_with_how_long_it_lasts(books):
    with proxy("queue", calls(10), clock=lambda: 0.0) as simulator:  # its time stands still
        simulator.ban(1200)
        result = books.sync(simulator)
        assert result.exit_code == 4
        assert "banned for 1200 s" in result.error
        assert simulator.queued == 10


def test_a_proxy_that_is_not_there_is_an_error_of_the_pass_and_the_next_one_goes_on(books):
    with proxy("queue", calls(100)) as simulator:
        simulator.stop()
        result = books.sync(simulator)
        assert result.exit_code == 4
        simulator.start()
        assert books.sync(simulator).exit_code == 0
        books.require_exactly(calls(100))
    errors = books.ask("SELECT error IS NULL, finished_at IS NOT NULL FROM usage_api.v1_sync_runs ORDER BY run_id")
    assert errors == [(False, True), (True, True)]


def test_an_answer_that_breaks_off_loads_what_arrived_whole_and_says_what_may_be_lost(books):
    with proxy("queue", calls(300)) as simulator:
        simulator.fail_next("/usage-queue", Fault(cut_after_bytes=100_000))
        result = books.sync(simulator)
        assert (result.exit_code, result.possible_loss, books.journal()) == (4, 1, [])
        assert 0 < result.inserted < 300
        books.require_exactly(simulator.lost[: result.inserted])
    assert books.ask("SELECT possible_loss FROM usage_api.v1_sync_runs") == [(1,)]


def test_a_page_in_the_place_of_an_answer_is_an_error_and_loses_nothing(books):
    with proxy("queue", calls(300)) as simulator:
        simulator.fail_next("/usage-queue", Fault(html=True))
        result = books.sync(simulator)
        assert (result.exit_code, result.inserted, simulator.queued) == (4, 300, 0)
        assert "kept as" in result.error
        assert books.sync(simulator).exit_code == 0
        books.require_exactly(calls(300))


# -- late and odd times -----------------------------------------------------------------------------------------


def at(when: datetime, template: traffic.Usage, shift_ns: int = 0) -> traffic.Usage:
    return replace(template, timestamp_ns=int(when.timestamp()) * 10**9 + shift_ns)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", date(2024, 2, 29), 24),
        ("Asia/Kolkata", date(2024, 2, 29), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
    ],
)
def test_the_first_and_the_last_nanosecond_of_a_day_are_in_it_however_long_it_is(
    database_url, tmp_path, zone, day, hours
):
    begin, end = (datetime(d.year, d.month, d.day, tzinfo=ZoneInfo(zone)) for d in (day, day + timedelta(days=1)))
    assert end.timestamp() - begin.timestamp() == hours * 3600
    template = calls(10)[0]
    edges = [at(begin, template, -1), at(begin, template), at(end, template, -1), at(end, template)]
    with Books(database_url, tmp_path, zone) as books, proxy("queue", edges) as simulator:
        assert books.sync(simulator).inserted == 4
        books.require_exactly(edges)
        found = books.ask("SELECT day, sum(requests) FROM usage_api.v1_daily GROUP BY day ORDER BY day")
        assert found == [(day - timedelta(days=1), 1), (day, 2), (day + timedelta(days=1), 1)]


def test_late_records_land_in_their_own_day_and_their_partitions_are_made_on_demand(books):
    with proxy("queue", calls(200)) as simulator:
        books.sync(simulator)
        template = calls(200)[0]
        days = [utc(2024, 7, 31, 23, 59, 59), utc(2024, 8, 1), utc(2025, 12, 31, 12), utc(2026, 8, 20, 0, 0, 1)]
        late = [at(day, template, 123_456_789) for day in days]
        simulator.push(late)
        assert books.sync(simulator).inserted == 4
        books.require_exactly([*calls(200), *late])
        partitions = books.ask(
            "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'usage.record'::regclass ORDER BY 1"
        )
        past = [name for (name,) in partitions if name < "record_2026_09"]  # and those that today's records may need
        assert past == ["record_2024_07", "record_2024_08", "record_2025_12", "record_2026_08"]


def test_one_batch_may_span_years_and_a_second_pass_adds_nothing_to_any(books):
    template = calls(10)[0]
    spread = [at(utc(2024, 1, 1) + timedelta(days=43 * n), template, n) for n in range(20)]
    with proxy("snapshot", spread) as simulator:
        assert books.sync(simulator).inserted == 20
        books.ask("DELETE FROM usage.snapshot_cursor")
        assert books.sync(simulator).duplicates == 20
        books.require_exactly(spread, "snapshot")


def test_the_newest_record_and_the_spans_of_channels_and_keys_are_those_of_the_records(books):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
    stamps = [call.timestamp_ns for call in calls(300)]
    newest, oldest = (datetime.fromtimestamp(pick(stamps) / 1e9, UTC) for pick in (max, min))
    ((found,),) = books.ask("SELECT newest_record_at FROM usage_api.v1_freshness")
    assert abs(found - newest) < timedelta(milliseconds=1)
    ((first, last),) = books.ask("SELECT min(first_seen_at), max(last_seen_at) FROM usage_api.v1_client_keys")
    assert abs(first - oldest) < timedelta(milliseconds=1)
    assert abs(last - newest) < timedelta(milliseconds=1)


def test_differing_tells_two_sets_of_books_apart(books):
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator)
    assert differing(books.daily(), books.expected(calls(50)[1:])) != {}
    books.ask("UPDATE usage.daily SET total_tokens = total_tokens + 1 WHERE dimension_id = 1")
    assert differing(books.daily(), books.expected(calls(50))) != {}
    assert books.differences() != []
    assert KEY not in str(books.dump())
