"""What an operator says of channels and client keys, as a command line: labels, links, rates, late channels."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

import pytest
from support import KEY, Books, calls, proxy

from worker.simulator import traffic

CHANNEL_FIELDS = {
    "channel_id", "upstream", "channel", "kind", "group", "configured_name", "configured", "linked_to",
    "rate_multiplier", "first_seen_at", "last_seen_at",
}  # fmt: skip
KEY_FIELDS = {"client_key_id", "upstream", "client_key", "mask", "first_seen_at", "last_seen_at"}
CREDENTIAL_FIELDS = {
    "endpoint", "provider", "auth_index", "key_digest", "place", "accounts", "configured", "first_seen_at",
    "last_seen_at",
}  # fmt: skip
SECRETS = traffic.Traffic(7).secrets() | {KEY}
COMMANDS = [
    ("channels", "list"),
    ("channels", "show", "OpenRouter"),
    ("channels", "rename", "OpenRouter", "Team A"),
    ("channels", "link", "OpenRouter", "local-vllm"),
    ("channels", "set-rate", "OpenRouter", "0.5"),
    ("keys", "list"),
    ("keys", "rename", "1", "Team A"),
]
OF_CHANNEL = "SELECT channel, sum(requests)::int FROM usage_api.v1_daily GROUP BY 1"
OF_KEY = "SELECT client_key, sum(requests)::int FROM usage_api.v1_daily GROUP BY 1"


@pytest.fixture
def filled(books):
    """Books that hold 400 calls."""
    with proxy("queue", calls(400)) as simulator:
        books.sync(simulator)
    return books


def run(books, *arguments, simulator=None, code=0):
    """Run a command that ends with `code`, tells no secret, and says its errors in one sentence."""
    finished = books.worker(simulator, *arguments, WORKER_LOG_LEVEL="debug")
    assert "Traceback" not in finished.stderr, finished.stderr
    assert finished.code == code, finished.stderr
    told = f"{finished.stdout}\n{finished.stderr}"
    assert [secret for secret in SECRETS if secret in told] == []
    if code:
        assert finished.stdout == ""
        assert [line for line in finished.stderr.splitlines() if not line.startswith("{")][-1:] != []
    return finished


def sentence(finished):
    return finished.stderr.splitlines()[-1]


def number_of(books, name):
    ((number,),) = books.ask("SELECT channel_id FROM usage_api.v1_channels WHERE channel = %s", [name])
    return number


def other_upstream(books):
    """The same calls once more, over a proxy of another name."""
    with proxy("queue", calls(50)) as simulator:
        books.sync(simulator, name="second")


# -- channels ---------------------------------------------------------------------------------------------------


def test_the_list_of_channels_is_that_of_the_view(filled):
    listed = run(filled, "channels", "list", "--json").json
    assert {frozenset(each) for each in listed} == {frozenset(CHANNEL_FIELDS)}
    view = filled.ask(
        "SELECT channel_id, upstream, channel, channel_kind, channel_group, configured FROM usage_api.v1_channels"
    )
    names = ("channel_id", "upstream", "channel", "kind", "group", "configured")
    assert sorted(tuple(each[name] for name in names) for each in listed) == sorted(view)
    assert all(datetime.fromisoformat(each["last_seen_at"]).tzinfo for each in listed)
    table = run(filled, "channels", "list").stdout
    assert [name for name in dict(filled.ask(OF_CHANNEL)) if name not in table] == []


def test_lists_are_of_one_proxy_where_it_is_named(filled):
    other_upstream(filled)
    for what in ("channels", "keys"):
        listed = run(filled, what, "list", "--upstream", "second", "--json").json
        assert {each["upstream"] for each in listed} == {"second"}
        assert {each["upstream"] for each in run(filled, what, "list", "--json").json} == {"default", "second"}
        assert run(filled, what, "list", "--upstream", "third", "--json").json == []
        assert run(filled, what, "list", "--upstream", "third").stdout == "none yet\n"


@pytest.mark.parametrize("which", ["name", "number", "label"])
def test_a_channel_is_shown_with_its_names_and_credentials(filled, which):
    run(filled, "channels", "rename", "OpenRouter", "Team A")
    number = number_of(filled, "Team A")
    said = {"name": "OpenRouter", "number": str(number), "label": "Team A"}[which]
    shown = run(filled, "channels", "show", said, "--json").json
    table = run(filled, "channels", "show", said).stdout
    for words in ("Team A", "OpenRouter", "operator", "a91baaa28e621b1d", "67a86daef1a2e2b2"):
        assert words in table
    assert "{" not in table
    assert set(shown) == CHANNEL_FIELDS | {"names", "credentials"}
    assert (shown["channel_id"], shown["channel"], shown["configured_name"]) == (number, "Team A", "OpenRouter")
    assert [(each["name"], each["given_by"]) for each in shown["names"]] == [
        ("OpenRouter", "proxy"), ("Team A", "operator")
    ]  # fmt: skip
    assert {frozenset(each) for each in shown["credentials"]} == {frozenset(CREDENTIAL_FIELDS)}
    assert {each["auth_index"] for each in shown["credentials"]} == {"a91baaa28e621b1d", "67a86daef1a2e2b2"}
    assert all(re.fullmatch(r"[0-9a-f]{16,}", each["key_digest"]) for each in shown["credentials"])


def test_a_label_goes_for_past_and_future_and_empty_takes_it_away(filled):
    before = dict(filled.ask(OF_CHANNEL))
    number = number_of(filled, "OpenRouter")
    said = run(filled, "channels", "rename", "OpenRouter", "  Team A · 研究 ").stdout
    assert said == f"channel {number}: OpenRouter -> Team A · 研究\n"
    with proxy("queue", calls(600)[400:]) as simulator:
        filled.sync(simulator)
    labelled = dict(filled.ask(OF_CHANNEL))
    later = sum(call.channel == "OpenRouter" for call in calls(600)[400:])
    assert labelled["Team A · 研究"] == before["OpenRouter"] + later
    assert "OpenRouter" not in labelled
    for view in ("v1_hourly", "v1_records", "v1_channels"):
        names = {name for (name,) in filled.ask(f"SELECT DISTINCT channel FROM usage_api.{view}")}
        assert "Team A · 研究" in names
        assert "OpenRouter" not in names
    assert "Team A · 研究" in run(filled, "report", "channels").stdout
    assert run(filled, "channels", "rename", "Team A · 研究", "").stdout.endswith("-> OpenRouter\n")
    filled.require_exactly(calls(600))
    names = run(filled, "channels", "show", "OpenRouter", "--json").json["names"]
    assert [each["name"] for each in names] == ["OpenRouter", "Team A · 研究", "OpenRouter"]


def test_two_channels_of_one_label_stay_apart_and_are_told_apart_by_number(filled):
    run(filled, "channels", "rename", "OpenRouter", "Relays")
    run(filled, "channels", "rename", "local-vllm", "Relays")
    said = sentence(run(filled, "channels", "show", "Relays", code=2))
    numbers = [str(n) for (n,) in filled.ask("SELECT channel_id FROM usage_api.v1_channels WHERE channel = 'Relays'")]
    assert "several channels are 'Relays'" in said
    assert all(f"{number} (default: Relays)" in said for number in numbers)
    names = {run(filled, "channels", "show", number, "--json").json["configured_name"] for number in numbers}
    assert names == {"OpenRouter", "local-vllm"}
    filled.balance()


def test_a_name_in_two_proxies_needs_the_proxy(filled):
    other_upstream(filled)
    for arguments in COMMANDS[1:5]:
        said = sentence(run(filled, *arguments, code=2))
        assert "several channels are 'OpenRouter'" in said
        assert "(second: OpenRouter)" in said
    run(filled, "channels", "rename", "OpenRouter", "Team B", "--upstream", "second")
    found = filled.ask("SELECT upstream, channel FROM usage_api.v1_channels WHERE configured_name = 'OpenRouter'")
    assert sorted(found) == [("default", "OpenRouter"), ("second", "Team B")]
    run(filled, "channels", "link", "OpenRouter", "local-vllm", "--upstream", "default")
    assert dict(filled.ask("SELECT upstream, linked_to FROM usage_api.v1_channels WHERE linked_to IS NOT NULL")) == {
        "default": "local-vllm"
    }
    filled.balance()


def test_a_number_means_the_channel_of_that_number_whatever_others_are_called(filled):
    number = number_of(filled, "OpenRouter")
    run(filled, "channels", "rename", "local-vllm", str(number))
    assert run(filled, "channels", "show", str(number), "--json").json["configured_name"] == "OpenRouter"


def test_a_channel_that_is_not_there_is_an_error_that_says_where_to_look(filled):
    before = filled.dump()
    for arguments in (
        ("show", "nobody"), ("rename", "nobody", "x"), ("link", "nobody", "OpenRouter"),
        ("link", "OpenRouter", "nobody"), ("set-rate", "nobody", "1"), ("show", ""), ("show", "openrouter"),
        ("show", "OpenRouter", "--upstream", "third"), ("show", "' OR true --"), ("show", "%"),
        ("show", "99999999999999999999"),
    ):  # fmt: skip
        said = sentence(run(filled, "channels", *arguments, code=2))
        assert "no channel is" in said
        assert "`worker channels list`" in said
    assert filled.dump() == before


def test_linked_channels_are_one_from_then_on(filled):
    moved = sum(call.channel == "OpenRouter" for call in calls(400))
    said = run(filled, "channels", "link", "OpenRouter", "local-vllm").stdout
    assert said == f"OpenRouter is booked on local-vllm from now on; {moved} records moved\n"
    booked = dict(filled.ask(OF_CHANNEL))
    assert "OpenRouter" not in booked
    assert booked["local-vllm"] == moved + sum(call.channel == "local-vllm" for call in calls(400))
    shown = run(filled, "channels", "show", "OpenRouter", "--json").json
    assert shown["linked_to"] == number_of(filled, "local-vllm")
    assert run(filled, "channels", "link", "OpenRouter", "local-vllm").stdout.endswith("0 records moved\n")
    assert "itself" in sentence(run(filled, "channels", "link", "local-vllm", "OpenRouter", code=2))
    assert "itself" in sentence(run(filled, "channels", "link", "local-vllm", "local-vllm", code=2))
    assert run(filled, "verify").stdout == "rollups and records agree\n"


def test_a_rate_is_stored_exactly(filled):
    for text, rate in (("0", "0"), ("0.5", "0.5"), ("0.000001", "0.000001"), (" 2 ", "2"), ("1e2", "100")):
        said = run(filled, "channels", "set-rate", "OpenRouter", text).stdout
        assert said.startswith("OpenRouter: rate multiplier ")
        rates = dict(filled.ask("SELECT channel, rate_multiplier FROM usage_api.v1_channels"))
        assert rates.pop("OpenRouter") == Decimal(rate)
        assert set(rates.values()) == {Decimal(1)}
        assert run(filled, "channels", "show", "OpenRouter", "--json").json["rate_multiplier"] == float(rate)


def test_what_is_no_rate_is_refused_and_changes_nothing(filled):
    for text in ("", "half", "-1", "-0.01", "NaN", "inf", "1,5", "0x10", "1e1000000"):
        said = sentence(run(filled, "channels", "set-rate", "--", "OpenRouter", text, code=2))
        assert "is not a rate" in said
    assert set(filled.ask("SELECT rate_multiplier FROM usage_api.v1_channels")) == {(Decimal(1),)}


@pytest.mark.parametrize("what", ["channels", "keys"])
def test_a_label_is_one_short_line_that_no_terminal_obeys(filled, what):
    table = {"channels": "channel", "keys": "client_key"}[what]
    for label in ("two\nlines", "bell\x07 and \x1b[31mred", "x" * 5000):
        run(filled, what, "rename", "1", label)
        ((kept,),) = filled.ask(f"SELECT label FROM usage.{table} WHERE {table}_id = 1")
        assert kept.isprintable()
        assert len(kept) <= 500


def test_bytes_that_are_no_text_are_no_reason_to_fall_over(filled):
    run(filled, "channels", "rename", "OpenRouter", "caf\udce9")  # as Python hands over what is no UTF-8
    assert "caf\ufffd" in dict(filled.ask(OF_CHANNEL))
    assert "Traceback" not in filled.worker(None, "channels", "show", "caf\udce9").stderr
    run(filled, "keys", "rename", "1", "caf\udce9")


# -- client keys ------------------------------------------------------------------------------------------------


def test_a_client_key_goes_by_its_label_in_past_and_future(filled):
    listed = run(filled, "keys", "list", "--json").json
    assert {frozenset(each) for each in listed} == {frozenset(KEY_FIELDS)}
    masks = dict(filled.ask(OF_KEY))
    assert {each["client_key"] for each in listed} == set(masks)
    mask = filled.keyring().label(traffic.CLIENT_KEYS[0])
    (one,) = (each for each in listed if each["mask"] == mask)
    assert run(filled, "keys", "rename", mask, " Ada ").stdout == f"client key {one['client_key_id']}: {mask} -> Ada\n"
    with proxy("queue", calls(600)[400:]) as simulator:
        filled.sync(simulator)
    labelled = dict(filled.ask(OF_KEY))
    assert labelled["Ada"] == sum(call.client_key == traffic.CLIENT_KEYS[0] for call in calls(600))
    assert mask not in labelled
    assert "Ada" in run(filled, "keys", "list").stdout
    assert "Ada" in run(filled, "report", "keys").stdout
    assert run(filled, "keys", "rename", "Ada", "").stdout == f"client key {one['client_key_id']}: Ada -> {mask}\n"
    filled.require_exactly(calls(600))
    assert run(filled, "keys", "rename", str(one["client_key_id"]), "Bob").code == 0
    assert "Bob" in dict(filled.ask(OF_KEY))


def test_a_client_key_that_is_not_there_or_not_one_is_an_error(filled):
    said = sentence(run(filled, "keys", "rename", "nobody", "x", code=2))
    assert "no client key is 'nobody'" in said
    assert "`worker keys list`" in said
    mask = filled.keyring().label(traffic.CLIENT_KEYS[1])
    other_upstream(filled)
    said = sentence(run(filled, "keys", "rename", mask, "Ada", code=2))
    assert f"several client keys are {mask!r}" in said
    run(filled, "keys", "rename", mask, "Ada", "--upstream", "second")
    assert filled.ask("SELECT upstream FROM usage_api.v1_client_keys WHERE client_key = 'Ada'") == [("second",)]


def test_a_whole_client_key_is_no_name_and_is_not_repeated(filled):
    finished = filled.worker(None, "keys", "rename", traffic.CLIENT_KEYS[0], "Ada")
    assert finished.code == 2
    assert traffic.CLIENT_KEYS[0] not in finished.stdout + finished.stderr


# -- resolve ----------------------------------------------------------------------------------------------------


@pytest.fixture
def blind(books):
    """Books that hold 400 calls of no known channel, and the proxy, which knows them by now."""
    with proxy("queue", calls(400)) as simulator:
        for mapping in ("auth-files", "openai-compatibility", "gemini-api-key", "claude-api-key", "codex-api-key",
                        "vertex-api-key", "interactions-api-key", "xai-api-key"):  # fmt: skip
            simulator.override(mapping, b"oops", 500)
        books.sync(simulator)
        simulator.clear_overrides()
        yield books, simulator


def test_resolve_says_what_moves_and_moves_it(blind):
    books, simulator = blind
    known = sum(call.channel != "unknown" for call in calls(400))
    said = run(books, "resolve", "--dry-run", "--json", simulator=simulator).json
    assert set(said) == {"dry_run", "looked_at", "moves"}
    assert (said["dry_run"], said["looked_at"]) == (True, 400)
    assert {frozenset(move) for move in said["moves"]} == {
        frozenset({"upstream", "from_channel", "to_channel", "rule", "records"})
    }
    assert sum(move["records"] for move in said["moves"]) == known
    assert set(dict(books.ask(OF_CHANNEL))) == {"unknown"}
    table = run(books, "resolve", "--dry-run", simulator=simulator).stdout
    assert table.splitlines()[0].rstrip() == "Would move"
    assert table.endswith(f"looked at 400 records, {known} would move\n")
    assert "claude/bob@example.com" in table
    done = run(books, "resolve", "--json", simulator=simulator).json
    assert (done["dry_run"], done["moves"]) == (False, said["moves"])
    books.require_exactly(calls(400))
    again = run(books, "resolve", simulator=simulator).stdout
    assert again == f"looked at {400 - known} records, 0 moved\n"
    everything = run(books, "resolve", "--all", "--json", simulator=simulator).json
    assert everything == {"dry_run": False, "looked_at": 400, "moves": []}
    assert not [path for _, path, _ in simulator.requests[-10:] if "usage-queue" in path]


def test_resolve_goes_by_what_was_kept_where_the_proxy_is_away(blind):
    books, simulator = blind
    simulator.stop()
    finished = run(books, "resolve", "--json", simulator=simulator)
    assert finished.json["moves"] == []
    assert [line for line in finished.logs if line["event"] == "directory.kept"]
    simulator.start()
    run(books, "resolve", "--upstream", "default", simulator=simulator)
    books.require_exactly(calls(400))


def test_resolve_names_a_proxy_that_is_configured_nowhere(blind):
    books, simulator = blind
    assert "'third'" in sentence(run(books, "resolve", "--upstream", "third", simulator=simulator, code=3))
    assert "no upstream is configured" in sentence(run(books, "resolve", code=3))


# -- all of them ------------------------------------------------------------------------------------------------


def test_without_a_database_each_command_says_so(books):
    dead = {"WORKER_DATABASE_URL": "postgresql://somebody@/nowhere?host=/nonexistent"}
    with proxy("queue") as simulator:
        for command in (*COMMANDS, ("resolve",)):
            finished = books.worker(simulator, *command, **dead)
            assert (finished.code, finished.stdout) == (5, ""), command
            assert "Traceback" not in finished.stderr
            assert finished.stderr.startswith("worker: PostgreSQL:")


def test_without_tables_each_command_says_what_to_do(empty_database_url, tmp_path):
    with Books(empty_database_url, tmp_path) as books:
        for command in COMMANDS:
            assert "worker migrate" in sentence(run(books, *command, code=5))


def test_with_nothing_in_it_the_lists_are_empty(books):
    for what in ("channels", "keys"):
        assert run(books, what, "list").stdout == "none yet\n"
        assert run(books, what, "list", "--json").json == []


def test_without_its_arguments_a_command_is_a_usage_error(books):
    for command in (*(c[:2] for c in COMMANDS if len(c) > 2), ("channels",), ("keys",)):
        finished = books.worker(None, *command)
        assert finished.code == 2
        assert "Usage: worker" in finished.stderr + finished.stdout
