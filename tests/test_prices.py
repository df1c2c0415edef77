"""What usage costs by the price lists that are installed: whose list, under which name, of which tier, and from when.

The sums are worked out on paper from the lists of genai-prices, in millionths of a US dollar; the arrow divides by a
million.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from worker.cliproxyapi import payload as decode
from worker.config import OwnPrice, Prices
from worker.corrections import reprice
from worker.db import database, settings
from worker.loading.load import Loader
from worker.loading.pass_result import PassResult
from worker.loading.prices import open_pricer
from worker.pricing import dataset, price, vendors
from worker.pricing.model_names import names
from worker.pricing.price import Price, Subject
from worker.storage import price_table
from worker.usage import money
from worker.usage.tokens import Normalised

D = Decimal
AT = datetime(2026, 11, 25, 10, tzinfo=UTC)
CATALOGUE = json.loads((Path(__file__).parent / "catalogue.json").read_text())
"""Every model that the proxy (v7.2.140) serves without being configured, by the provider id of its records."""

UNPRICED = {
    ("codex", "codex-auto-review"),
    ("codex", "gpt-5.3-codex-spark"),
    ("xai", "grok-imagine-video"),
    ("xai", "grok-imagine-video-1.5"),
    ("xai", "grok-imagine-video-1.5-preview"),
}
EXECUTORS = {"codex": "CodexExecutor", "gemini": "GeminiExecutor", "antigravity": "AntigravityExecutor",
             "claude": "ClaudeExecutor"}  # fmt: skip
DATASET = Prices()


@lru_cache(maxsize=1)
def shipped():
    by_name = {}
    for number, p in enumerate(dataset.shipped().prices, start=1):
        by_name.setdefault(p.model, []).append(replace(p, price_id=number))
    return by_name


def steps(provider, model, tier="", prices=()):
    subject = Subject(provider, model, model)
    looked_for = price.names(subject)
    fitting = [p for name in (*looked_for.sure, *looked_for.guessed) for p in shipped().get(name, ())]
    return price.rank_prices([*prices, *fitting], subject, tier)


def cost(provider, model, tier="", at=AT, counts=(1000, 0, 0, 100)):
    """What a request costs in US dollars, and whether that is an estimate; a thousand tokens in, a hundred out."""
    found = price.cost(steps(provider, model, tier), at, Normalised(*counts, 0), "success")
    return found.cost_pico_usd and money.usd(found.cost_pico_usd), found.estimated


# -- requests that were charged wrongly -----------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    provider: str
    model: str
    counts: dict[str, int]
    cost: Decimal | None
    estimated: bool = False
    tier: str = "auto"
    answered: str = ""
    at: str = "2026-11-25"


def counted(input_=1000, output=100, reasoning=0, cached=0, written=0, total=None):
    return {
        "input_tokens": input_, "output_tokens": output, "reasoning_tokens": reasoning, "cached_tokens": cached,
        "cache_read_tokens": cached, "cache_read_tokens_present": True, "cache_creation_tokens": written,
        "total_tokens": input_ + output if total is None else total,
    }  # fmt: skip


MILLION = counted(1_000_000, 100_000)
CACHED = counted(100_000, 1000, cached=80_000)
CASES = (
    # (10120-128)*1.25 + 128*0.2 + (1499+2809)*2.5 = 12490 + 25.6 + 10770 = 23285.6 → 0.0232856
    Case("reasoning beside output", "openai-compatible-xai", "grok-4.20",
         counted(10120, 1499, 2809, 128, total=14428), D("0.0232856")),
    # 500*2 + (300+200)*6 = 1000 + 3000 = 4000 → 0.004
    Case("reasoning beside output, few of it", "openai-compatible-xai", "grok-4.5",
         counted(500, 300, 200, total=1000), D("0.004")),
    # 20000*4 + 80000*0.4 + 1000*20 = 80000 + 32000 + 20000 = 132000 → 0.132
    Case("asked for priority, billed as default", "codex", "gpt-5.6-sol", CACHED, D("0.132"),
         tier="priority", answered="default"),
    # 20000*8 + 80000*0.8 + 1000*40 = 160000 + 64000 + 40000 = 264000 → 0.264
    Case("asked for priority, and nothing told of what was billed", "codex", "gpt-5.6-sol", CACHED, D("0.264"),
         tier="priority"),
    # 20000*8 + 80000*0.8 + 1000*40 = 160000 + 64000 + 40000 = 264000 → 0.264
    Case("asked for nothing, billed as priority", "codex", "gpt-5.6-sol", CACHED, D("0.264"), answered="priority"),
    # 1000*2 + 100*12 = 2000 + 1200 = 3200 → 0.0032: of the preview, there is no other price
    Case("an effort, of a preview", "antigravity", "gemini-3.1-pro-high", counted(), D("0.0032"), estimated=True),
    # 1000*0.75 + 100*3.75 = 750 + 375 = 1125 → 0.001125
    Case("an effort", "antigravity", "gemini-3.7-flash-high", counted(), D("0.001125")),
    # 1000*5 + 100*25 = 5000 + 2500 = 7500 → 0.0075
    Case("a context of a million", "claude", "claude-opus-5[1m]", counted(), D("0.0075")),
    Case("served for nothing", "openai-compatible-OpenRouter", "deepseek/deepseek-r1:free", counted(), D(0)),
    # 1000*3.3 + 100*16.5 = 3300 + 1650 = 4950 → 0.00495: what Bedrock charges in a region
    Case("Bedrock's name", "openai-compatible-bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", counted(),
         D("0.00495")),
    Case("a tier without a price", "gemini", "gemini-3.6-flash", MILLION, None, tier="flex"),
    Case("another tier without a price", "gemini", "gemini-3.6-flash", MILLION, None, tier="priority",
         answered="priority"),
    # 20000*5 + 80000*0.5 + 1000*30 = 100000 + 40000 + 30000 = 170000 → 0.17: the list tells it from October 12 on
    Case("a tier before the list told of it", "codex", "gpt-5.4", CACHED, D("0.17"), estimated=True, tier="priority",
         at="2026-09-20"),
    # 10*5 + 100000*6.25 + 100*25 = 50 + 625000 + 2500 = 627550 → 0.62755: for five minutes, as most are
    Case("a cache of an hour or of five minutes", "claude", "claude-opus-5",
         counted(10, 100, written=100_000, total=100_110), D("0.62755"), estimated=True),
    # 1820*5 + 210*30 = 9100 + 6300 = 15400 → 0.0154
    Case("a model that called for an image", "codex", "gpt-5.5", counted(1820, 210), D("0.0154")),
    # 50*5 + 7024*30 = 250 + 210720 = 210970 → 0.21097: what went in may have been an image
    Case("the image that it called for", "codex", "gpt-image-2", counted(50, 7024), D("0.21097"), estimated=True),
)  # fmt: skip

SELECT_CHARGED = "SELECT request_id, cost_usd, cost_estimated, estimated_cost_usd FROM usage_api.v1_records"
SELECT_SUMS = """
SELECT sum(estimated_cost_usd), sum(unpriced_requests) FROM usage_api.{}
"""


def queue_item(number, case):
    item = {
        "timestamp": f"{case.at}T10:00:{number:02}Z", "latency_ms": 1200, "ttft_ms": 300, "source": "",
        "auth_index": "", "tokens": case.counts, "failed": False, "generate": True,
        "fail": {"status_code": 200, "body": ""}, "provider": case.provider,
        "executor_type": EXECUTORS.get(case.provider, "OpenAICompatExecutor"), "model": case.model,
        "alias": case.model, "endpoint": "POST /v1/responses", "auth_type": "oauth", "api_key": "sk-EXAMPLE-client",
        "request_id": case.name, "reasoning_effort": "", "service_tier": case.tier,
    }  # fmt: skip
    return item | ({"response_service_tier": case.answered} if case.answered else {})


def load_cases(books, cases=CASES, prices=DATASET):
    loader = Loader(books.engine, "default", pepper="", timezone="UTC", prices=prices)
    payload = json.dumps([queue_item(number, case) for number, case in enumerate(cases)]).encode()
    loader.load("cases", decode.decode_queue(payload), PassResult(upstream="default"))


def test_requests_are_charged_what_they_cost_and_estimates_are_marked_in_records_and_sums(books):
    load_cases(books)
    found = {name: row for name, *row in books.ask(SELECT_CHARGED)}
    assert found == {
        case.name: [case.cost, case.estimated, case.cost if case.estimated else case.cost and D(0)] for case in CASES
    }
    wanted = (sum(case.cost for case in CASES if case.estimated), sum(case.cost is None for case in CASES))
    for view in ("v1_daily", "v1_hourly", "v1_daily_channels", "v1_daily_keys", "v1_hourly_keys"):
        assert books.ask(SELECT_SUMS.format(view)) == [wanted], view
    books.balance()
    pricer = open_pricer(books.engine, DATASET, ZoneInfo("UTC"))
    assert sum(r.changed for r in reprice.reprice(books.engine, pricer, reprice.Selection())) == 0


def test_what_has_no_price_and_what_is_an_estimate_is_listed_with_its_tier(books):
    load_cases(books)
    unpriced = books.worker(None, "prices", "unpriced", "--json").json
    assert {(row["model"], row["service_tier"]): row["requests"] for row in unpriced} == {
        ("gemini-3.6-flash", "flex"): 1, ("gemini-3.6-flash", "priority"): 1,
    }  # fmt: skip
    estimated = books.worker(None, "prices", "unpriced", "--estimated", "--json").json
    shown = ("model", "service_tier", "estimated_cost_usd", "charged_as")
    assert [tuple(str(row[name]) for name in shown) for row in estimated] == [
        ("claude-opus-5", "", "0.62755", "anthropic: claude-opus-5"),
        ("gpt-image-2", "", "0.21097", "openai: gpt-image-2"),
        ("gpt-5.4", "priority", "0.17", "openai: gpt-5.4"),
        ("gemini-3.1-pro-high", "", "0.0032", "google: gemini-3.1-pro-preview"),
    ]  # fmt: skip
    report = books.worker(None, "report", "models", "--since", "2026-09-01", "--until", "2026-12-01").stdout
    assert "~0.6276" in report
    assert "~ estimated in part: `worker prices unpriced --estimated`" in report


def test_an_operator_ends_guessing_by_a_word_of_their_own(books):
    load_cases(books)
    for model, tier in (("claude-opus-5", ""), ("gemini-3.6-flash", "*")):
        done = books.worker(None, "prices", "set", model, "--input", "1", "--cache-read", "1", "--cache-write", "1",
                            "--output", "1", "--service-tier", tier)  # fmt: skip
        assert done.code == 0, done.stderr
    assert books.worker(None, "reprice").code == 0
    found = {name: (cost_usd, estimated) for name, cost_usd, estimated, _ in books.ask(SELECT_CHARGED)}
    assert found["a cache of an hour or of five minutes"] == (D("0.10011"), False)
    assert found["a tier without a price"] == found["another tier without a price"] == (D("1.1"), False)
    books.balance()


# -- the proxy's own catalogue --------------------------------------------------------------------------------------


def test_nearly_all_that_the_proxy_serves_out_of_the_box_has_a_price():
    served = {(provider, model) for provider, models in CATALOGUE.items() for model in models}
    without = {pair for pair in served if cost(*pair)[0] is None}
    assert without == UNPRICED
    assert len(without) / len(served) <= 0.05
    told = (Path(__file__).parents[1] / "docs" / "prices.md").read_text()
    assert all(f"`{model}`" in told for _, model in without)


def test_a_model_of_the_catalogue_keeps_its_price_with_every_suffix_that_leaves_it_alone():
    for provider, models in CATALOGUE.items():
        for model in models:
            plain = cost(provider, model)
            for dressed in (f"{model}(high)", f"team-a/{model}", f"{model.upper()}(8192)", f"{model}[1m]"):
                assert cost(provider, dressed) == plain, dressed
            if plain[0]:
                assert cost(provider, f"{model}-turbo-maximum") == (None, False), model


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("gpt-5.4-high", "gpt-5.4"),
        ("gpt-5.4-xhigh", "gpt-5.4"),
        ("gpt-5.4-minimal", "gpt-5.4"),
        ("gpt-5.4-none", "gpt-5.4"),
        ("openai/o3-mini-high", "o3-mini"),
        ("gpt-oss-120b-medium", "gpt-oss-120b"),
        ("gemini-3.5-flash-extra-low", "gemini-3.5-flash"),
        ("claude-opus-4-6-thinking-high", "claude-opus-4-6"),
        ("claude-opus-5[1m](high)", "claude-opus-5"),
        ("team-a/claude-sonnet-4-5-20250929-thinking-2048", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("publishers/anthropic/models/claude-opus-4-5@default", "claude-opus-4-5"),
        ("anthropic.claude-opus-5-v1:0", "anthropic.claude-opus-5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-5"),
        ("anthropic/claude-sonnet-4:thinking", "claude-sonnet-4"),
    ],
)
def test_what_leaves_the_price_alone_is_taken_off_a_name(name, known_as):
    assert known_as in names("", name, name).sure


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("gemini-3-pro", "gemini-3-pro-preview"),
        ("gemini-2.5-pro-preview-06-05", "gemini-2.5-pro"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("deepseek/deepseek-v3:nitro", "deepseek-v3"),
        ("kimi-k3-256k", "kimi-k3"),
    ],
)
def test_what_may_change_the_price_makes_a_guess_of_a_name(name, known_as):
    looked_for = names("", name, name)
    assert known_as in looked_for.guessed
    assert known_as not in looked_for.sure


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("claude-opus-5-fast", "claude-opus-5"),
        ("kimi-k2.7-code-highspeed", "kimi-k2.7-code"),
        ("gpt-5.4:online", "gpt-5.4"),
        ("gpt-5.4:batch", "gpt-5.4"),
        ("deepseek-r1:free", "deepseek-r1"),
        ("mistral-medium", "mistral"),
        ("gpt-image-1-low", "gpt-image-1"),
        ("gpt-5.1-codex-max", "gpt-5.1-codex"),
        ("gemini-pro-agent", "gemini-pro"),
    ],
)
def test_what_changes_the_price_stays_on_a_name(name, other):
    looked_for = names("", name, name)
    assert other not in (*looked_for.sure, *looked_for.guessed)


def test_names_that_clients_make_up_have_a_limited_number_of_others():
    for made_up in ("a/" * 500 + "b", "gpt-5" + "-low" * 500, "gemini-x" + "-preview" * 300, "us." * 400 + "x" * 9):
        looked_for = names("", made_up, made_up)
        assert len(looked_for.sure) + len(looked_for.guessed) <= 96


def test_what_the_proxy_calls_an_agent_is_the_model_that_it_displays():
    assert cost("antigravity", "gemini-3-flash-agent") == cost("antigravity", "gemini-3.5-flash-low")
    assert cost("antigravity", "gemini-pro-agent") == (cost("gemini", "gemini-3.1-pro-preview")[0], True)
    assert cost("gemini", "gemini-pro-agent") == (None, False)


# -- whose list -----------------------------------------------------------------------------------------------------


def test_every_vendor_that_has_a_list_is_known_to_have_one():
    assert {p.vendor for prices in shipped().values() for p in prices} <= set(vendors.LISTED)


# 1000*5 + 100*30 = 8000 → 0.008
@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        ("codex", (D("0.008"), False)),
        ("openai-compatible-openrouter", (D("0.008"), False)),  # OpenRouter's own, which is the same
        ("openai-compatible-OpenAI", (D("0.008"), False)),
        ("openai-compatible-my relay", (D("0.008"), True)),
        ("openai-compatibility", (D("0.008"), True)),
        ("", (D("0.008"), True)),  # a snapshot names none
        ("claude", (D("0.008"), True)),  # pointed at another address
        ("openai-compatible-groq", (None, False)),
        ("openai-compatible-Together AI", (None, False)),
        *((f"openai-compatible-{name}", (None, False)) for name in (
            "ollama", "Ollama 2", "vllm", "LM Studio", "lm-studio", "llama.cpp", "local", "localhost:8000",
            "127.0.0.1", "my-local-box", "sglang", "text-generation-webui",
        )),
    ],
)  # fmt: skip
def test_a_vendor_charges_by_its_own_list_a_relay_without_one_as_the_maker_and_a_server_of_ones_own_by_none(
    provider, wanted
):
    assert cost(provider, "openai/gpt-5.5" if "openrouter" in provider else "gpt-5.5") == wanted


def test_the_hours_at_which_the_maker_charges_less_are_not_those_of_a_relay():
    hours = {cost("openai-compatible-deepseek", "deepseek-v4-pro", at=AT + timedelta(hours=h))[0] for h in range(24)}
    assert len(hours) == 2
    assert {cost("openai-compatible-relay", "deepseek-v4-pro", at=AT + timedelta(hours=h)) for h in range(24)} == {
        (None, False)
    }


def test_a_cache_rate_that_a_list_does_not_have_is_not_the_rate_of_input():
    assert cost("gemini", "gemini-2.5-pro", counts=(1000, 0, 0, 100)) == (D("0.00225"), False)
    assert cost("gemini", "gemini-2.5-pro", counts=(900, 0, 100, 100)) == (None, False)
    assert cost("kimi", "kimi-k2", counts=(900, 100, 0, 100)) == (None, False)


@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        ("openai-compatible-openrouter", (D(0), False)),
        ("openai-compatible-relay", (D(0), True)),
        ("", (D(0), True)),
        ("openai-compatible-groq", (None, False)),
        ("openai-compatible-ollama", (None, False)),
    ],
)
def test_a_model_that_is_served_for_nothing_costs_nothing_where_its_name_means_that(provider, wanted):
    assert cost(provider, "qwen/qwen3-coder:free") == wanted


def test_an_operator_can_charge_for_what_is_free():
    own = Price(price_id=9, source="operator", model="*:free", input_usd_per_mtok=D(1), output_usd_per_mtok=D(1))
    found = steps("openai-compatible-openrouter", "qwen/qwen3-coder:free", prices=[own])
    assert [p.price_id for p in found] == [9, 0]


# -- tiers ----------------------------------------------------------------------------------------------------------


def test_a_tier_is_not_looked_for_under_the_name_of_another_model():
    prices = [replace(listed(1), model="gpt-x-2026-01-01"), listed(2), listed(3, service_tier="flex")]
    subject = Subject("codex", "gpt-x-2026-01-01", "")
    assert price.rank_prices(prices, subject, "") == (prices[0],)
    assert price.rank_prices(prices, subject, "flex") == ()


def test_what_a_tier_cost_before_the_list_told_of_it_changes_with_the_standard_price():
    # standard from August 21 on: 4 and 20, before 5 and 30; priority 8 and 40, told from October 12 on
    assert cost("codex", "gpt-5.6-sol", "priority", datetime(2026, 10, 12, tzinfo=UTC)) == (D("0.012"), False)
    assert cost("codex", "gpt-5.6-sol", "priority", datetime(2026, 10, 11, 23, tzinfo=UTC)) == (D("0.012"), True)
    assert cost("codex", "gpt-5.6-sol", "priority", datetime(2026, 8, 21, tzinfo=UTC)) == (D("0.012"), True)
    assert cost("codex", "gpt-5.6-sol", "priority", datetime(2026, 8, 20, 23, tzinfo=UTC)) == (None, False)


# -- from when ------------------------------------------------------------------------------------------------------


def listed(usd, since=None, until=None, **more):
    return Price(source="dataset", vendor="openai", model="gpt-x", input_usd_per_mtok=D(usd), valid_from=since,
                 valid_to=until, **more)  # fmt: skip


def day(month, number):
    return datetime(2026, month, number, tzinfo=UTC)


versions = itertools.count(1)


def sync(books, prices, at, **more):
    with database.transaction(books.engine) as connection:
        return price_table.sync(
            connection, dataset.Dataset(f"{dataset.PACKAGE} 0.0.{next(versions)}", prices), at, **more
        )


def rate(books, at, tier=""):
    with database.transaction(books.engine) as connection:
        found = price.choose(
            price.rank_prices(price_table.listed(connection), Subject("codex", "gpt-x", ""), tier), at, 0
        )
    return found and (found.input_usd_per_mtok, found.estimated)


@pytest.fixture
def unlisted(books):
    books.ask("DELETE FROM usage.price")
    books.ask("INSERT INTO usage.setting VALUES ('prices_reading', %s)", [dataset.READING])
    return books


def test_a_tier_that_a_list_learns_of_holds_from_the_vendors_date(unlisted):
    sync(unlisted, [listed(2)], day(11, 1))
    told = [listed(2), listed(4, until=day(10, 12), service_tier="priority", estimated="all"),
            listed(4, since=day(10, 12), service_tier="priority")]  # fmt: skip
    assert rate(unlisted, day(11, 10), "priority") is None
    done = sync(unlisted, told, day(11, 20))
    assert (done.added, done.changed, done.rows) == (0, 1, 2)
    assert rate(unlisted, day(11, 10), "priority") == (4, "")
    assert rate(unlisted, day(9, 10), "priority") == (4, "all")
    assert rate(unlisted, day(9, 10)) == (2, "")
    assert sync(unlisted, told, day(11, 21)).rows == 0


def test_a_change_that_a_list_learns_of_late_holds_from_the_vendors_date(unlisted):
    sync(unlisted, [listed(5)], day(7, 1))
    sync(unlisted, [listed(4)], day(9, 1))  # a list without a date: from the sync on
    assert [rate(unlisted, at)[0] for at in (day(8, 31), day(9, 1))] == [5, 4]
    sync(unlisted, [listed(5, until=day(8, 21)), listed(4, since=day(8, 21))], day(10, 1))
    assert [rate(unlisted, at)[0] for at in (day(8, 20), day(8, 21), day(9, 2))] == [5, 4, 4]
    sync(unlisted, [listed(5, until=day(8, 21)), listed(4, since=day(8, 21), until=day(12, 1)),
                    listed(3, since=day(12, 1))], day(10, 2))  # fmt: skip
    assert [rate(unlisted, at)[0] for at in (day(8, 20), day(8, 21), day(11, 30), day(12, 1))] == [5, 4, 4, 3]


def test_a_tier_or_a_model_that_a_list_gives_up_keeps_its_price(unlisted):
    sync(unlisted, [listed(2), listed(4, service_tier="priority")], day(11, 1))
    sync(unlisted, [listed(2)], day(11, 2))
    sync(unlisted, [], day(11, 3))
    assert rate(unlisted, day(11, 4)) == (2, "")
    assert rate(unlisted, day(11, 4), "priority") == (4, "")


def test_what_an_earlier_version_read_out_of_its_lists_is_read_anew_and_keeps_its_dates(books):
    books.ask("DELETE FROM usage.price")
    wrong = [
        listed(2, until=day(11, 1), cache_read_usd_per_mtok=D(2), cache_write_usd_per_mtok=D(2)),
        listed(3, since=day(11, 1), cache_read_usd_per_mtok=D(3), cache_write_usd_per_mtok=D(3)),
    ]
    right = [listed(3, cache_read_usd_per_mtok=D("0.3"), estimated="cache_write")]
    books.ask("INSERT INTO usage.setting VALUES ('prices_reading', %s)", [dataset.READING])
    sync(books, wrong, day(11, 5))
    with database.transaction(books.engine) as connection:
        settings.change_setting(connection, price_table.DATASET_LABEL, "genai-prices downloaded 2026-11-05 10:00Z")
        settings.change_setting(connection, price_table.READING, "1")
        assert price_table.behind(connection)
    done = sync(books, right, day(11, 20), newer_only=True)
    assert done.dataset == "genai-prices downloaded 2026-11-05 10:00Z"
    rows = books.ask(
        "SELECT input_usd_per_mtok, cache_read_usd_per_mtok, cache_write_usd_per_mtok, estimated, valid_from, valid_to "
        "FROM usage_api.v1_prices WHERE dropped_at IS NULL ORDER BY 1"
    )
    assert rows == [
        (2, 2, None, "cache_write", None, day(11, 1)),
        (3, 3, None, "cache_write", day(11, 1), None),
    ]
    with database.transaction(books.engine) as connection:
        assert not price_table.behind(connection)
    assert sync(books, right, day(11, 20)).changed == 1


def test_configured_prices_of_an_earlier_version_are_not_entered_again():
    p = price_table._own(OwnPrice(model="gpt-x", input_usd_per_mtok=D("1.50")), "config", ZoneInfo("UTC"))
    assert price_table._fingerprint(p) == "a2495ba542e863187d9df649948b5426114e2412251ba6510d9cf66b888e5084"
