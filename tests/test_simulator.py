"""The simulator against its own ledger, over real HTTP: what the other tests lean on must hold by itself."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import astuple, replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import httpx
import pytest

from worker.simulator import proxy as simulator
from worker.simulator import traffic
from worker.simulator.proxy import Fault, Simulator
from worker.simulator.traffic import Traffic

KEY = "EXAMPLE-management-key"
BEARER = {"Authorization": f"Bearer {KEY}"}
CALLS = Traffic(7).generate(4000)
RENDERINGS = ("7.2.140", "6.10.8", "snapshot", "snapshot-int")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def client(sim, headers=BEARER, timeout=5.0):
    return httpx.Client(base_url=f"{sim.url}/v0/management", headers=headers, timeout=timeout, trust_env=False)


def serve(generation="queue", calls=(), **more):
    sim = Simulator(generation=generation, key=KEY, traffic=Traffic(7), **more)
    sim.push(calls)
    return sim


def queue(http, count):
    answer = http.get("usage-queue", params={"count": count})
    assert answer.status_code == 200
    return answer.json()


def key_of(item):
    return item["timestamp"]


def stamps(calls):
    return [traffic.stamp(call.timestamp_ns) for call in calls]


# -- traffic ----------------------------------------------------------------------------------------------------


def test_a_seed_decides_every_call():
    assert Traffic(7).generate(500) == Traffic(7).generate(500)
    assert Traffic(7).generate(500) != Traffic(8).generate(500)


def test_no_two_calls_start_in_the_same_nanosecond_even_over_several_batches():
    world = Traffic(3)
    starts = [call.timestamp_ns for _ in range(4) for call in world.generate(1500)]
    assert len(set(starts)) == len(starts) == 6000


def test_calls_end_in_another_order_than_they_begin_and_cross_midnights():
    starts = [call.timestamp_ns for call in CALLS]
    assert starts != sorted(starts)
    assert max(late - early for early, late in zip(starts[1:], starts, strict=False)) > 3600 * 10**9
    assert {key.day for key in traffic.totals(CALLS, UTC)} == {date(2026, 8, 20), date(2026, 8, 21), date(2026, 8, 22)}
    few = Traffic(1).generate(40)
    assert {key.day for key in traffic.totals(few, UTC)} == {date(2026, 8, 20), date(2026, 8, 21)}


def test_the_mix_is_what_it_says():
    failed = [call for call in CALLS if call.failed]
    assert 0.06 < len(failed) / len(CALLS) < 0.10
    assert {call.status_code for call in failed} == {401, 429, 500}
    assert all(traffic.reported(call) == (0, 0, 0, 0, 0) for call in failed)
    assert 20 < sum(not call.generate for call in CALLS) < 120
    assert sum(call.unclassified > 0 for call in CALLS) > 5
    assert any(call.latency_ms == 0 for call in CALLS)
    shared = Counter(call.request_id for call in CALLS)
    assert any(shared[call.request_id] == 2 for call in failed)
    names = Counter(call.channel for call in CALLS)
    assert 0.02 < names["unknown"] / len(CALLS) < 0.12
    assert set(names) == {
        "codex/alice@example.com", "claude/bob@example.com", "claude/alice@example.com",
        "antigravity/carol@example.com", "kimi/Kimi Team 研究", "vertex/vertex-proj-42.json", "OpenRouter",
        "local-vllm", "relay.example.net", "gemini", "api.openai.com", "codex-relay.example.net",
        "vertex-relay.example.net/api", "generativelanguage.googleapis.com", "api.x.ai", "unknown",
    }  # fmt: skip


def test_strings_are_hostile_and_legal():
    text = json.dumps([traffic.queue_item(call) for call in CALLS])
    assert "\\u0000" in text
    items = json.loads(text)
    assert any("\0" in item["user_agent"] for item in items)
    assert any("\0" in item["fail"]["body"] for item in items)
    assert any(not item["user_agent"].isascii() for item in items)
    assert {"response_headers" in item for item in items} == {True, False}


def test_every_breakdown_adds_up_and_is_the_truth():
    for call in CALLS:
        b = traffic.queue_item(call)["token_breakdown"]
        i, o = b["input"], b["output"]
        assert i["total_tokens"] == i["uncached_tokens"] + i["cache_read_tokens"] + i["cache_write_tokens"]
        assert o["total_tokens"] == o["non_reasoning_tokens"] + o["reasoning_tokens"]
        assert b["total_tokens"] == i["total_tokens"] + o["total_tokens"] + b["unclassified_tokens"]
        assert b["quality"] == ("unclassified" if b["unclassified_tokens"] else "complete")
        truth = (call.uncached_input, call.cache_read, call.cache_write, call.billed_output, call.unclassified)
        assert truth == traffic.normalised(call)
        assert truth == (
            i["uncached_tokens"], i["cache_read_tokens"], i["cache_write_tokens"], o["total_tokens"],
            b["unclassified_tokens"],
        )  # fmt: skip


def test_raw_counts_follow_the_family_and_the_version():
    def raw(family, rendering):
        call = replace(
            CALLS[0], family=family, uncached_input=12, cache_read=400, cache_write=30, non_reasoning_output=7,
            reasoning=3, unclassified=0,
        )  # fmt: skip
        return tuple(traffic.reported(call, rendering))

    assert raw("subset", "7.2.140") == raw("subset", "snapshot") == (442, 10, 3, 400, 452)
    assert raw("independent", "7.2.140") == (12, 10, 3, 400, 452)
    assert raw("independent", "6.10.8") == raw("independent", "snapshot-int") == (12, 10, 0, 400, 22)
    assert raw("separate_reasoning", "7.2.140") == raw("separate_reasoning", "6.10.8") == (442, 7, 3, 400, 452)


@pytest.mark.parametrize(
    ("ns", "offset", "text"),
    [
        (0, "Z", "1970-01-01T00:00:00Z"),
        (1_787_281_862_481_920_113, "Z", "2026-08-21T03:11:02.481920113Z"),
        (1_787_281_862_100_000_000, "Z", "2026-08-21T03:11:02.1Z"),
        (1_787_281_862_000_000_007, "+08:00", "2026-08-21T11:11:02.000000007+08:00"),
        (1_787_281_862_000_000_000, "-09:30", "2026-08-20T17:41:02-09:30"),
    ],
)
def test_times_are_written_as_go_writes_them(ns, offset, text):
    assert traffic.stamp(ns, offset) == text
    whole_s = datetime.fromisoformat(text).replace(microsecond=0).timestamp()
    assert whole_s == ns // 10**9


def test_a_start_needs_a_time_zone_and_an_offset_must_be_one():
    with pytest.raises(ValueError, match="time zone"):
        Traffic(1, start=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="noon"):
        Traffic(1, offset="noon")


def test_totals_count_every_call_once_and_cut_days_in_the_zone():
    for rendering in RENDERINGS:
        utc = traffic.totals(CALLS, UTC, rendering)
        assert sum(sums.requests for sums in utc.values()) == len(CALLS)
        assert sum(s.total_tokens for s in utc.values()) == sum(traffic.reported(c, rendering).total for c in CALLS)
    late = replace(CALLS[0], timestamp_ns=int(datetime(2026, 8, 20, 23, 30, tzinfo=UTC).timestamp()) * 10**9)
    assert [k.day.day for k in traffic.totals([late], UTC)] == [20]
    assert [k.day.day for k in traffic.totals([late], ZoneInfo("Asia/Shanghai"))] == [21]
    assert [k.day.day for k in traffic.totals([late], ZoneInfo("America/New_York"))] == [20]


def test_only_what_was_measured_is_a_sample():
    one = replace(CALLS[0], latency_ms=0, ttft_ms=40)
    two = replace(CALLS[0], latency_ms=90, ttft_ms=0)
    (sums,) = traffic.totals([one, two], UTC).values()
    assert (sums.latency_ms_sum, sums.latency_samples, sums.ttft_ms_sum, sums.ttft_samples) == (90, 1, 40, 1)
    (sums,) = traffic.totals([one, two], UTC, "snapshot-int").values()
    assert (sums.latency_ms_sum, sums.latency_samples, sums.ttft_samples) == (0, 0, 0)


def test_secrets_are_all_there_and_are_all_that_mappings_show():
    world = Traffic(7)
    secrets = world.secrets()
    assert {"sk-client-team-a-7Q2mX", "sk-or-v1-EXAMPLE-0002", "sk-ant-EXAMPLE-removed"} <= secrets
    assert "EXAMPLE-password" in secrets
    assert "" not in secrets
    shown = set()
    for name in simulator.MAPPINGS:
        body = world.mapping(name)
        rows = body.get(name) or []
        shown |= {row if isinstance(row, str) else row.get("api-key") for row in rows}
        shown |= {entry["api-key"] for row in rows if isinstance(row, dict) for entry in row.get("api-key-entries", ())}
    assert shown - {None} <= secrets
    sources = {call.source for call in CALLS if "@" not in call.source} - {"", "proj-42"}
    assert sources <= secrets


# -- the queue --------------------------------------------------------------------------------------------------


def test_a_pop_takes_the_oldest_and_takes_them_for_good():
    with serve(calls=CALLS[:10]) as sim, client(sim) as http:
        assert [key_of(i) for i in http.get("usage-queue").json()] == stamps(CALLS[:1])
        assert [key_of(i) for i in queue(http, 4)] == stamps(CALLS[1:5])
        assert [key_of(i) for i in queue(http, 1000)] == stamps(CALLS[5:10])
        assert queue(http, 1000) == []
        assert sim.handed_out == CALLS[:10]
        assert (sim.lost, sim.expired, sim.queued) == ([], [], 0)


@pytest.mark.parametrize("count", ["0", "-1", "abc", "1.5", "1_0", "٣"])
def test_a_bad_count_is_refused_and_takes_nothing(count):
    with serve(calls=CALLS[:3]) as sim, client(sim) as http:
        answer = http.get("usage-queue", params={"count": count})
        assert (answer.status_code, answer.json()) == (400, {"error": "count must be a positive integer"})
        assert len(queue(http, 9)) == 3


def test_items_are_what_the_ledger_says():
    with serve(calls=CALLS[:200]) as sim, client(sim) as http:
        assert queue(http, 200) == [traffic.queue_item(call) for call in CALLS[:200]]
    with serve("queue-6.10.8", calls=CALLS[:50]) as sim, client(sim) as http:
        items = queue(http, 50)
        assert items == [traffic.queue_item(call, "6.10.8") for call in CALLS[:50]]
        assert not any("fail" in item or "token_breakdown" in item for item in items)
        assert "openrouter" in {item["provider"] for item in items}


def test_the_queue_forgets_after_its_retention():
    clock = Clock()
    with serve(retention_s=60, clock=clock) as sim, client(sim) as http:
        sim.push(CALLS[:5])
        clock.now += 59
        sim.push(CALLS[5:8])
        clock.now += 2
        assert [key_of(i) for i in queue(http, 99)] == stamps(CALLS[5:8])
        assert sim.expired == CALLS[:5]
        assert sim.handed_out == CALLS[5:8]


def test_raw_items_go_out_as_they_are():
    odd = ["not an object", None, {"timestamp": "nonsense"}, 7]
    with serve() as sim, client(sim) as http:
        sim.push_raw(odd)
        assert queue(http, 9) == odd
        assert sim.handed_out == []


def test_consumers_at_once_split_the_queue():
    got = []

    def drain(sim):
        with client(sim) as http:
            while items := queue(http, 7):
                got.extend(map(key_of, items))

    with serve(calls=CALLS[:300]) as sim:
        threads = [threading.Thread(target=drain, args=(sim,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(got) == sorted(stamps(CALLS[:300]))
    assert len(sim.handed_out) == 300


def test_while_statistics_are_off_calls_leave_no_trace():
    with serve("both", statistics_enabled=False) as sim, client(sim) as http:
        sim.push(CALLS[:5])
        assert http.get("usage-statistics-enabled").json() == {"usage-statistics-enabled": False}
        assert queue(http, 9) == []
        for body in (b"{}", b'{"value":1}', b"[]", b"no"):
            answer = http.put("usage-statistics-enabled", content=body)
            assert (answer.status_code, answer.json()) == (400, {"error": "invalid body"})
        assert http.put("usage-statistics-enabled", json={"value": True}).json() == {"status": "ok"}
        assert http.post("usage-statistics-enabled", json={"value": True}).status_code == 404
        sim.push(CALLS[:5])
        assert len(queue(http, 9)) == 5
        assert http.get("usage").json()["usage"]["total_requests"] == 5


# -- the snapshot -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("generation", "rendering"), [("snapshot", "snapshot"), ("snapshot-int", "snapshot-int")])
def test_a_snapshot_adds_up_to_the_ledger(generation, rendering):
    with serve(generation, calls=CALLS) as sim, client(sim) as http:
        body = http.get("usage").json()
        assert http.get("usage").json() == body
    usage = body["usage"]
    ledger = traffic.totals(CALLS, UTC, rendering).items()
    failed = sum(s.requests for k, s in ledger if k.outcome == "failed")
    assert (usage["total_requests"], usage["failure_count"], body["failed_requests"]) == (len(CALLS), failed, failed)
    assert usage["total_tokens"] == sum(s.total_tokens for _, s in ledger)
    days = Counter()
    lists = Counter()
    for k, s in ledger:
        days[k.day.isoformat()] += s.requests
        lists[k.client_key or k.endpoint, k.model] += s.requests
    assert usage["requests_by_day"] == days
    found = {(a, m): of for a, api in usage["apis"].items() for m, of in api["models"].items()}
    assert {place: len(of["details"]) for place, of in found.items()} == lists
    for of in found.values():
        assert of["total_tokens"] == sum(d["tokens"]["total_tokens"] for d in of["details"])
        kind = int if generation == "snapshot-int" else str
        assert {type(d["auth_index"]) for d in of["details"]} == {kind}
        assert all(("latency_ms" in d) == (generation == "snapshot") for d in of["details"])


def test_a_fork_with_both_tells_the_same_of_a_call_on_both_ways():
    with serve("both", calls=CALLS[:400]) as sim, client(sim) as http:
        apis = http.get("usage").json()["usage"]["apis"]
        items = {key_of(item): item for item in queue(http, 400)}
    seen = 0
    for api in apis.values():
        for model, of in api["models"].items():
            for detail in of["details"]:
                item = items[detail["timestamp"]]
                assert item["model"] == model
                assert detail == {name: item[name] for name in detail}
                seen += 1
    assert seen == len(items) == 400


def test_an_export_can_be_imported_elsewhere_once():
    with serve("snapshot", calls=CALLS[:50]) as sim, client(sim) as http:
        export = http.get("usage/export").json()
        assert http.get("usage").json()["usage"] == export["usage"]
    assert (export["version"], export["exported_at"][-1]) == (1, "Z")
    failed = sum(call.failed for call in CALLS[:50])
    with serve("snapshot", calls=CALLS[:10]) as sim, client(sim) as http:
        reply = http.post("usage/import", json=export).json()
        assert reply == {"added": 40, "skipped": 10, "total_requests": 50, "failed_requests": failed}
        assert http.post("usage/import", json=export).json()["added"] == 0
        assert http.get("usage").json()["usage"]["total_tokens"] == export["usage"]["total_tokens"]
        old = {"version": 1, **traffic.snapshot(CALLS[:3], "int")}
        assert http.post("usage/import", json=old).json() == {"error": "invalid json"}
        assert http.post("usage/import", content=b"{").json() == {"error": "invalid json"}
        assert http.post("usage/import", json=export | {"version": 4}).json() == {"error": "unsupported version"}


# -- generations ------------------------------------------------------------------------------------------------

HERE = {
    "queue": {"usage-queue", "vertex-api-key", "interactions-api-key", "xai-api-key"},
    "queue-6.10.8": {"usage-queue", "vertex-api-key"},
    "snapshot": {"usage", "usage/export", "vertex-api-key"},
    "snapshot-int": {"usage"},
    "resp-only": {"vertex-api-key"},
    "both": {"usage", "usage/export", "usage-queue", "vertex-api-key"},
}
ALWAYS = (
    "usage-statistics-enabled",
    "auth-files",
    "api-keys",
    "openai-compatibility",
    "gemini-api-key",
    "codex-api-key",
)
SOMETIMES = ("usage", "usage/export", "usage-queue", "vertex-api-key", "interactions-api-key", "xai-api-key")


@pytest.mark.parametrize("generation", HERE)
def test_a_generation_serves_its_paths_and_no_others(generation):
    with serve(generation) as sim, client(sim) as http:
        served = {path for path in SOMETIMES if http.get(path).status_code == 200}
        assert served == HERE[generation]
        assert all(http.get(path).status_code == 200 for path in ALWAYS)
        assert http.get("auth-files").headers["X-CPA-VERSION"] == sim.version
        missing = http.get("nowhere")
        assert missing.status_code == 404
        # v7 authenticates before it finds nothing, so its 404 carries the version.
        assert ("X-CPA-VERSION" in missing.headers) == (generation == "queue")
        bad = http.get("nowhere", headers={"Authorization": "Bearer wrong"})
        assert bad.status_code == (401 if generation == "queue" else 404)


def resolve(mappings, auth_index, source):
    """The channel by the plainest reading of the mapping bodies; the names come from the ledger's own rule."""
    for entry in mappings["auth-files"]["files"]:
        if auth_index not in ("", None) and entry["auth_index"] == auth_index:
            return f"{entry['provider']}/{entry.get('email') or entry['label'] or entry['name']}"
    for name, body in mappings.items():
        for row in body.get(name) or ():
            for entry in row.get("api-key-entries", [row]):
                by_index = entry.get("auth-index") == auth_index != ""
                if by_index or ("auth-index" not in entry and entry.get("api-key") == source):
                    place = row.get("base-url", "").rpartition("//")[2].rpartition("@")[2].rstrip("/")
                    return row.get("name") or place.removesuffix("/v1") or name.removesuffix("-api-key")
    return "unknown"


