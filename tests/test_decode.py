"""Bytes → records: what each version answers is read exactly, and what cannot be read costs only itself."""

import json
import re
from calendar import timegm
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.cliproxyapi.payload import (
    COUNT_MAX,
    DURATION_MAX_MS,
    TEXT_MAX_CHARS,
    BadRecord,
    BadValueError,
    Decoded,
    Labels,
    Record,
    clean,
    decode_answer,
    decode_quarantined,
    decode_queue,
    decode_snapshot,
    quarantine,
    snapshot,
    text,
    timestamp_ns,
)
from worker.secret import Keyring
from worker.simulator import traffic
from worker.simulator.traffic import Traffic
from worker.usage.tokens import NOTHING, Normalised, Reported, convention

PAYLOADS = Path(__file__).parent / "payloads"
KEYRING = Keyring(b"EXAMPLE-pepper")
TEAM_A = "sk-client-team-a-7Q2mX"
SECRETS = (TEAM_A, "sk-client-team-b-9Zk1P", "sk-or-v1-EXAMPLE-0001", "sk-ant-EXAMPLE-0001")
NOON = "2026-08-22T12:00:00Z"
DEEP = "[" * 100_000 + "]" * 100_000

steady = settings(derandomize=True, deadline=None, max_examples=100)


def corpus(name):
    return (PAYLOADS / name).read_bytes()


def at(*date_and_time, ns=0):
    return timegm((*date_and_time, 0, 0, 0)) * 1_000_000_000 + ns


def record(**told):
    """A record of which the payload told this and nothing else."""
    untold = {
        "client_key": "", "provider": "", "endpoint": "", "auth_type": "", "auth_index": "", "source": "",
        "request_id": "", "outcome": "success", "failed": False, "status_code": None, "error": None,
        "service_tier": "", "response_service_tier": "", "reasoning_effort": "", "latency_ms": None, "ttft_ms": None,
        "reported": Reported(0, 0, 0, 0, 0, None, None), "normalised": NOTHING, "alias": told["model"],
    }  # fmt: skip
    fields = untold | told
    fields.setdefault("convention", convention(fields["provider"], "", fields["model"]))
    labels = {name: fields.pop(name) for name in Labels.__struct_fields__ if name in fields}
    return Record(labels=Labels(**labels), **fields)


def identity(record, upstream="default", keyring=KEYRING):
    return record.identity(*record.labels.identity(upstream, keyring))


def item(**fields):
    return {"timestamp": NOON} | fields