@pytest.mark.parametrize(
    ("generation", "rendering"),
    [("queue", "7.2.140"), ("queue-6.10.8", "6.10.8"), ("snapshot", "snapshot"), ("snapshot-int", "snapshot-int")],
)
def test_mappings_lead_every_call_to_the_channel_the_ledger_expects(generation, rendering):
    with serve(generation) as sim, client(sim) as http:
        answers = {name: http.get(name) for name in simulator.MAPPINGS if name != "api-keys"}
    mappings = {name: answer.json() for name, answer in answers.items() if answer.status_code == 200}
    found = Counter()
    for call in CALLS:
        index = call.auth_number if rendering == "snapshot-int" else call.auth_index
        expected = traffic.totals_key(call, date(2026, 8, 20), rendering).channel
        assert resolve(mappings, index, call.source) == expected, call
        found[expected] += 1
    assert ("local-vllm" in found) == (rendering != "snapshot-int")
    assert ("api.x.ai" in found) == (rendering == "7.2.140")
    for mapping in mappings.values():
        assert rendering != "snapshot-int" or '"auth-index"' not in json.dumps(mapping)


def counted(http):
    """What each credential has served, by auth index or key: in all, and by ten minutes."""
    told = {entry["auth_index"]: entry for entry in http.get("auth-files").json()["files"]}
    for keys in http.get("api-key-usage").json().values():
        told |= {name.rpartition("|")[2]: entry for name, entry in keys.items()}
    return told


def test_credentials_count_what_they_served_whether_it_is_recorded_or_not():
    clock = Clock()
    clock.now = 1_800_000_300.0
    with serve(wall=clock, statistics_enabled=False) as sim, client(sim) as http:
        sim.push(CALLS[:1000])
        clock.now += 1200
        sim.push(CALLS[1000:1100])
        assert (sim.queued, clock.now // 600 * 600) == (0, 1_800_001_200)
        told = counted(http)
        for credential in traffic.CREDENTIALS:
            if not credential.mapped or (credential.mapping != "auth-files" and not credential.key):
                continue
            entry = told[credential.auth_index if credential.mapping == "auth-files" else credential.key]
            mine = [
                [c for c in some if c.auth_index == credential.auth_index] for some in (CALLS[:1000], CALLS[1000:1100])
            ]
            failures = [sum(call.failed for call in calls) for calls in mine]
            assert (entry["success"], entry["failed"]) == (sum(map(len, mine)) - sum(failures), sum(failures))
            recent = entry["recent_requests"]
            assert len(recent) == 20
            assert recent[-1] == {"time": "08:20-08:30", "success": len(mine[1]) - failures[1], "failed": failures[1]}
            assert recent[-3] == {"time": "08:00-08:10", "success": len(mine[0]) - failures[0], "failed": failures[0]}
            assert sum(span["success"] + span["failed"] for span in recent) == sum(map(len, mine))
        sim.forget()
        assert {entry["success"] for entry in counted(http).values()} == {0}


def test_the_settings_are_told_with_all_their_secrets():
    for generation, seconds in (("queue", 900), ("queue-6.10.8", 900), ("snapshot", None), ("snapshot-int", None)):
        with serve(generation, retention_s=900) as sim, client(sim) as http:
            body = http.get("config").json()
        assert body.get("redis-usage-queue-retention-seconds") == seconds
        assert {"sk-client-team-a-7Q2mX", "sk-ant-EXAMPLE-0001"} <= set(re.findall(r"[\w-]+", json.dumps(body)))
        assert "EXAMPLE-proxy-password" in body["proxy-url"]


def test_an_answer_tells_the_proxys_time():
    with serve(wall=lambda: 1_800_000_000.7) as sim, client(sim) as http:
        assert http.get("usage-queue").headers["Date"] == "Fri, 15 Jan 2027 08:00:00 GMT"


def test_a_credential_can_appear_later():
    shown = [replace(credential, mapped=True) for credential in traffic.CREDENTIALS]
    with serve() as sim, client(sim) as http:
        assert "dave@example.com" not in http.get("auth-files").text
        sim.traffic = Traffic(7, credentials=shown)
        assert "dave@example.com" in http.get("auth-files").text
    assert "codex/dave@example.com" in {call.channel for call in sim.traffic.generate(1000)}


def test_without_a_world_the_lists_are_empty():
    with Simulator(key=KEY) as sim, client(sim) as http:
        assert http.get("auth-files").json() == {"files": []}
        assert http.get("codex-api-key").json() == {"codex-api-key": []}
        assert http.get("api-keys").json() == {"api-keys": None}


@pytest.mark.parametrize(
    ("body", "raw"), [(b"not JSON", b"not JSON"), ({"files": None}, b'{"files":null}'), ([1, "ü"], '[1,"ü"]'.encode())]
)
def test_a_path_can_be_overridden_for_those_with_the_key(body, raw):
    with serve("snapshot-int") as sim, client(sim) as http:
        sim.override("/auth-files", body)
        sim.override("xai-api-key", {"error": "x"}, status=500)
        assert (http.get("auth-files").content, http.get("xai-api-key").status_code) == (raw, 500)
        assert http.get("auth-files", headers={"Authorization": "no"}).status_code == 401
        sim.clear_overrides()
        assert http.get("auth-files").json()["files"]
        assert http.get("xai-api-key").status_code == 404


# -- the door ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200, None),
        ({"Authorization": f"bEARER {KEY}"}, 200, None),
        ({"Authorization": KEY}, 200, None),
        ({"X-Management-Key": KEY}, 200, None),
        ({}, 401, "missing management key"),
        ({"X-Management-Key": "x"}, 401, "invalid management key"),
        ({"Authorization": "Basic eDp5", "X-Management-Key": KEY}, 401, "invalid management key"),
    ],
)
def test_the_key_is_taken_from_where_the_proxy_takes_it(headers, status, error):
    with serve() as sim, client(sim, headers) as http:
        answer = http.get("usage-statistics-enabled")
        assert answer.status_code == status
        assert answer.headers["X-CPA-VERSION"] == "7.2.140"
        assert error is None or answer.json() == {"error": error}
        assert sim.auth_failures == (error is not None)