def dumped(value):
    """JSON, with what JSON cannot hold in it: NaN, and surrogates as broken UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def queue(*items):
    return decode_queue(dumped(items))


def one(**fields):
    decoded = queue(item(**fields))
    assert decoded.bad == []
    (only,) = decoded.records
    return only


def snapshot_of(*details, api=TEAM_A, model="gpt-5.4"):
    return {"usage": {"apis": {api: {"models": {model: {"details": list(details)}}}}}}


def read_snapshot(payload, **options):
    """All that a snapshot holds, its pieces put together."""
    pieces = list(decode_snapshot(payload if isinstance(payload, bytes) else dumped(payload), **options))
    return Decoded(records=[r for p in pieces for r in p.records], bad=[b for p in pieces for b in p.bad])


def identities(records):
    return [identity(r) for r in records]


# -- the golden corpus ---------------------------------------------------------------------------------------------

QUEUES = {
    "queue-v6.10.8.json": [
        record(
            occurred_at_ns=at(2026, 5, 6, 2, 21, 33, ns=4_512_345), client_key=TEAM_A, model="gpt-5.4",
            provider="codex", endpoint="POST /v1/responses", auth_type="oauth", auth_index="66d13d85650d8873",
            source="alice@example.com", request_id="a1b2c3d4", latency_ms=6120,
            reported=Reported(5800, 414, 256, 4096, 6214, None, None), normalised=Normalised(1704, 4096, 0, 414, 0),
        ),
        record(
            occurred_at_ns=at(2026, 5, 6, 2, 21, 30, ns=500_000_000), client_key=TEAM_A,
            model="moonshotai/kimi-k2", alias="kimi-k2", provider="openrouter", endpoint="POST /v1/chat/completions",
            auth_type="apikey", auth_index="ebb80eeb731e4352", source="sk-or-v1-EXAMPLE-0001",
            request_id="0f9e8d7c", latency_ms=15020,
            reported=Reported(900, 120, 0, 0, 1020, None, None), normalised=Normalised(900, 0, 0, 120, 0),
        ),
        record(
            occurred_at_ns=at(2026, 5, 6, 2, 21, 40), model="claude-sonnet-4-6", provider="claude",
            endpoint="POST /v1/messages", auth_type="oauth", auth_index="0fa0d75fb0864f6f",
            source="bob@example.com", request_id="5c5c5c5c", outcome="failed", failed=True, error="failed",
            latency_ms=230,
        ),
    ],
    "queue-v7.2.140.json": [
        record(
            occurred_at_ns=at(2026, 8, 22, 3, 11, 2, ns=481_920_113), client_key=TEAM_A, model="gpt-5.4",
            provider="codex", endpoint="POST /v1/responses", auth_type="oauth", auth_index="45333f9784294f6d",
            source="alice@example.com", request_id="3fa29c1b", status_code=200, service_tier="auto",
            response_service_tier="default",
            reasoning_effort="high", latency_ms=8420, ttft_ms=1312,
            reported=Reported(5800, 414, 256, 4096, 6214, 4096, 0), normalised=Normalised(1704, 4096, 0, 414, 0),
        ),
        record(
            occurred_at_ns=at(2026, 8, 22, 3, 11, 20, ns=100_000_000), client_key=TEAM_A, model="claude-sonnet-4-6",
            provider="claude", endpoint="POST /v1/messages", auth_type="oauth", auth_index="09888ec1434ba3fb",
            source="bob@example.com", request_id="77d0e4aa", outcome="failed", failed=True, status_code=429,
            error="rate_limit_error", service_tier="default", latency_ms=310,
            reported=Reported(0, 0, 0, 0, 0, 0, 0),
        ),
        record(
            occurred_at_ns=at(2026, 8, 22, 3, 11, 20, ns=412_000_000), client_key=TEAM_A, model="claude-sonnet-4-6",
            provider="claude", endpoint="POST /v1/messages", auth_type="apikey", auth_index="fa9f32422e730cb3",
            source="sk-ant-EXAMPLE-0001", request_id="77d0e4aa", status_code=200, service_tier="default",
            latency_ms=5230, ttft_ms=890,
            reported=Reported(12, 1000, 300, 48213, 51273, 48213, 2048),
            normalised=Normalised(12, 48213, 2048, 1000, 0),
        ),
        record(
            occurred_at_ns=at(2026, 8, 22, 3, 11, 31, ns=7), model="gemini-3-pro-high", alias="gemini-3-pro",
            provider="antigravity", endpoint="POST /v1beta/models/gemini-3-pro:streamGenerateContent",
            auth_type="oauth", auth_index="888f8df5a5721f02", source="carol@example.com", request_id="b00b1e55",
            status_code=200, service_tier="default", reasoning_effort="high", latency_ms=4100, ttft_ms=700,
            reported=Reported(2500, 300, 500, 1000, 3300, 1000, 0), normalised=Normalised(1500, 1000, 0, 800, 0),
        ),
        record(
            occurred_at_ns=at(2026, 8, 22, 3, 11, 40, ns=250_000_000), client_key=TEAM_A,
            model="moonshotai/kimi-k2", alias="kimi-k2", provider="openai-compatible-openrouter",
            endpoint="POST /v1/chat/completions", auth_type="apikey", auth_index="a91baaa28e621b1d",
            source="sk-or-v1-EXAMPLE-0001", request_id="deadbeef", status_code=200, service_tier="auto",
            latency_ms=900, ttft_ms=120,
            reported=Reported(0, 0, 0, 0, 512, 0, 0), normalised=Normalised(0, 0, 0, 0, 512),
        ),
    ],
}  # fmt: skip
SNAPSHOTS = {
    "snapshot-int-auth-index.json": [
        record(
            occurred_at_ns=at(2025, 12, 18, 1, 14, 3, ns=120_456_789), client_key=TEAM_A, model="gpt-5-codex",
            auth_index="0", source="alice@example.com",
            reported=Reported(5800, 414, 256, 4096, 6214, None, None), normalised=Normalised(1704, 4096, 0, 414, 0),
        ),
        record(
            occurred_at_ns=at(2025, 12, 18, 1, 15, 44, ns=900_000_000), client_key=TEAM_A, model="gemini-2.5-pro",
            auth_index="3", source="gemini-carol@example.com-proj-42.json",
            reported=Reported(2500, 300, 500, 0, 3300, None, None), normalised=Normalised(2500, 0, 0, 800, 0),
        ),
        record(
            occurred_at_ns=at(2025, 12, 18, 1, 16, 0), model="qwen3-coder-plus", auth_index="5",
            endpoint="POST /v1/chat/completions", source="sk-or-v1-EXAMPLE-0001",
            outcome="failed", failed=True, error="failed",
        ),
    ],
    "snapshot-string-auth-index.json": [
        record(
            occurred_at_ns=at(2026, 4, 30, 15, 4, 5, ns=123_456_789), client_key=TEAM_A, model="gpt-5.4",
            auth_index="66d13d85650d8873", source="alice@example.com", latency_ms=8123,
            reported=Reported(5800, 414, 256, 4096, 6214, None, None), normalised=Normalised(1704, 4096, 0, 414, 0),
        ),
        record(
            occurred_at_ns=at(2026, 4, 30, 15, 4, 5, ns=123_456_789), client_key=TEAM_A, model="gpt-image-2",
            auth_index="66d13d85650d8873", source="alice@example.com", latency_ms=8123,
            reported=Reported(1030, 1056, 0, 0, 2086, None, None), normalised=Normalised(1030, 0, 0, 1056, 0),
        ),
        record(
            occurred_at_ns=at(2026, 4, 30, 15, 5, 10, ns=500_000_000), client_key=TEAM_A, model="claude-sonnet-4-6",
            auth_index="0fa0d75fb0864f6f", source="bob@example.com", latency_ms=412,
            outcome="failed", failed=True, error="failed",
        ),
        record(
            occurred_at_ns=at(2026, 4, 30, 15, 5, 10, ns=950_001_000), client_key=TEAM_A, model="claude-sonnet-4-6",
            auth_index="a42ef15871a24ae9", source="sk-ant-EXAMPLE-0001", latency_ms=5230,
            reported=Reported(12, 1000, 0, 48213, 1012, None, None), normalised=Normalised(12, 48213, 0, 1000, 0),
        ),
    ],
    "snapshot-adapter.json": [
        record(
            occurred_at_ns=at(2026, 8, 22, 3, 11, 2, ns=481_920_113), client_key=TEAM_A, model="gpt-5.4",
            source="alice@example.com",
            reported=Reported(5800, 414, 256, 4096, 6214, 4096, 0), normalised=Normalised(1704, 4096, 0, 414, 0),
        ),
    ],
    "snapshot-empty.json": [],
    "snapshot-null.json": [],
    "export.json": [],
}  # fmt: skip
ALL = sorted(path.name for path in PAYLOADS.glob("*.json"))
NO_USAGE = [name for name in ALL if name not in QUEUES and name not in SNAPSHOTS]


@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_answer_of_the_corpus_is_read_exactly(name):
    told = "7.2.140" in name  # the version that breaks its counts down itself
    expected = [msgspec.structs.replace(r, classified=told) for r in QUEUES[name]]
    assert decode_queue(corpus(name)) == Decoded(records=expected, bad=[])


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_of_the_corpus_is_read_exactly(name):
    assert read_snapshot(corpus(name)) == Decoded(records=SNAPSHOTS[name], bad=[])


@pytest.mark.parametrize("name", NO_USAGE)
def test_any_other_answer_of_the_corpus_is_neither_queue_nor_snapshot(name):
    payload = corpus(name)
    decoded = decode_queue(payload)
    assert (decoded.records, decoded.complete) == ([], False)
    assert decoded.bad
    assert "holds no usage that can be read" in decoded.fault
    with pytest.raises(BadValueError, match="not a usage snapshot"):
        list(decode_snapshot(payload))


def test_the_corpus_holds_what_the_tests_above_expect():
    assert {*QUEUES, *SNAPSHOTS} < set(ALL)
    assert len(NO_USAGE) == 19


@pytest.mark.parametrize("name", [*QUEUES, *SNAPSHOTS])
def test_no_record_shows_a_secret_in_its_repr(name):
    shown = repr([*QUEUES.get(name, []), *SNAPSHOTS.get(name, [])])
    assert not any(secret in shown for secret in SECRETS)


def test_a_bad_record_shows_no_bytes_in_its_repr():
    bad = BadRecord(reason="not a JSON object", raw=TEAM_A.encode(), client_key=TEAM_A, model="m")
    assert repr(bad) == "<BadRecord not a JSON object>"


# -- timestamps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-08-22T03:11:02Z", at(2026, 8, 22, 3, 11, 2)),
        *((f"2026-08-22T03:11:02.{'123456789'[:n]}Z",
           at(2026, 8, 22, 3, 11, 2, ns=int("123456789"[:n].ljust(9, "0")))) for n in range(1, 10)),
        ("2026-08-22T03:11:02.000000001Z", at(2026, 8, 22, 3, 11, 2, ns=1)),
        ("2026-08-22T03:11:02.1234567899Z", at(2026, 8, 22, 3, 11, 2, ns=123_456_789)),
        (f"2026-08-22T03:11:02.{'9' * 40}Z", at(2026, 8, 22, 3, 11, 2, ns=999_999_999)),
        ("2026-08-22T03:11:02+08:00", at(2026, 8, 21, 19, 11, 2)),
        ("2026-08-22T03:11:02.5-09:30", at(2026, 8, 22, 12, 41, 2, ns=500_000_000)),
        ("2026-08-22T03:11:02+05:45", at(2026, 8, 21, 21, 26, 2)),
        ("2026-08-22T03:11:02+00:00", at(2026, 8, 22, 3, 11, 2)),
        ("2026-08-22T03:11:02-00:00", at(2026, 8, 22, 3, 11, 2)),
        ("2026-08-22t03:11:02z", at(2026, 8, 22, 3, 11, 2)),
        ("2026-08-22 03:11:02Z", at(2026, 8, 22, 3, 11, 2)),
        ("2024-02-29T23:59:59.999999999Z", at(2024, 2, 29, 23, 59, 59, ns=999_999_999)),
        ("2020-01-01T00:00:00Z", at(2020, 1, 1, 0, 0, 0)),
        ("2099-12-31T23:59:59.999999999Z", at(2099, 12, 31, 23, 59, 59, ns=999_999_999)),
    ],
)  # fmt: skip
def test_a_timestamp_is_read_to_the_nanosecond(written, meant):
    assert timestamp_ns(written) == meant
    assert one(timestamp=written).occurred_at_ns == meant


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (None, "`timestamp` is missing"),
        ("", "`timestamp` is missing"),
        (1782098400, "`timestamp`: Expected `str`, got `int`"),
        (True, "`timestamp`: Expected `str`, got `bool`"),
        ({"seconds": 1}, "`timestamp`: Expected `str`, got `object`"),
        ("2026-08-22T03:11:02", "`timestamp` '2026-08-22T03:11:02' is not an RFC 3339 time with an offset"),
        ("2026-08-22", "`timestamp` '2026-08-22' is not an RFC 3339 time with an offset"),
        ("2026-08-22T03:11Z", "`timestamp` '2026-08-22T03:11Z' is not an RFC 3339 time with an offset"),
        ("2026-08-22T03:11:02.Z", "is not an RFC 3339 time with an offset"),
        ("2026-08-22T03:11:02,5Z", "is not an RFC 3339 time with an offset"),
        ("2026-08-22T03:11:02+0800", "is not an RFC 3339 time with an offset"),
        (" 2026-08-22T03:11:02Z", "is not an RFC 3339 time with an offset"),
        ("2026-08-22T03:11:02Z\n", "is not an RFC 3339 time with an offset"),
        ("yesterday", "`timestamp` 'yesterday' is not an RFC 3339 time with an offset"),
        ("\0", "`timestamp` '\ufffd' is not an RFC 3339 time with an offset"),
        ("0001-01-01T00:00:00Z", "`timestamp` '0001-01-01T00:00:00Z' is not between 2020 and 2100"),
        ("0001-01-01T00:00:00+14:00", "`timestamp` '0001-01-01T00:00:00+14:00' is not between 2020 and 2100"),
        ("9999-12-31T23:59:59-14:00", "is not between 2020 and 2100"),
        ("2020-01-01T00:00:00+00:01", "is not between 2020 and 2100"),
        ("2100-01-01T00:00:00Z", "is not between 2020 and 2100"),
        ("2026-02-29T00:00:00Z", "`timestamp` '2026-02-29T00:00:00Z': day is out of range for month"),
        ("2026-13-01T00:00:00Z", "`timestamp` '2026-13-01T00:00:00Z': month must be in 1..12"),
        ("2026-06-30T23:59:60Z", "`timestamp` '2026-06-30T23:59:60Z': second must be in 0..59"),
        ("2026-08-22T25:00:00Z", "`timestamp` '2026-08-22T25:00:00Z': hour must be in 0..23"),
        ("2026-08-22T03:11:02+24:00", "`timestamp` '2026-08-22T03:11:02+24:00': "),
    ],
)
def test_a_record_without_a_usable_timestamp_is_set_aside_with_its_reason(written, reason):
    decoded = queue(item(timestamp=written, model="m"), item(model="sibling"))
    assert [r.labels.model for r in decoded.records] == ["sibling"]
    (bad,) = decoded.bad
    assert reason in bad.reason
    assert json.loads(bad.raw) == {"timestamp": written, "model": "m"}


def test_a_reason_quotes_no_more_than_forty_characters_of_a_timestamp():
    (bad,) = queue(item(timestamp="x" * 5000)).bad
    assert len(bad.reason) < 120


@steady
@given(st.integers(at(2020, 1, 1, 0, 0, 0), at(2100, 1, 1, 0, 0, 0) - 1), st.sampled_from(["Z", "+08:00", "-03:30"]))
def test_every_time_that_the_proxy_can_write_is_read_back(ns, offset):
    assert timestamp_ns(traffic.stamp(ns, offset)) == ns


def test_records_one_nanosecond_apart_are_two():
    first, second = queue(
        item(timestamp="2026-08-22T12:00:00.000000001Z"), item(timestamp="2026-08-22T12:00:00.000000002Z")
    ).records
    assert identity(first) != identity(second)
    assert first.ordinal == second.ordinal == 0


def test_one_instant_in_two_time_zones_is_one():
    utc, shanghai = one(timestamp="2026-08-22T04:00:00.5Z"), one(timestamp="2026-08-22T12:00:00.500000000+08:00")
    assert utc == shanghai


# -- fields --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (0, "0"),
        (17, "17"),
        (18446744073709551615, "18446744073709551615"),
        ("0", "0"),
        ("45333f9784294f6d", "45333f9784294f6d"),
        (" 45333f9784294f6d ", "45333f9784294f6d"),
        ("", ""),
        (None, ""),
        (True, ""),
        (False, ""),
        (1.5, ""),
        (float("nan"), ""),
        ({"index": 1}, ""),
        ([1], ""),
    ],
)
def test_an_auth_index_is_read_as_text_and_what_is_none_costs_only_itself(told, read):
    assert one(auth_index=told, model="m", source="s").labels.auth_index == read


def test_nulls_everywhere_are_as_good_as_nothing():
    names = (
        "latency_ms", "ttft_ms", "source", "auth_index", "tokens", "token_breakdown", "failed", "generate", "fail",
        "provider", "executor_type", "model", "alias", "endpoint", "auth_type", "api_key", "request_id",
        "reasoning_effort", "service_tier", "response_service_tier", "response_headers", "client_ip",
    )  # fmt: skip
    nothing = record(occurred_at_ns=at(2026, 8, 22, 12, 0, 0), model="unknown")
    assert one(**dict.fromkeys(names)) == one() == nothing
    tokens = dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens"))
    assert one(tokens=tokens) == nothing
    assert one(fail={"status_code": None, "body": None}) == nothing
    empty = {"quality": "complete", "input": None, "output": None}
    assert one(tokens=tokens, token_breakdown=empty) == msgspec.structs.replace(nothing, classified=True)


def test_fields_that_are_not_known_are_ignored():
    extra = {"trace_id": "x", "node_kind": "agent", "response_headers": {"A": ["b"]}, "x": [{}]}
    more = {"tokens": {"input_tokens": 1, "cache_read_tokens_present": True, "audio_tokens": "many"}}
    assert one(**extra, **more) == one(tokens={"input_tokens": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_ms": "8420"},
        {"latency_ms": 1.5},
        {"ttft_ms": [1]},
        {"source": 7},
        {"provider": {"name": "codex"}},
        {"model": 5},
        {"alias": False},
        {"endpoint": []},
        {"api_key": 12},
        {"request_id": 12345678},
        {"service_tier": {}},
        {"reasoning_effort": 3},
        {"fail": "429"},
        {"fail": {"status_code": "429"}},
        {"token_breakdown": "complete"},
        {"token_breakdown": {"input": [1]}},
        {"executor_type": 1},
        {"auth_type": 1},
    ],
    ids=str,
)
def test_a_field_of_the_wrong_type_that_can_be_done_without_is_dropped(wrong):
    (name,) = wrong
    assert one(**wrong) == one(**{name: None})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"tokens": [1]}, "`tokens`: Expected `object`, got `array`"),
        ({"tokens": {"input_tokens": "12"}}, "`tokens`: Expected `int | null`, got `str` - at `$.input_tokens`"),
        ({"tokens": {"total_tokens": True}}, "`tokens`: Expected `int | null`, got `bool`"),
        ({"tokens": {"output_tokens": 1.5}}, "`tokens`: Expected `int | null`, got `float`"),
        ({"tokens": {"input_tokens": -1}}, "`tokens`: input is -1, which is no count of tokens"),
        ({"tokens": {"cached_tokens": COUNT_MAX + 1}}, f"`tokens`: cached is {COUNT_MAX + 1}, which is no count"),
        ({"tokens": {"total_tokens": 2**63}}, "`tokens`: total is 9223372036854775808, which is no count"),
        ({"tokens": {"cache_read_tokens": -5}}, "`tokens`: cache_read is -5, which is no count"),
        ({"tokens": {"cache_creation_tokens": 10**30}}, "`tokens`: cache_write is 1000000"),
        ({"tokens": {"input_tokens": float("inf")}}, "`tokens`: Expected `int | null`, got `float`"),
        ({"failed": "no"}, "`failed`: Expected `bool`, got `str`"),
        ({"failed": 0}, "`failed`: Expected `bool`, got `int`"),
        ({"generate": "true"}, "`generate`: Expected `bool`, got `str`"),
    ],
)
def test_a_record_that_cannot_be_counted_is_set_aside_with_its_reason(wrong, reason):
    decoded = queue(item(model="before"), item(**wrong), item(model="after"))
    assert [r.labels.model for r in decoded.records] == ["before", "after"]
    assert [b.reason[: len(reason)] for b in decoded.bad] == [reason]
    assert decoded.complete


def test_the_largest_count_is_a_count():
    tokens = {"input_tokens": COUNT_MAX, "total_tokens": COUNT_MAX}
    assert one(tokens=tokens, provider="codex").normalised == Normalised(COUNT_MAX, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("told", "read"),
    [(1, 1), (DURATION_MAX_MS, DURATION_MAX_MS), (0, None), (-1, None), (DURATION_MAX_MS + 1, None), (10**30, None)],
)
def test_a_duration_that_was_not_measured_or_cannot_be_is_none(told, read):
    assert one(latency_ms=told).latency_ms == read
    assert one(ttft_ms=told).ttft_ms == read


@pytest.mark.parametrize(
    ("told", "outcome", "failed"),
    [
        ({}, "success", False),
        ({"failed": True}, "failed", True),
        ({"failed": False, "fail": {"status_code": 500}}, "success", False),
        ({"fail": {"status_code": 399}}, "success", False),
        ({"fail": {"status_code": 400}}, "failed", True),
        ({"generate": False}, "warmup", False),
        ({"generate": False, "failed": True}, "warmup", True),
        ({"generate": True}, "success", False),
    ],
)
def test_an_outcome_is_what_the_proxy_says_or_its_status_where_it_does_not(told, outcome, failed):
    read = one(**told)
    assert (read.labels.outcome, read.labels.failed) == (outcome, failed)


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (None, "failed"),
        ({"status_code": 429, "body": "quota exhausted"}, "http_429"),
        ({"status_code": 429, "body": '{"error": {"type": "rate_limit_error"}}'}, "rate_limit_error"),
        ({"status_code": 400, "body": '{"error": {"type": null, "code": "invalid_request"}}'}, "invalid_request"),
        ({"status_code": 400, "body": '{"error": {"code": 400}}'}, "http_400"),
        ({"status_code": 401, "body": '{"error": {"type": "sk-ant-EXAMPLE-0001"}}'}, "http_401"),
        ({"status_code": 401, "body": '{"error": {"type": "' + "a" * 65 + '"}}'}, "http_401"),
        ({"status_code": 401, "body": '{"error": "Incorrect API key sk-ant-EXAMPLE-0001"}'}, "http_401"),
        ({"status_code": 500, "body": '["error"]'}, "http_500"),
        ({"status_code": 500, "body": '{"error": '}, "http_500"),
        ({"status_code": 500, "body": "[" * 50_000}, "http_500"),
        ({"status_code": 0, "body": ""}, "failed"),
    ],
)
def test_an_error_is_a_class_and_never_the_body(fail, error):
    assert one(failed=True, fail=fail).error == error


@pytest.mark.parametrize(("told", "read"), [(200, 200), (999, 999), (1000, None), (0, None), (-1, None)])
def test_a_status_has_three_digits(told, read):
    assert one(fail={"status_code": told}).status_code == read


def test_names_are_trimmed_cut_and_cleaned():
    read = one(model="  gpt\0-5 ", alias="a" * 151, provider="p" * 150, source=" alice@example.com\n")
    assert read.labels.model == "gpt\ufffd-5"
    assert read.labels.alias == "a" * 149 + "…"
    assert read.labels.provider == "p" * 150
    assert read.labels.source == "alice@example.com"


def test_an_alias_that_is_not_told_is_the_model():
    assert one(model="gpt-5.4", alias="").labels.alias == "gpt-5.4"


@pytest.mark.parametrize("answered", ["default", "priority", ""])
def test_the_tier_that_was_asked_for_and_the_one_that_was_used_are_two_facts(answered):
    read = one(service_tier="priority", response_service_tier=answered)
    assert (read.service_tier, read.response_service_tier) == ("priority", answered)


def test_what_was_set_aside_before_the_used_tier_was_kept_can_be_retried():
    told = msgspec.to_builtins(one(service_tier="flex"))
    del told["response_service_tier"]
    assert decode_quarantined(json.dumps({"decoded": told})) == one(service_tier="flex")


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ({"fail": {"status_code": 499, "body": "context canceled"}}, "cancelled"),
        ({"fail": {"status_code": 499, "body": ""}}, "cancelled"),
        ({"fail": {"status_code": 499}, "failed": None}, "cancelled"),
        ({"fail": {"status_code": 200, "body": "context canceled"}}, "cancelled"),
        ({"fail": {"status_code": 200, "body": 'Post "https://api.example.com/v1": context canceled\n'}}, "cancelled"),
        ({"fail": {"status_code": 0, "body": "context canceled"}}, "cancelled"),
        ({"fail": {"body": "context canceled"}}, "cancelled"),
        ({"fail": {"status_code": 499, "body": "context canceled"}, "generate": False}, "warmup"),
        ({"fail": {"status_code": 499, "body": "context canceled"}, "failed": False}, "success"),
        ({"fail": {"status_code": 200, "body": "context canceled"}, "failed": False}, "success"),
        # what an upstream says of itself, or a client in its prompt, is no word of the proxy's
        ({"fail": {"status_code": 500, "body": "context canceled"}}, "failed"),
        ({"fail": {"status_code": 200, "body": "the context canceled the request"}}, "failed"),
        ({"fail": {"status_code": 200, "body": "context canceled by upstream"}}, "failed"),
        ({"fail": {"status_code": 200, "body": "context deadline exceeded"}}, "failed"),
        ({"fail": {"status_code": 408, "body": "timeout"}}, "failed"),
        ({"fail": None}, "failed"),
    ],
)
def test_what_the_client_cancelled_is_no_failure(told, outcome):
    read = one(**{"failed": True, **told})
    assert read.labels.outcome == outcome
    assert read.labels.failed == (told.get("failed", True) is not False)  # as the proxy says it: its identity stays


def test_labels_that_are_remembered_tell_failed_from_cancelled():
    told = {"failed": True, "model": "remembered"}
    assert [
        one(**told, fail={"status_code": status}).labels.outcome for status in (500, 499, 500)
    ] == ["failed", "cancelled", "failed"]  # fmt: skip


@steady
@given(st.text(max_size=300))
@example("\ud83d\ude00 as two surrogates \udc00\0")
def test_what_is_read_is_text_that_postgresql_takes(value):
    for name in (clean(value), text(value)):
        assert "\0" not in name
        assert name.encode().decode() == name  # no lone surrogate is left
    assert len(text(value)) <= TEXT_MAX_CHARS
    assert text(value) == text(value).strip()
    read = one(model=f"m{value}", api_key=value, source=value, alias=value, request_id=value)
    msgspec.json.encode(read)
    assert "\0" not in read.labels.client_key + read.labels.source + read.labels.alias


@pytest.mark.parametrize("name", ["model", "source", "api_key", "alias", "user_agent"])
@pytest.mark.parametrize(
    "raw", [rb"a\u0000b", rb"a\ud800b", rb"a\udc00\ud800b", b"a\xffb", b"a\xed\xa0\x80b", b"a\xc3"]
)
def test_nul_lone_surrogates_and_broken_utf8_cost_neither_record_nor_sibling(name, raw):
    payload = b'[{"timestamp": "%b", "%b": "%b"}, {"timestamp": "%b", "model": "sibling"}]' % (
        NOON.encode(), name.encode(), raw, NOON.encode(),
    )  # fmt: skip
    decoded = decode_queue(payload)
    assert decoded.bad == []
    spoilt, sibling = decoded.records
    assert sibling.labels.model == "sibling"
    shown = {
        "model": spoilt.labels.model,
        "source": spoilt.labels.source,
        "api_key": spoilt.labels.client_key,
        "alias": spoilt.labels.alias,
    }
    assert re.fullmatch("a\ufffd{1,6}b?", shown.get(name, "a\ufffd"))


# -- the proxy's own breakdown -------------------------------------------------------------------------------------


def breakdown(quality="complete", total=1100, prompt=(1000, 300, 600, 100), output=(100, 80, 20), unclassified=0):
    return {
        "quality": quality,
        "total_tokens": total,
        "input": dict(
            zip(("total_tokens", "uncached_tokens", "cache_read_tokens", "cache_write_tokens"), prompt, strict=True)
        ),
        "output": dict(zip(("total_tokens", "non_reasoning_tokens", "reasoning_tokens"), output, strict=True)),
        "unclassified_tokens": unclassified,
    }


RAW = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


def test_a_complete_breakdown_wins_over_the_arithmetic_of_the_family():
    read = one(tokens=RAW, token_breakdown=breakdown(), provider="claude")
    assert read.normalised == Normalised(300, 600, 100, 100, 0)
    assert read.reported == Reported(7, 3, 0, 0, 10, None, None)


@pytest.mark.parametrize(
    "spoilt",
    [
        breakdown(quality="inconsistent"),
        breakdown(quality="unclassified"),
        breakdown(quality=""),
        breakdown(prompt=(1000, 300, 600, 101)),
        breakdown(output=(100, 81, 20)),
        breakdown(total=1101),
        breakdown(total=1105, unclassified=5),
        breakdown(prompt=(1000, 1600, -700, 100)),
        breakdown(output=(100, 120, -20)),
        breakdown(total=2 * 10**15, prompt=(2 * 10**15 - 100, 2 * 10**15 - 100, 0, 0)),
        breakdown() | {"input": None},
        breakdown() | {"output": None},
    ],
    ids=["inconsistent", "unclassified", "no quality", "input", "output", "total", "remainder", "negative input",
         "negative output", "too large", "no input", "no output"],
)  # fmt: skip
def test_a_breakdown_that_is_not_complete_or_does_not_add_up_does_not_count(spoilt):
    assert one(tokens=RAW, token_breakdown=spoilt, provider="codex").normalised == Normalised(7, 0, 0, 3, 0)


def test_what_a_breakdown_leaves_out_is_zero():
    short = {"quality": "complete", "total_tokens": 13, "input": {"total_tokens": 10, "uncached_tokens": 10}}
    short["output"] = {"total_tokens": 3, "non_reasoning_tokens": 3}
    assert one(tokens=RAW, token_breakdown=short).normalised == Normalised(10, 0, 0, 3, 0)
    nothing = {"quality": "complete", "input": {}, "output": {}}
    assert one(tokens={}, token_breakdown=nothing).normalised == NOTHING


@pytest.mark.parametrize("rendering", ["7.2.140", "6.10.8"])
def test_the_queue_of_made_up_traffic_is_read_as_it_was_meant(rendering):
    calls = Traffic(3).generate(400)
    decoded = queue(*(traffic.queue_item(call, rendering) for call in calls))
    assert decoded.bad == []
    for call, read in zip(calls, decoded.records, strict=True):
        assert read.normalised == traffic.normalised(call, rendering)
        assert read.reported[:5] == traffic.reported(call, rendering)
        assert read.labels.outcome == traffic.outcome(call, rendering)
        assert read.labels.provider == traffic.provider_name(call, rendering)
        assert (read.occurred_at_ns, read.labels.model, read.labels.alias) == (
            call.timestamp_ns,
            call.model,
            call.alias,
        )
        assert (read.labels.client_key, read.labels.source, read.labels.endpoint) == (
            call.client_key,
            call.source,
            call.endpoint,
        )
        assert (read.latency_ms or 0, read.labels.auth_index) == (call.latency_ms, call.auth_index)


# -- what of a snapshot has been read before ----------------------------------------------------------------------


def grown(lists):
    models = {f"m{n}": {"details": details} for n, details in enumerate(lists)}
    return dumped({"usage": {"apis": {TEAM_A: {"models": models}}}})


def follow(bodies):
    """Read snapshots one after the other, each from where the one before was read to."""
    cursors, records, read = {}, [], []
    for body in bodies:
        parts = list(decode_snapshot(body, KEYRING, dict(cursors), chunk=3))
        found = [r for part in parts for r in part.records]
        for part in parts:
            cursors |= part.cursors
        records += found
        read.append(len(found))
    return records, read


STAMPS = [
    "2026-08-22T12:00:00Z", "2026-08-22T20:00:00+08:00", "2026-08-22T12:00:00.5Z", "2026-08-22T12:00:00.500000001Z",
    "2026-08-22T12:00:01.25Z", "2026-08-22T11:59:59.75Z",
]  # fmt: skip
details = st.builds(
    lambda stamp, tokens: {"timestamp": stamp, "source": "s", "tokens": {"input_tokens": tokens}},
    st.sampled_from(STAMPS), st.integers(0, 1),
)  # fmt: skip


@pytest.mark.parametrize("recent", [1, 2, 128])
@settings(steady, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.lists(details, max_size=4), min_size=2, max_size=2), min_size=1, max_size=5), st.booleans())
def test_a_snapshot_that_grows_is_read_once_and_wholly(monkeypatch, recent, steps, restarts):
    monkeypatch.setattr(snapshot, "RECENT_INSTANTS", recent)
    lists = [[], []]
    bodies = []
    for n, added in enumerate(steps):
        lists = [[*old, *new] for old, new in zip(lists, added, strict=True)]
        if restarts and n == len(steps) // 2:
            lists = [old[1:] for old in lists]  # the proxy has forgotten something
        bodies.append(grown(lists))
    records, _ = follow(bodies)
    wanted = [r for body in bodies for r in read_snapshot(body).records]
    assert {identity(r) for r in records} == {identity(r) for r in wanted}


def test_only_what_was_added_to_a_snapshot_is_read():
    first = [{"timestamp": f"2026-08-22T12:00:{n:02d}.123Z"} for n in range(20)]
    added = [{"timestamp": "2026-08-22T13:00:00Z"}]
    _, read = follow([grown([first, first]), grown([first, first]), grown([first, first + added])])
    assert read == [40, 0, 1]


def test_a_list_whose_past_has_changed_is_read_anew():
    first = [{"timestamp": f"2026-08-22T12:00:{n:02d}.123Z"} for n in range(20)]
    _, read = follow([grown([first]), grown([first[1:]]), grown([[]]), grown([first[:5]]), grown(["no list"])])
    assert read == [20, 19, 0, 5, 0]


def test_what_cannot_be_read_in_a_snapshot_is_told_once():
    bodies = [grown([[{"timestamp": "soon"}]]), grown([[{"timestamp": "soon"}, {"timestamp": NOON}]])]
    cursors = {}
    for body, (bad, good) in zip(bodies, [(1, 0), (0, 1)], strict=True):
        (part,) = decode_snapshot(body, KEYRING, cursors)
        assert (len(part.bad), len(part.records)) == (bad, good)
        cursors = dict(part.cursors)
    assert list(decode_snapshot(bodies[-1], KEYRING, cursors)) == []


# -- identity ------------------------------------------------------------------------------------------------------


def test_records_that_share_an_identity_within_a_payload_are_numbered():
    twins = [item(model="m"), item(model="other"), item(model="m"), item(model="m")]
    strict, by_item = queue(*twins).records, queue(None, *twins).records
    for records in (strict, by_item):
        assert [r.ordinal for r in records] == [0, 0, 1, 2]
        assert len(set(identities(records))) == 4
    assert identities(strict) == identities(by_item) == identities(queue(*twins).records)


@pytest.mark.parametrize(
    "one_field",
    [
        {"model": "other"},
        {"api_key": "other"},
        {"source": "other"},
        {"auth_index": "other"},
        {"failed": True},
        *({"tokens": {name: 1}} for name in
          ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "total_tokens")),
    ],
    ids=str,
)  # fmt: skip
def test_each_part_of_the_identity_tells_two_records_apart(one_field):
    first, second = queue(item(), item(**one_field)).records
    assert identity(first) != identity(second)
    assert second.ordinal == 0


def test_the_upstream_is_part_of_the_identity():
    assert identity(one(), "one", KEYRING) != identity(one(), "two", KEYRING)


@pytest.mark.parametrize("unsaid", ["provider", "endpoint", "request_id", "alias", "auth_type", "executor_type"])
def test_what_a_snapshot_does_not_tell_is_no_part_of_the_identity(unsaid):
    assert identity(one(**{unsaid: "x"})) == identity(one())


def test_an_identity_holds_no_secret():
    shown = "".join(identities(decode_queue(corpus("queue-v7.2.140.json")).records))
    assert not any(secret in shown for secret in SECRETS)


@settings(steady, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.lists(st.integers(0, 39), max_size=6),
    st.sampled_from(["Z", "+08:00"]),
)
def test_a_record_is_the_same_through_the_queue_and_through_a_snapshot(seed, n, again, offset):
    calls = Traffic(seed).generate(n)
    calls += [calls[i % n] for i in again]  # calls that nothing tells apart
    through_queue = queue(*(traffic.queue_item(call, "6.10.8") for call in calls))
    through_snapshot = read_snapshot(traffic.snapshot(calls, "string", offset))
    assert through_queue.bad == through_snapshot.bad == []
    assert len(set(identities(through_queue.records))) == len(calls)
    assert sorted(identities(through_queue.records)) == sorted(identities(through_snapshot.records))


def test_a_record_is_the_same_through_a_snapshot_and_the_newest_queue_where_both_report_alike():
    calls = [call for call in Traffic(5).generate(300) if call.family != "independent"]
    modern = identities(queue(*(traffic.queue_item(call, "7.2.140") for call in calls)).records)
    assert sorted(modern) == sorted(identities(read_snapshot(traffic.snapshot(calls)).records))


@pytest.mark.parametrize("auth_index", ["string", "int"])
def test_a_snapshot_of_made_up_traffic_is_read_as_it_was_meant(auth_index):
    rendering = "snapshot" if auth_index == "string" else "snapshot-int"
    calls = {call.timestamp_ns: call for call in Traffic(4).generate(400)}
    decoded = read_snapshot(traffic.snapshot(calls.values(), auth_index))
    assert decoded.bad == []
    assert len(decoded.records) == len(calls)
    for read in decoded.records:
        call = calls[read.occurred_at_ns]
        assert read.normalised == traffic.normalised(call, rendering)
        assert (read.labels.client_key, read.labels.model, read.labels.failed) == (
            call.client_key,
            call.model,
            call.failed,
        )
        assert read.labels.endpoint == ("" if call.client_key else call.endpoint)
        assert read.labels.auth_index == (call.auth_index if auth_index == "string" else str(call.auth_number))


# -- queue payloads that are not whole -----------------------------------------------------------------------------


def test_a_string_that_holds_an_item_is_one():
    inside = json.dumps(item(model="gpt-5.4", source="Ünï ☂"))
    assert queue(inside, item(model="sibling")).records == [
        one(model="gpt-5.4", source="Ünï ☂"),
        one(model="sibling"),
    ]


@pytest.mark.parametrize("inside", ["", "no JSON", "7", "null", "[]", '"twice"', '{"model": "no time"}', "{"])
def test_a_string_that_holds_no_item_is_set_aside(inside):
    decoded = queue(inside, item(model="sibling"))
    assert [r.labels.model for r in decoded.records] == ["sibling"]
    assert [json.loads(b.raw) for b in decoded.bad] == [inside]
    assert decoded.bad[0].reason


def test_what_the_proxy_tells_subscribers_is_no_usage_and_no_error():
    control = [{"refresh": True}, {"support_refresh": True}, {"support_refresh": True, "refresh": False}]
    decoded = queue(control[0], item(), control[1], json.dumps(control[2]))
    assert decoded == Decoded(records=[one()], bad=[], skipped=3)


@pytest.mark.parametrize("junk", [{}, {"refresh": True, "model": "m"}, None, 7, 1.5, True, [], [item()]], ids=str)
def test_what_is_no_item_is_set_aside(junk):
    decoded = queue(item(model="before"), junk, item(model="after"))
    assert [r.labels.model for r in decoded.records] == ["before", "after"]
    assert [json.loads(b.raw) for b in decoded.bad] == [junk]
    assert decoded.complete


@pytest.mark.parametrize("payload", [b"[]", b" [ ] \n", b"[\t]"])
def test_an_empty_queue_is_complete(payload):
    assert decode_queue(payload) == Decoded(records=[], bad=[])


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "is empty"), (b" \n", "is empty"), (b"7", "no usage"), (b'"["', "no usage"), (b"{}", "no usage"),
        (b"<html>[</html>", "no usage"), (b"\xff\xfe[", "no usage"), (b"\0[]", "no usage"),
        (b"404 page not found", "no usage"), (b"true", "no usage"), (b"[", "breaks off"), (b'{"data": [', "no usage"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_usage_is_set_aside_and_said_to_be_none(payload, said):
    decoded = decode_queue(payload)
    assert (decoded.records, len(decoded.bad), decoded.complete) == ([], 1, False)
    assert said in decoded.fault


def test_null_is_an_empty_queue():
    assert decode_queue(b"null") == Decoded(records=[], bad=[])


@pytest.mark.parametrize("rest", [b" x", b"[]", b"\0", b"<!-- 12 ms -->"])
def test_what_follows_an_array_is_set_aside(rest):
    decoded = decode_queue(dumped([item(), item(model="m")]) + rest)
    assert len(decoded.records) == 2
    assert [b.raw for b in decoded.bad] == [rest.strip()]
    assert not decoded.complete


def ends(parts, payload):
    """Where each part ends in the payload."""
    found, start = [], 0
    for part in parts:
        start = payload.index(part, start) + len(part)
        found.append(start)
    return found


def check_cut(payload, stops, whole, cut):
    decoded = decode_queue(payload[:cut])
    expected = [read for read, stop in zip(whole, stops, strict=True) if stop <= cut]
    assert decoded.records == expected
    assert len(decoded.bad) == 1
    assert not decoded.complete


def test_an_answer_cut_at_any_byte_keeps_its_whole_items_and_invents_none():
    items = [dumped(traffic.queue_item(call)) for call in Traffic(11).generate(3)]
    items.insert(1, dumped(json.dumps(item(model="in a string ☂"))))
    payload = b"[" + b",".join(items) + b"]"
    stops, whole = ends(items, payload), decode_queue(payload).records
    assert len(whole) == 4
    for cut in range(len(payload)):
        check_cut(payload, stops, whole, cut)


@steady
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.sampled_from(["7.2.140", "6.10.8"]),
    st.lists(st.sampled_from([b"", b" ", b"\n  ", b"\t"]), min_size=14, max_size=14),
    st.floats(0, 1, exclude_max=True),
)
def test_a_cut_does_no_more_harm_with_blanks_between(seed, n, version, blanks, where):
    items = [dumped(traffic.queue_item(call, version)) for call in Traffic(seed).generate(n)]
    padded = [before + part + after for before, part, after in zip(blanks, items, blanks[n:], strict=False)]
    payload = b"[" + b",".join(padded) + blanks[-1] + b"]"
    check_cut(payload, ends(items, payload), decode_queue(payload).records, int(where * len(payload)))


FIELDS = ("timestamp", "tokens", "model", "source", "auth_index", "fail", "failed", "refresh", "usage", "api_key")
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
finite = anything.map(lambda value: json.loads(json.dumps(value), parse_constant=lambda _: 1e300))
good = st.builds(
    item,
    model=st.sampled_from(["gpt-5.4", "gemini-2.5-pro", "Ünï ☂"]),
    auth_index=st.none() | st.integers(0, 99) | st.text("0123456789abcdef", min_size=16, max_size=16),
    tokens=st.builds(dict, input_tokens=st.integers(0, COUNT_MAX)),
)


def is_control(value):
    return isinstance(value, dict) and bool(value) and set(value) <= {"refresh", "support_refresh"}


def check_siblings(mixed, decoded):
    assert [r.labels.model for r in decoded.records] == [value["model"] for is_good, value in mixed if is_good]
    wanted = [one(**{k: v for k, v in value.items() if k != "timestamp"}) for is_good, value in mixed if is_good]
    told = [(r.labels.auth_index, r.reported) for r in decoded.records]
    assert told == [(r.labels.auth_index, r.reported) for r in wanted]
    junk = [value for is_good, value in mixed if not is_good and not is_control(value)]
    assert len(decoded.bad) == len(junk)
    assert all(bad.reason for bad in decoded.bad)
    assert decoded.complete


mixtures = st.lists(
    st.tuples(st.just(value=True), good) | st.tuples(st.just(value=False), anything), min_size=1, max_size=8
)


@steady
@given(mixtures, st.booleans())
def test_one_bad_record_never_costs_its_siblings_in_a_queue(mixed, escaped):
    payload = json.dumps([value for _, value in mixed], ensure_ascii=escaped)
    check_siblings(mixed, decode_queue(payload.encode("utf-8", "surrogatepass")))


@steady
@given(st.lists(st.tuples(st.just(value=True), good) | st.tuples(st.just(value=False), finite), max_size=8))
def test_one_bad_record_never_costs_its_siblings_in_a_snapshot(mixed):
    strip = [{k: v for k, v in value.items() if k != "model"} if is_good else value for is_good, value in mixed]
    mixed = [(is_good, value | {"model": "gpt-5.4"} if is_good else value) for is_good, value in mixed]
    check_siblings(mixed, read_snapshot(snapshot_of(*strip)))


@pytest.mark.parametrize("spoilt", [b"NaN", b"-Infinity", rb'"\ud800 x"', rb'"\udc00"', b'"\xff"'])
def test_json_that_is_not_quite_json_costs_no_sibling_in_a_snapshot(spoilt):
    snapshot = snapshot_of(item(source="one"), item(source="two", note="here"), item(source="three"))
    read = read_snapshot(dumped(snapshot).replace(b'"here"', spoilt))
    assert [r.labels.source for r in read.records] == ["one", "two", "three"]
    assert read.bad == []


# -- depth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [DEEP, "[" * 100_000, '{"a":' * 100_000, f"[{DEEP}]", f'["{DEEP}"]', f'[{{"timestamp":{DEEP}}}]', "[" + '"' * 9],
    ids=["nested", "never closed", "objects", "an item", "a string", "a field", "quotes"],
)
def test_deep_nesting_is_set_aside_and_never_crashes(payload):
    decoded = decode_queue(payload.encode())
    assert decoded.records == []
    assert decoded.bad
    for bad in decoded.bad:
        kept, _ = quarantine(bad, KEYRING)
        assert len(kept) < 200_000
    with pytest.raises(BadValueError):
        list(decode_snapshot(payload.encode()))


def test_a_deeply_nested_field_costs_no_sibling():
    deep = f'{{"timestamp": "{NOON}", "model": "deep", "x": {DEEP}}}'
    payload = b"[%b,%b,%b]" % (dumped(item(model="before")), deep.encode(), dumped(item(model="after")))
    decoded = decode_queue(payload)
    assert [r.labels.model for r in decoded.records if r.labels.model != "deep"] == ["before", "after"]


def test_what_is_nested_too_deep_in_a_snapshot_keeps_no_record_away():
    payload = dumped(snapshot_of(item())).replace(b'"details"', b'"x": %b, "details"' % DEEP.encode())
    (decoded,) = decode_snapshot(payload)
    assert (len(decoded.records), decoded.bad) == (1, [])


def test_a_snapshot_that_is_nothing_but_nested_is_refused_and_never_crashes():
    with pytest.raises(BadValueError, match="not a usage snapshot"):
        list(decode_snapshot(DEEP.encode()))


# -- snapshots -----------------------------------------------------------------------------------------------------

USAGE = snapshot_of(item(source="one"), item(source="two"))["usage"]


@pytest.mark.parametrize(
    "shape",
    [
        {"usage": USAGE},
        {"usage": USAGE, "failed_requests": 0, "meta": {"buffer_size": 1}},
        {"version": 1, "exported_at": "2026-05-01T12:00:00Z", "usage": USAGE},
        {"version": 3, "usage": USAGE | {"requests_by_day": None, "total_tokens": "many"}},
        USAGE,
        USAGE | {"usage": None},
    ],
    ids=["wrapper", "adapter", "export", "odd totals", "bare", "bare beside null"],
)
def test_a_snapshot_is_read_in_every_shape(shape):
    read = read_snapshot(shape)
    assert [(r.labels.client_key, r.labels.model, r.labels.source) for r in read.records] == [
        (TEAM_A, "gpt-5.4", "one"),
        (TEAM_A, "gpt-5.4", "two"),
    ]
    assert read.bad == []


@pytest.mark.parametrize(
    "empty",
    [
        {"usage": {}},
        {"usage": {"apis": None}},
        {"usage": {"apis": {}}},
        {"apis": {}},
        {"usage": {"apis": {TEAM_A: {}}}},
        {"usage": {"apis": {TEAM_A: {"models": None}}}},
        {"usage": {"apis": {TEAM_A: {"models": {"m": {}}}}}},
        {"usage": {"apis": {TEAM_A: {"models": {"m": {"details": None}}}}}},
        {"usage": {"apis": {TEAM_A: {"models": {"m": {"details": []}}}}}},
        {"usage": {"apis": {TEAM_A: None}}},
        {"usage": {"apis": {TEAM_A: {"models": {"m": None}}}}},
    ],
    ids=str,
)
def test_a_snapshot_with_nothing_in_it_is_nothing(empty):
    assert read_snapshot(empty) == Decoded(records=[], bad=[])


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"[]", b"{}", b'"usage"', b'{"usage": null}', b'{"usage": 7}', b'{"usage": {"apis": []}}',
        b'{"usage": {"apis": 7}}', b'{"error": "not found"}', b"<html></html>", b'{"usage": {"apis": {',
        b'{"usage": {"apis": {}}} x', b"\xff\xfe",
    ],
)  # fmt: skip
def test_what_is_no_snapshot_is_refused_whole(payload):
    with pytest.raises(BadValueError, match="not a usage snapshot"):
        list(decode_snapshot(payload))


def test_a_snapshot_cut_anywhere_is_refused_whole():
    payload = json.dumps(json.loads(corpus("snapshot-string-auth-index.json"))).encode()
    for cut in range(len(payload)):
        with pytest.raises(BadValueError, match="not a usage snapshot"):
            list(decode_snapshot(payload[:cut]))


@pytest.mark.parametrize(
    ("listed", "endpoint"),
    [
        ("POST /v1/chat/completions", "POST /v1/chat/completions"),
        ("GET /v1/models", "GET /v1/models"),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_a_client_without_a_key_is_listed_by_its_route(listed, endpoint):
    read = read_snapshot(snapshot_of(item(), api=listed))
    assert [(r.labels.client_key, r.labels.endpoint) for r in read.records] == [("", endpoint)]


@pytest.mark.parametrize("key", ["POST", "posting-key", "unknown-client", "a POST /v1/messages"])
def test_a_key_that_resembles_a_route_is_a_key(key):
    (read,) = read_snapshot(snapshot_of(item(), api=key)).records
    assert (read.labels.client_key, read.labels.endpoint) == (key, "")


@pytest.mark.parametrize("odd", [7, "x", True, [], [item()], {"details": {"0": item()}}, {"details": "x"}], ids=str)
def test_a_model_of_another_shape_costs_only_itself(odd):
    snapshot = snapshot_of(item(source="kept"))
    snapshot["usage"]["apis"][TEAM_A]["models"] = {"odd": odd} | snapshot["usage"]["apis"][TEAM_A]["models"]
    read = read_snapshot(snapshot)
    assert [r.labels.source for r in read.records] == ["kept"]
    assert [(b.client_key, b.model) for b in read.bad] == [(TEAM_A, "odd")]
    assert read.bad[0].reason


@pytest.mark.parametrize("odd", [7, "x", [], {"models": [item()]}, {"models": 7}], ids=str)
def test_a_client_of_another_shape_costs_only_itself(odd):
    snapshot = snapshot_of(item(source="kept"))
    snapshot["usage"]["apis"]["odd"] = odd
    read = read_snapshot(snapshot)
    assert [r.labels.source for r in read.records] == ["kept"]
    assert [b.client_key for b in read.bad] == ["odd"]


@pytest.mark.parametrize("nothing", [None, {}, {"models": None}, {"models": {"m": None}}], ids=str)
def test_nulls_beside_a_model_of_another_shape_are_still_nothing(nothing):
    snapshot = snapshot_of(item(source="kept"))
    snapshot["usage"]["apis"] |= {"null": nothing, "odd": {"models": {"odd": 7}}}
    read = read_snapshot(snapshot)
    assert [r.labels.source for r in read.records] == ["kept"]
    assert [b.client_key for b in read.bad] == ["odd"]


def test_a_snapshot_is_handed_on_in_chunks_and_in_order():
    snapshot = snapshot_of(*(item(source=str(i)) for i in range(7)), "bad")
    pieces = list(decode_snapshot(dumped(snapshot), chunk=3))
    assert [[r.labels.source for r in p.records] for p in pieces] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert [len(p.bad) for p in pieces] == [0, 0, 1]
    pieces = list(decode_snapshot(dumped(snapshot_of("bad", item(), "bad", item(), item())), chunk=2))
    assert [(len(p.records), len(p.bad)) for p in pieces] == [(1, 1), (1, 1), (1, 0)]


def test_ordinals_go_on_across_the_chunks_of_a_snapshot():
    pieces = list(decode_snapshot(dumped(snapshot_of(*[item()] * 5)), chunk=2))
    assert [r.ordinal for p in pieces for r in p.records] == [0, 1, 2, 3, 4]


def test_a_bytearray_is_read_as_bytes_are():
    payload = corpus("snapshot-string-auth-index.json")
    assert list(decode_snapshot(bytearray(payload))) == list(decode_snapshot(payload))


def test_a_detail_tells_of_a_snapshot_around_it_when_it_is_bad():
    (bad,) = read_snapshot(snapshot_of({"source": "no time"})).bad
    assert (bad.client_key, bad.model, bad.reason) == (TEAM_A, "gpt-5.4", "`timestamp` is missing")
    assert json.loads(bad.raw) == {"source": "no time"}


# -- JSON lines ----------------------------------------------------------------------------------------------------


def test_json_lines_hold_items_or_arrays_of_them():
    lines = [
        dumped(item(model="a")) + b"\n", b"\n", b"  \n", dumped([item(model="b"), item(model="c")]) + b"\n",
        b"not JSON\n", dumped({"refresh": True}) + b"\n", b'{"timestamp": "2026-\n',
        dumped(item(model="d")) + b"\r\n",
    ]  # fmt: skip
    (read,) = decode_answer(b"".join(lines))
    assert [r.labels.model for r in read.records] == ["a", "b", "c", "d"]
    assert len(read.bad) == 2
    assert not read.complete


def test_json_lines_are_handed_on_in_chunks():
    lines = [dumped(item(model=str(i))) + b"\n" for i in range(5)]
    parts = list(decode_answer(b"".join(lines), chunk=2))
    assert [[r.labels.model for r in p.records] for p in parts] == [["0", "1"], ["2", "3"], ["4"]]
    assert parts[-1].complete


def test_equal_records_of_one_answer_are_so_many_and_lines_that_are_apart_are_one():
    line = dumped(item(model="a"))
    (array,) = decode_answer(b"[%b,%b]" % (line, line))
    (answer,) = decode_answer(line + b"\n" + line)
    (apart,) = decode_answer(line + b"\n" + line, lines_apart=True)
    (arrays,) = decode_answer(b"[%b,%b]\n[%b]" % (line, line, line), lines_apart=True)
    assert [[r.ordinal for r in one.records] for one in (array, answer, apart, arrays)] == [
        [0, 1], [0, 1], [0, 0], [0, 1, 0]
    ]  # fmt: skip


# -- what is set aside ---------------------------------------------------------------------------------------------


def leaks(bad):
    kept, _ = quarantine(bad, Keyring(b"EXAMPLE-pepper"))
    return [secret for secret in SECRETS if secret in kept]


def compact(name):
    return json.dumps(json.loads(corpus(name))).encode()


DAMAGES = {
    "cut": lambda payload, i: payload[:i],
    "a byte lost": lambda payload, i: payload[:i] + payload[i + 1 :],
    "begun late": lambda payload, i: b"[" + payload[i:],
}


@pytest.mark.parametrize("name", ["queue-v6.10.8.json", "snapshot-string-auth-index.json", "snapshot-adapter.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_that_is_set_aside_of_a_damaged_payload_holds_a_secret(name, damage):
    payload = compact(name)
    leaked = [
        (i, leaks(bad))
        for i in range(len(payload))
        for bad in decode_queue(DAMAGES[damage](payload, i)).bad
        if leaks(bad)
    ]
    assert leaked == []


@pytest.mark.parametrize("name", ALL)
def test_no_answer_of_the_corpus_leaves_a_secret_when_it_is_set_aside_whole(name):
    found = set(re.findall(r"sk-[\w-]+|[\w-]+-EXAMPLE-[\w-]+|AIza[\w-]+", corpus(name).decode()))
    for bad in (BadRecord(reason="", raw=corpus(name)), BadRecord(reason="", raw=b"[" + corpus(name))):
        kept, _ = quarantine(bad, KEYRING)
        assert [secret for secret in found if secret in kept] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"source": [TEAM_A]},
        {"api_key": {"key": TEAM_A}},
        {"api_key": TEAM_A, "source": TEAM_A, "timestamp": None},
        {"source": f"  {TEAM_A}  "},
        {"fail": {"status_code": 401, "body": f"Incorrect API key {TEAM_A}"}},
        {"fail": {"status_code": 401, "body": json.dumps({"error": {"type": TEAM_A, "message": TEAM_A}})}},
        {"fail": TEAM_A},
        {"fail": {"status_code": "401", "body": TEAM_A}},
        {"response_headers": {"Authorization": [TEAM_A]}},
        {"headers": TEAM_A, "client_ip": TEAM_A, "user_agent": TEAM_A, TEAM_A: 1},
        {"tokens": {"input_tokens": "many", "api_key": TEAM_A}},
        {"tokens": [{"api_key": TEAM_A}]},
        {"tokens": {TEAM_A: 1}},
        {"token_breakdown": {"input": {"api_key": TEAM_A}}},
        {"auth_index": {"api_key": TEAM_A}},
        {"failed": {"api_key": TEAM_A}},
        {"source": f"https://user:{TEAM_A}@example.com"},
    ],
    ids=str,
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["an object", "a string"])
def test_no_field_of_a_record_that_is_set_aside_holds_a_secret(fields, wrapped):
    raw = dumped(json.dumps(fields) if wrapped else fields)
    assert leaks(BadRecord(reason="", raw=raw, client_key=TEAM_A, model="m")) == []


@pytest.mark.parametrize(
    "raw",
    [
        dumped(TEAM_A),
        dumped([TEAM_A, {"api_key": TEAM_A}]),
        dumped([[{"x": f'quoted "{TEAM_A}" twice'}]]),
        b'{"api_key": "' + TEAM_A.encode(),
        b"{'api_key': '" + TEAM_A.encode() + b"'}",
        b"{api_key: " + TEAM_A.encode() + b"}",
        b"<html><body>Bearer " + TEAM_A.encode() + b"</body></html>",
        b'{"usage": {"apis": {"' + TEAM_A.encode() + b'": {"models"',
        b'[{"usage": {"apis": {"' + TEAM_A.encode() + b'" : {"models"',
    ],
    ids=["a string", "a list", "quotes", "cut", "single quotes", "no quotes", "a page", "a snapshot", "blank"],
)
def test_bytes_that_are_no_object_keep_no_secret(raw):
    assert leaks(BadRecord(reason="", raw=raw)) == []


def test_bytes_that_are_no_object_keep_their_structure_for_a_person():
    kept, again = quarantine(BadRecord(reason="", raw=b'[{"timestamp": "2026", "tokens": {"input_tokens": 12'), KEYRING)
    assert not again
    for part in ("timestamp", "tokens", "input_tokens", "12", "[{"):
        assert part in kept


def test_what_is_kept_is_text_that_postgresql_takes_and_not_endless():
    for raw in (b'["\0\xff', b"\0" * 100_000, dumped("\ud800"), b"[" * 100_000):
        kept, _ = quarantine(BadRecord(reason="", raw=raw), KEYRING)
        assert "\0" not in kept
        kept.encode()
        assert len(kept) < 10_000


def test_an_account_stays_as_it_is_in_what_is_set_aside():
    kept, again = quarantine(BadRecord(reason="", raw=dumped({"source": " alice@example.com "})), KEYRING)
    assert again
    assert json.loads(kept)["record"] == {"source": "alice@example.com"}


def public(record):
    """A record without its secrets, and without its place among its siblings."""
    labels = msgspec.structs.replace(record.labels, client_key="", source="")
    return msgspec.structs.replace(record, labels=labels, ordinal=0)


def check_round_trip(raw, client_key, model, before):
    """A reader that could not read the record set it aside; one that can reads the same record."""
    kept, again = quarantine(BadRecord(reason="", raw=raw, client_key=client_key, model=model), KEYRING)
    fresh = Keyring(b"EXAMPLE-pepper")  # has never seen the keys
    after = decode_quarantined(kept)
    assert again
    assert identity(after, "default", fresh) == identity(before)
    for name in ("client_key", "source"):
        assert fresh.digest(getattr(after.labels, name)) == KEYRING.digest(getattr(before.labels, name))
        assert fresh.label(getattr(after.labels, name)) == KEYRING.label(getattr(before.labels, name))
    assert public(after) == public(before)
    return kept


@settings(steady, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["7.2.140", "6.10.8"]))
def test_a_queue_record_that_became_readable_has_its_identity_and_digests(seed, version):
    world = Traffic(seed)
    for call in world.generate(20):
        raw = traffic.queue_item(call, version)
        for form in (dumped(raw), dumped(json.dumps(raw))):
            kept = check_round_trip(form, "", "", queue(raw).records[0])
            assert not any(secret in kept for secret in world.secrets())


@settings(steady, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["string", "int"]))
def test_a_snapshot_record_that_became_readable_has_its_identity_and_digests(seed, auth_index):
    world = Traffic(seed)
    for call in world.generate(20):
        detail = traffic.snapshot_detail(call, auth_index)
        (before,) = read_snapshot(traffic.snapshot_body([detail])).records
        kept = check_round_trip(dumped(detail.body), detail.api, detail.model, before)
        assert not any(secret in kept for secret in world.secrets())


@pytest.mark.parametrize(
    "api", ["unknown", "", "POST /v1/messages", TEAM_A, "short", "nul\0 and \ud800", "alice@example.com"]
)
@pytest.mark.parametrize("source", ["", "sk-ant-EXAMPLE-0001", "short", " alice@example.com\n", "nul\0 and \ud800 x"])
def test_every_kind_of_client_and_source_survives_being_set_aside(api, source):
    detail = item(source=source, auth_index=7, tokens={"input_tokens": 3})
    (before,) = read_snapshot(json.dumps(snapshot_of(detail, api=api)).encode()).records
    check_round_trip(json.dumps(detail).encode(), api, "gpt-5.4", before)


@pytest.mark.parametrize("name", ["model", "auth_index", "provider", "alias"])
@pytest.mark.parametrize("value", ["  " + "x" * 200, "x" * 149 + "  y", "nul\0" * 60, " short ", "\ud800" * 60])
def test_a_name_that_is_cut_or_cleaned_is_the_same_when_it_was_set_aside(name, value):
    raw = json.dumps(item(**{name: value})).encode()
    (before,) = decode_queue(b"[%b]" % raw).records
    check_round_trip(raw, "", "", before)


def test_a_record_that_still_cannot_be_read_is_none():
    kept, again = quarantine(BadRecord(reason="", raw=dumped({"timestamp": "soon"})), KEYRING)
    assert again
    assert decode_quarantined(kept) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": {"input_tokens": -1}},
        {"tokens": {"input_tokens": "12", "output_tokens": 3}},
        {"tokens": {"input_tokens": [12]}},
        {"tokens": {"input_tokens": {"value": 12}}},
        {"tokens": [{"input_tokens": 12}]},
        {"tokens": "12"},
        {"failed": "no"},
        {"generate": [True]},
        {"timestamp": ["2026-08-22T12:00:00Z"]},
        {"timestamp": "x" * 10_000},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_record_that_cannot_be_counted_is_not_made_readable_by_being_set_aside(wrong):
    (bad,) = queue(item(**wrong)).bad
    kept, again = quarantine(bad, KEYRING)
    assert again
    assert decode_quarantined(kept) is None