def test_the_fifth_failure_in_a_row_bans_the_address_for_half_an_hour():
    clock = Clock()
    with serve(clock=clock, calls=CALLS[:1], retention_s=3600) as sim, client(sim) as http:
        bad = {"Authorization": "Bearer wrong"}
        for _ in range(2):
            assert [http.get("auth-files", headers=bad).status_code for _ in range(4)] == [401] * 4
            assert http.get("auth-files").status_code == 200  # which starts the count anew
        assert [http.get("auth-files", headers=bad).status_code for _ in range(5)] == [401] * 5
        clock.now += 2
        answer = http.get("usage-queue")
        assert answer.status_code == 403
        said = "IP banned due to too many failed attempts. Try again in 29m58s"
        assert answer.json() == {"error": said}
        assert http.get("auth-files", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 200
        clock.now += 30 * 60
        assert len(queue(http, 1)) == 1
        sim.ban(60)
        assert http.get("auth-files").json()["error"].endswith("in 1m0s")
        sim.clear_bans()
        assert http.get("auth-files").status_code == 200
        assert sim.auth_failures == 13


@pytest.mark.parametrize(("s", "text"), [(0, "0s"), (45.2, "45s"), (60, "1m0s"), (1798, "29m58s"), (3601, "1h0m1s")])
def test_durations_read_as_go_prints_them(s, text):
    assert simulator.go_duration(s) == text


def test_other_refusals():
    with serve() as sim, client(sim) as http:
        sim.refuse("remote management disabled")
        answer = http.get("auth-files")
        assert (answer.status_code, answer.json()) == (403, {"error": "remote management disabled"})
        sim.refuse(None)
        sim.home_mode = True
        answer = http.get("auth-files")
        assert (answer.status_code, answer.content, "X-CPA-VERSION" in answer.headers) == (404, b"", False)
        sim.home_mode = False
        assert http.get("auth-files").status_code == 200
        assert [status for _, _, status in sim.requests] == [403, 404, 200]


# -- faults -----------------------------------------------------------------------------------------------------


def test_faults_come_in_order_and_only_where_they_were_asked_for():
    with serve("both", calls=CALLS[:3]) as sim, client(sim) as http:
        sim.fail_next("/usage", Fault(status=503, body=b"busy", headers={"Retry-After": "2"}), Fault(status=502))
        assert len(queue(http, 1)) == 1
        first, second, third = (http.get("usage") for _ in range(3))
        assert (first.status_code, first.content, first.headers["Retry-After"]) == (503, b"busy", "2")
        assert (second.status_code, third.status_code) == (502, 200)


def test_pages_and_garbage_stand_in_for_the_proxy_and_pop_nothing():
    with serve(calls=CALLS[:3]) as sim, client(sim) as http:
        sim.fail_next("usage-queue", Fault(html=True), Fault(garbage=True), Fault(status=500))
        page, garbage, error = (http.get("usage-queue", params={"count": 9}) for _ in range(3))
        assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html")
        with pytest.raises(UnicodeDecodeError):
            garbage.json()
        assert error.status_code == 500
        assert len(queue(http, 9)) == 3
        assert sim.lost == []


@pytest.mark.parametrize(
    ("fault", "lost"),
    [(Fault(drop=True), 0), (Fault(drop=True, after_pop=True), 3), (Fault(cut_after_bytes=100), 3)],
)
def test_a_broken_connection_loses_what_was_popped_and_nothing_else(fault, lost):
    with serve(calls=CALLS[:3]) as sim, client(sim) as http:
        sim.fail_next("usage-queue", fault)
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("usage-queue", params={"count": 9})
        assert sim.lost == CALLS[:lost]
        assert sim.requests[-1][2] == (200 if fault.cut_after_bytes else 0)
        assert len(queue(http, 9)) == 3 - lost
        assert sim.handed_out == CALLS[lost:3]


def test_a_cut_answer_announces_its_whole_length():
    with serve(calls=CALLS[:3]) as sim, client(sim) as http:
        sim.fail_next("usage-queue", Fault(cut_after_bytes=100))
        with http.stream("GET", "usage-queue?count=9") as answer:
            parts = answer.iter_raw()
            assert len(next(parts)) == 100
            with pytest.raises(httpx.RemoteProtocolError):
                next(parts)
        assert int(answer.headers["Content-Length"]) > 1000


def test_a_client_that_gave_up_has_lost_what_it_popped():
    with serve(calls=CALLS[:3]) as sim:
        with client(sim, timeout=0.2) as http:
            sim.fail_next("usage-queue", Fault(delay_s=60))
            with pytest.raises(httpx.ReadTimeout):
                http.get("usage-queue", params={"count": 9})
        sim.stop()
    assert (sim.lost, sim.handed_out, sim.queued) == (CALLS[:3], [], 0)


def test_a_delayed_answer_reaches_a_patient_client():
    with serve(calls=CALLS[:3]) as sim, client(sim) as http:
        sim.fail_next("usage-queue", Fault(delay_s=0.02))
        assert len(queue(http, 9)) == 3
        assert sim.handed_out == CALLS[:3]


# -- the server -------------------------------------------------------------------------------------------------


def test_one_connection_serves_many_calls():
    with serve(calls=CALLS[:9]) as sim, client(sim) as http:
        ends = {id(http.get("usage-queue").extensions["network_stream"]) for _ in range(9)}
        assert len(ends) == 1


def test_answers_are_compressed_for_those_who_accept_it():
    with serve("snapshot", calls=CALLS[:500], gzip=True) as sim, client(sim) as http:
        packed = http.get("usage")
        plain = http.get("usage", headers={"Accept-Encoding": "identity"})
        assert (packed.headers["Content-Encoding"], "Content-Encoding" in plain.headers) == ("gzip", False)
        assert int(packed.headers["Content-Length"]) < len(plain.content) / 4
        assert packed.json() == plain.json()


def test_a_stop_closes_connections_and_a_start_takes_the_same_port():
    sim = serve("both", calls=CALLS[:4])
    with sim, client(sim) as http:
        url = sim.url
        assert len(queue(http, 1)) == 1
        sim.stop()
        with pytest.raises(httpx.ConnectError):
            http.get("usage-queue")
        sim.start()
        assert sim.url == url
        assert len(queue(http, 9)) == 3
        assert http.get("usage").json()["usage"]["total_requests"] == 4
        sim.forget()
        assert http.get("usage").json()["usage"]["total_requests"] == 0


def test_the_management_api_can_live_elsewhere():
    with serve(base_path="/proxy/v0/management/") as sim, client(sim) as http:
        assert http.get("auth-files").status_code == 404
        assert http.get(f"{sim.url}/proxy/v0/management/auth-files").status_code == 200
        assert http.get(f"{sim.url}/proxy/v0/managementauth-files").status_code == 404


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost", "example.net"])
def test_it_listens_on_loopback_and_nowhere_else(host):
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 only"):
        Simulator(host=host)


@pytest.mark.parametrize("rate", [(), ("--rate", "20000")])
def test_as_a_process_it_serves_what_its_seed_tells(rate):
    command = [sys.executable, "-m", "worker.simulator.proxy", "--seed", "11", "--records", "300", "--key", "EXAMPLE-k"]
    process = subprocess.Popen([*command, *rate], stdout=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())
        assert told["key"] == "EXAMPLE-k"
        got = []
        with httpx.Client(headers={"Authorization": "EXAMPLE-k"}, trust_env=False) as http:
            while len(got) < 300:
                got += http.get(f"{told['url']}/v0/management/usage-queue?count=1000").json()
        assert got == [traffic.queue_item(call) for call in Traffic(11).generate(300)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_totals_of_what_was_handed_out_are_the_ledger_of_those_calls():
    with serve(calls=CALLS[:100]) as sim, client(sim) as http:
        queue(http, 60)
        assert traffic.totals(sim.handed_out, UTC) == traffic.totals(CALLS[:60], UTC)
    assert len(astuple(next(iter(traffic.totals(CALLS[:60], UTC).values())))) == 15
