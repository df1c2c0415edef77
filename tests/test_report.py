"""`worker report`: every family, as people and as programs read it."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import conftest
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from sqlalchemy.engine import make_url
from support import Books, calls, plain_environment, proxy

from worker.cli import charts, show
from worker.cli import reports as report_command
from worker.reports import report

FIRST, LAST = date(2026, 8, 20), date(2026, 8, 22)
DAYS = ("--since", "2026-08-20", "--until", "2026-08-23")
NOW = ("--at", "2026-08-22T12:00Z")
TOTALS = ("channels", "groups", "models", "keys", "endpoints", "daily", "hourly", "summary", "trend")
SOME = calls(700)
BEGUN = {id(call): datetime.fromtimestamp(call.timestamp_ns // 10**9, UTC) for call in SOME}


def window(what):
    """The options with which a family is about the calls, whatever the day is today."""
    return NOW if "at" in report.FAMILIES[what].takes else DAYS


@pytest.fixture(scope="module")
def filled(server_url, admin, template, tmp_path_factory):
    """Books that hold 700 calls of three days; no test changes them."""
    with (
        conftest._fresh(admin, template) as name,
        Books(conftest._text(server_url.set(database=name)), tmp_path_factory.mktemp("filled")) as books,
        proxy("v8", SOME) as simulator,
    ):
        books.sync(simulator)
        yield books


@pytest.fixture(scope="module")
def reader(filled):
    """The URL of the same database for one that may read usage_api and nothing else."""
    if not filled.ask("SELECT 1 FROM pg_roles WHERE rolname = 'usage_reader'"):
        pytest.skip("this account may not make roles")
    name = f"reader_{uuid.uuid4().hex[:8]}"
    filled.ask(f"CREATE ROLE {name} LOGIN PASSWORD 'EXAMPLE' IN ROLE usage_reader")
    yield make_url(filled.dsn).set(username=name, password="EXAMPLE").render_as_string(hide_password=False)
    filled.ask(f"DROP ROLE {name}")


def asked(books, what, *options):
    finished = books.worker(None, "report", what, *options)
    assert (finished.code, finished.stderr) == (0, ""), finished.stderr
    return finished


def rows_of(books, what, *options):
    return asked(books, what, *options, "--json").data


# -- in every format --------------------------------------------------------------------------------------------


def test_the_choices_of_the_command_line_are_those_there_are(filled):
    assert [what.value for what in report_command.What] == list(report.FAMILIES)
    assert [by.value for by in report_command.By] == list(report.GROUPINGS)
    for by in report.GROUPINGS:
        assert {row["measure"] for row in rows_of(filled, "latency", *DAYS, "--by", by)} == {"latency", "ttft"}


@pytest.mark.parametrize("what", report.FAMILIES)
def test_every_family_says_the_same_as_json_as_csv_and_as_a_table(filled, what):
    family = report.FAMILIES[what]
    rows = rows_of(filled, what, *window(what))
    assert rows
    assert [tuple(row) for row in rows] == [family.columns] * len(rows)
    assert asked(filled, what, *window(what), "--format", "json").data == rows

    table = list(csv.DictReader(io.StringIO(asked(filled, what, *window(what), "--format", "csv").stdout)))
    assert [tuple(row) for row in table] == [family.columns] * len(rows)
    for row, other in zip(rows, table, strict=True):
        for name, value in row.items():
            if isinstance(value, bool):
                assert other[name] == str(value), name
            elif isinstance(value, (int, float)):
                assert Decimal(other[name]) == Decimal(str(value)), name
            else:
                assert other[name].replace("+00:00", "Z") == (value or ""), name

    shown = asked(filled, what, *window(what)).stdout
    assert shown.startswith(family.title)
    assert "\x1b" not in shown
    if family.bar and what not in {"models", "endpoints"}:  # these fill the width of a pipe
        assert "█" in shown
    if family.shape == "table":
        first = str(rows[0][family.at_a_glance[0]])
        assert first[:10] in shown


def test_programs_are_told_which_part_of_which_figures_they_get(filled):
    document = asked(filled, "models", *DAYS, "--timezone", "Asia/Kolkata", "--json").json
    assert list(document) == ["report", "window", "count", "unpriced", "data"]
    assert document["report"] == "models"
    assert document["window"] == {"since": "2026-08-20", "until": "2026-08-23", "tz": "Asia/Kolkata"}
    assert document["count"] == len(document["data"]) > 0
    assert document["unpriced"] == {"requests": sum(row["unpriced_requests"] for row in document["data"])}
    assert asked(filled, "models", "--json").json["window"] == {"since": None, "until": None, "tz": "UTC"}
    assert asked(filled, "calls", *NOW, "--json").json["window"]["at"] == "2026-08-22T12:00:00Z"


def test_programs_are_told_of_the_next_page(filled):
    found, page = [], asked(filled, "records", "--limit", "300", "--json").json
    while page["page"]["next"] is not None:
        found += page["data"]
        assert (page["page"]["limit"], page["page"]["total"]) == (300, len(SOME))
        page = asked(filled, "records", "--limit", "300", "--before", page["page"]["next"], "--json").json
    found += page["data"]
    assert [row["record_id"] for row in found] == [
        row["record_id"] for row in rows_of(filled, "records", "--limit", str(len(SOME)))
    ]
    assert asked(filled, "gaps", *DAYS, "--limit", "5", "--json").json["page"]["limit"] == 5
    assert asked(filled, "records", "--search", "no such model", "--json").json["page"]["next"] is None


# -- names that nobody has --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "wrong", "right"),
    [
        ("--channel", "OpenRuoter", "OpenRouter"),
        ("--channel", "openrouter", "OpenRouter"),
        ("--model", "claude", "claude-"),
        ("--upstream", "defalt", "default"),
    ],
)
def test_a_name_that_nobody_has_is_exit_2_and_those_like_it_are_named(filled, option, wrong, right):
    for style in ("table", "json", "csv"):
        finished = filled.worker(None, "report", "channels", option, wrong, "--format", style)
        assert (finished.code, finished.stdout) == (2, "")
        assert repr(wrong) in finished.stderr
        assert right in finished.stderr.partition("nearest: ")[2]


def test_a_name_like_no_other_is_said_to_be_nobodys(filled):
    finished = filled.worker(None, "report", "records", "--client-key", "zzzzzzzzzzzzzzzz")
    assert finished.code == 2
    assert "no client key is named" in finished.stderr
    assert "nearest" not in finished.stderr
    assert "zzzzzzzzzzzzzzzz" not in finished.stderr  # it may be the key


def test_a_former_name_is_told_with_the_one_of_today(books):
    with proxy("queue", calls(100)) as simulator:
        books.sync(simulator)
    assert books.worker(None, "channels", "rename", "OpenRouter", "Team A").code == 0
    finished = books.worker(None, "report", "models", "--channel", "OpenRouter")
    assert finished.code == 2
    assert "no channel is named 'OpenRouter' any more: it is 'Team A' now" in finished.stderr
    assert sum(row["requests"] for row in rows_of(books, "models", "--channel", "Team A")) > 0


def test_a_name_that_is_there_without_usage_in_the_period_is_no_mistake(filled):
    shown = asked(filled, "models", "--channel", "OpenRouter", "--since", "2026-01-01", "--until", "2026-01-02").stdout
    assert shown == "no usage in this period\n"


# -- what is asked for ------------------------------------------------------------------------------------------

SELECT_RECORDS = "SELECT occurred_at, upstream, channel, client_key, model, outcome FROM usage_api.v1_records"


def counted(books, zone="UTC", **wanted):
    """How many requests of the records there are by day of a zone, counted one by one."""
    found = Counter()
    for at, *names in books.ask(SELECT_RECORDS):
        record = dict(zip(("upstream", "channel", "client_key", "model", "outcome"), names, strict=True))
        if record["outcome"] != "warmup" and all(record[name] == value for name, value in wanted.items()):
            found[at.astimezone(ZoneInfo(zone)).date()] += 1
    return found


@pytest.fixture(scope="module")
def names(filled):
    """The values that a filter can have: those of the first record of the busiest channel."""
    row = filled.ask(f"{SELECT_RECORDS} WHERE client_key <> '(no key)' AND channel LIKE 'claude/%%' LIMIT 1", [])[0]
    return dict(zip(("upstream", "channel", "client_key", "model"), row[1:5], strict=True))


@pytest.mark.parametrize("what", TOTALS)
def test_totals_are_of_the_window_and_of_what_is_filtered_by(filled, names, what):
    days = DAYS if what == "trend" else ()
    assert sum(row["requests"] for row in rows_of(filled, what, *days)) == counted(filled).total()
    one_day = ("--since", "2026-08-21", "--until", "2026-08-22")
    assert sum(row["requests"] for row in rows_of(filled, what, *one_day)) == counted(filled)[date(2026, 8, 21)]
    for name, value in names.items():
        found = sum(row["requests"] for row in rows_of(filled, what, *DAYS, f"--{name.replace('_', '-')}", value))
        assert found == counted(filled, **{name: value}).total() > 0, name
    every = [option for name, value in names.items() for option in (f"--{name.replace('_', '-')}", value)]
    found = sum(row["requests"] for row in rows_of(filled, what, *DAYS, *every))
    assert found == counted(filled, **names).total() > 0


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
def test_days_and_windows_are_those_of_the_time_zone_that_is_asked_for(filled, zone):
    wanted = counted(filled, zone)
    found = {row["day"]: row["requests"] for row in rows_of(filled, "daily", "--timezone", zone)}
    assert found == {str(day): n for day, n in wanted.items()}
    dense = rows_of(filled, "trend", *DAYS, "--timezone", zone)
    assert [row["label"] for row in dense] == [str(FIRST + timedelta(days=n)) for n in range(3)]
    assert [row["requests"] for row in dense] == [wanted[FIRST + timedelta(days=n)] for n in range(3)]
    for what in ("hourly", "records"):
        shown = asked(filled, what, "--timezone", zone).stdout
        assert re.search(r"2026-08-2\d \d\d:\d\d(:\d\d)?(\+05:45|-04:00)", shown), what
        assert f"in {zone}" in shown
    hours = rows_of(filled, "trend", *DAYS, "--timezone", zone, "--grain", "hour")
    assert len(hours) == 72
    assert {row["label"][13:] for row in hours} == {":00"}
    (summary,) = rows_of(filled, "summary", *DAYS, "--timezone", zone)
    assert summary["requests"] == sum(row["requests"] for row in hours) == sum(row["requests"] for row in dense)


def test_calls_and_dashboard_are_about_the_instant_that_is_asked_for(filled):
    at = datetime(2026, 8, 22, 12, tzinfo=UTC)
    begun = [BEGUN[id(call)] for call in SOME if call.generate]
    calls_ = {row["period"]: row for row in rows_of(filled, "calls", *NOW)}
    for period, length in (("1m", timedelta(minutes=1)), ("1h", timedelta(hours=1)), ("24h", timedelta(days=1))):
        assert calls_[period]["total"] == sum(at - length <= one < at for one in begun), period
    assert calls_["month"]["since"] == "2026-08-01T00:00:00Z"
    in_kathmandu = rows_of(filled, "calls", *NOW, "--timezone", "Asia/Kathmandu")[-1]
    assert in_kathmandu["since"] == "2026-07-31T18:15:00Z"
    (page,) = rows_of(filled, "dashboard", *NOW)
    assert page["today_requests"] == sum(one.date() == LAST for one in begun)
    assert page["total_requests"] == len(begun)
    assert rows_of(filled, "dashboard", "--at", "2026-08-21T12:00") != [page]


def test_records_are_found_by_their_names_and_read_page_by_page(filled):
    wanted = filled.ask("SELECT record_id, model FROM usage_api.v1_records ORDER BY occurred_at DESC, event_key DESC")
    found, before = [], ()
    while page := rows_of(filled, "records", "--limit", "300", *before):
        found += page
        before = ("--before", f"{page[-1]['occurred_at']},{page[-1]['record_id']}")
    assert [(row["record_id"], row["model"]) for row in found] == wanted
    claude = [row for row in found if "claude" in f"{row['channel']} {row['model']} {row['alias']} {row['provider']}"]
    failed = [row["record_id"] for row in claude if row["outcome"] == "failed"]
    searched = rows_of(filled, "records", "--search", "CLAUDE", "--outcome", "failed", "--limit", "700")
    assert [row["record_id"] for row in searched] == failed
    assert failed

    shown = asked(filled, "records", "--limit", "5").stdout
    assert f"5 of {len(SOME)} records" in shown
    cursor = re.search(r"--before (\S+)", shown)[1]
    assert rows_of(filled, "records", "--limit", "5", "--before", cursor) == found[5:10]
    assert "--before" not in asked(filled, "records", "--limit", "700").stdout
    last = ("--before", f"{found[-4]['occurred_at']},{found[-4]['record_id']}")
    assert "3 of 700 records\n" in asked(filled, "records", "--limit", "5", *last).stdout
    assert asked(filled, "records", "--search", "no such model").stdout == "no such records in this period\n"


def test_a_heat_map_ends_with_the_day_before_until_and_begins_with_since(filled):
    year = rows_of(filled, "heatmap", "--until", "2026-08-23")
    assert [row["day"] for row in year] == [str(LAST - timedelta(days=n)) for n in reversed(range(365))]
    assert {row["day"]: row["requests"] for row in year if row["requests"]} == {
        str(day): n for day, n in counted(filled).items()
    }
    few = rows_of(filled, "heatmap", *DAYS)
    assert few == year[-3:]
    assert rows_of(filled, "heatmap")[-1]["day"] == str(datetime.now(UTC).date())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["heatmap", "--channel", "x"], "--channel"),
        (["heatmap", "--timezone", "Asia/Kolkata"], "--timezone"),
        (["calls", "--since", "2026-08-20"], "--since"),
        (["dashboard", "--until", "2026-08-20"], "--until"),
        (["daily", "--at", "2026-08-20"], "--at"),
        (["channels", "--limit", "5"], "--limit"),
        (["channels", "--search", "x"], "--search"),
        (["models", "--grain", "day"], "--grain"),
        (["trend", "--by", "model"], "--by"),
        (["latency", "--client-key", "x"], "--client-key"),
        (["gaps", "--upstream", "x"], "--upstream"),
        (["fallbacks", "--model", "x"], "--model"),
        (["daily", "--since", "2026-08-21", "--until", "2026-08-21"], "--until 2026-08-21 is not after --since"),
        (["daily", "--timezone", "Mars/Olympus"], "--timezone 'Mars/Olympus'"),
        (["daily", "--json", "--format", "csv"], "--format csv"),
        (["calls", "--at", "noon"], "--at 'noon'"),
        (["records", "--before", "2026-08-20T00:00Z"], "--before"),
        (["records", "--before", "yesterday,00ff"], "--before"),
        (["records", "--before", "2026-08-20T00:00Z,no hex"], "--before"),
        (["records", "--limit", "0"], "--limit"),
        (["trend", "--grain", "week"], "--grain"),
        (["latency", "--by", "day"], "--by"),
    ],
)
def test_options_that_have_no_meaning_are_exit_2_and_named(filled, arguments, named):
    finished = filled.worker(None, "report", *arguments)
    assert (finished.code, finished.stdout) == (2, "")
    assert named in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_window_whose_records_are_gone_is_exit_2_and_says_which_can_be_asked_for(books):
    with proxy("queue", calls(200)) as simulator:
        books.sync(simulator)
    books.ask("UPDATE usage.upstream SET records_dropped_before = '2026-08-22'")
    assert asked(books, "summary", *DAYS).stdout
    for what, zone in (("summary", "Asia/Kolkata"), ("fallbacks", "UTC")):
        finished = books.worker(
            None, "report", what, "--since", "2026-08-21", "--until", "2026-08-23", "--timezone", zone
        )
        assert (finished.code, finished.stdout) == (2, "")
        assert "have been dropped" in finished.stderr
        assert "whole" in finished.stderr
        assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("what", report.FAMILIES)
def test_a_reader_gets_what_the_owner_gets(filled, reader, what):
    finished = filled.worker(None, "report", what, *window(what), "--json", WORKER_DATABASE_URL=reader)
    assert (finished.code, finished.stderr) == (0, "")
    assert finished.data == rows_of(filled, what, *window(what))


# -- in words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", report.FAMILIES)
def test_where_there_is_no_usage_it_is_said_in_words_and_programs_get_zeros_or_nothing(books, what):
    assert asked(books, what).stdout == "no usage yet: nothing has been loaded\n"
    rows = rows_of(books, what)
    counts = report.FAMILIES[what].counts or ("total",)
    assert not any(row[name] for row in rows for name in counts)
    assert asked(books, what, "--format", "csv").stdout.splitlines()[0] == ",".join(report.FAMILIES[what].columns)


@pytest.mark.parametrize("what", [what for what, family in report.FAMILIES.items() if "since" in family.takes])
def test_an_empty_period_is_said_in_words(filled, what):
    shown = asked(filled, what, "--since", "2026-01-01", "--until", "2026-01-08").stdout
    assert shown == f"{report.FAMILIES[what].nothing}\n"


def test_what_has_no_price_and_what_no_channel_is_known_of_is_said_in_words(books):
    with proxy("queue", calls(300)) as simulator:
        books.sync(simulator)
    books.ask(
        "UPDATE usage.record SET cost_usd = NULL, actual_cost_usd = NULL, cache_read_cost_usd = NULL, "
        "cache_write_cost_usd = NULL, price_id = NULL"
    )
    assert books.worker(None, "rebuild").code == 0
    for what in ("channels", "records"):
        shown = asked(books, what, *DAYS).stdout
        assert "unpriced" in shown, what
        assert "0.0000" not in shown, what
    channels = asked(books, "channels").stdout
    assert "`worker prices unpriced`" in channels
    assert "unknown: the proxy lists no credential that fits" in channels
    assert re.search(r"cost USD +unpriced", asked(books, "summary").stdout)
    assert re.search(r"saved by caches USD +-", asked(books, "cache-hits", *DAYS).stdout)


# -- in a terminal ----------------------------------------------------------------------------------------------

ROOT = Path(report.__file__).parents[1]
SGR = re.compile(r"\x1b\[([0-9;]*)m")


def in_a_terminal(books, width, *arguments, **environment):
    """What a command prints on a terminal so wide."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = plain_environment(books.environment(TERM="xterm-256color", **environment))
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", "report", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "PYTHONPATH": str(ROOT)}, cwd=books.folder,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while True:
        try:
            some = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        said += some
    os.close(ours)
    assert process.wait(60) == 0, said.decode()
    return said.decode().replace("\r\n", "\n")


NOTES = ("from ", "times in", "a wider", "* without", "~ estimated", "unknown:", "estimated", "> ")


def without_notes(lines):
    """What is drawn, without the lines that the terminal folds."""
    return [
        line
        for line in lines
        if not line.startswith(NOTES) and "records, older ones" not in line and " requests on " not in line
    ]


@pytest.mark.parametrize("width", [60, 100, 220])
@pytest.mark.parametrize(
    "what", ["channels", "models", "keys", "trend", "records", "cache-ttl", "gaps", "latency", "heatmap"]
)
def test_a_report_fits_the_terminal_and_says_what_it_leaves_out(filled, what, width):
    shown = SGR.sub("", in_a_terminal(filled, width, what, *DAYS))
    family = report.FAMILIES[what]
    lines = shown.splitlines()
    assert max(map(cell_len, without_notes(lines))) <= width
    assert lines[0].startswith(family.title.split()[0])
    if family.bar == "requests":
        assert "requests" in shown
        assert "█" in shown or width < 220
    if what in {"channels", "models", "trend"}:
        assert ("a wider terminal also shows:" in shown) == (width < 160)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("what", ["models", "endpoints"])
def test_rows_that_only_the_provider_tells_apart_show_it_however_narrow(books, width, what):
    twice = [replace(call, model="shared-model", alias="shared-model") for call in calls(60)]
    with proxy("queue", twice) as simulator:
        books.sync(simulator)
    assert len({row["provider"] for row in rows_of(books, what, *DAYS)}) > 1
    shown = SGR.sub("", in_a_terminal(books, width, what, *DAYS))
    assert "provider" in shown
    assert max(map(cell_len, without_notes(shown.splitlines()))) <= width


def test_a_terminal_has_colours_unless_they_are_not_wanted(filled):
    coloured = in_a_terminal(filled, 200, "heatmap", *DAYS)
    assert any(code.startswith("38;") for code in SGR.findall(coloured))
    assert any(code == "36" for code in SGR.findall(in_a_terminal(filled, 200, "channels", *DAYS)))
    for what in ("heatmap", "channels"):
        plain = in_a_terminal(filled, 200, what, *DAYS, NO_COLOR="1")
        assert not any(re.search(r"\b(3[0-8]|9[0-7])\b", code) for code in SGR.findall(plain))
    assert SGR.sub("", in_a_terminal(filled, 200, "heatmap", *DAYS, NO_COLOR="1")) == SGR.sub("", coloured)
    assert asked(filled, "heatmap", *DAYS).stdout == SGR.sub("", coloured)


# -- the calendar and the bars ----------------------------------------------------------------------------------


def drawn(values, width):
    lines, shown, weeks = charts.calendar(values, width)
    return [line.plain for line in lines], shown, weeks


def test_a_calendar_has_weeks_as_columns_weekdays_as_rows_and_a_shade_for_each_quarter():
    begin = date(2026, 1, 28)  # a Wednesday
    values = {begin + timedelta(days=n): n for n in range(9)}
    assert drawn(values, 80) == (
        [
            "    Feb",
            "Mon   ▓",
            "Tue   ▓",
            "Wed · █",
            "Thu ░ █",
            "Fri ░",
            "Sat ▒",
            "Sun ▒",
        ],
        2,
        2,
    )
    assert charts.legend().plain == "less ·░▒▓█ more"


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=400))
def test_days_with_usage_share_the_shades_evenly_however_far_one_is_above_the_others(values):
    places = charts.shades([*values, 10**15])
    assert [places[value] for value in sorted(values)] == sorted(places[value] for value in values)
    assert all((places[value] == 0) == (value == 0) for value in values)
    assert set(places.values()) <= set(range(5))
    used = [value for value in (*values, 10**15) if value]
    for shade in range(1, 5):  # equal values are of one shade; else none has more than its quarter
        of_it = [value for value in used if places[value] == shade]
        assert len(of_it) <= -(-len(used) // 4) + max(map(of_it.count, of_it), default=0)


def test_one_busy_day_leaves_the_other_days_their_shades():
    values = [*range(1, 363), 10**6]
    assert {shade: sum(charts.shades(values)[value] == shade for value in values) for shade in range(1, 5)} == {
        1: 90, 2: 91, 3: 91, 4: 91,
    }  # fmt: skip


def test_a_narrow_calendar_shows_the_newest_weeks():
    values = {date(2026, 12, 31) - timedelta(days=n): 1 for n in range(365)}
    wide, shown, weeks = drawn(values, 120)
    assert (shown, weeks) == (53, 53)
    assert re.findall(r"[A-Z][a-z]{2}", wide[0]) == ["Jan", *charts.MONTHS[1:]]
    assert max(map(len, wide)) == 4 + 2 * 53 - 1
    tight, shown, _ = drawn(values, 80)
    assert (shown, max(map(len, tight))) == (53, 4 + 53)
    small, shown, _ = drawn(values, 30)
    assert (shown, max(map(len, small))) == (26, 30)
    assert small[4] == "Thu " + "█" * 26  # the last day
    assert small[5] == "Fri " + "█" * 25
    assert drawn(values, 3)[1] == 1


def test_months_stand_above_the_week_of_their_first_day():
    values = {date(2026, 3, 1) + timedelta(days=n): 0 for n in range(100)}
    months = drawn(values, 200)[0][0]
    for month in (4, 5, 6):
        first = date(2026, month, 1)
        week = (first - date(2026, 2, 23)).days // 7
        assert months.index(charts.MONTHS[month - 1]) == 4 + 2 * week


def test_a_bar_is_as_long_as_its_share_and_shows_what_is_not_nothing():
    assert [charts.bar(value, 80, 10) for value in (0, 0.01, 1, 4, 8, 40, 79, 80)] == [
        "", "▏", "▏", "▌", "█", "█████", "█████████▉", "██████████",
    ]  # fmt: skip
    assert charts.bar(5, 0, 10) == ""


@given(st.integers(-(10**20), 10**20))
def test_a_count_in_short_is_right_to_three_digits_and_no_power(count):
    shown = show._short(count)
    number, unit = re.fullmatch(r"(-?[\d,.]+)([kMGT]?)", shown).groups()
    power = " kMGT".index(unit or " ")
    assert abs(Decimal(number.replace(",", "")) * 1000**power - count) <= max(abs(count) * Decimal("0.005"), 0)
    assert len(re.sub(r"\D", "", number)) <= 3 or unit == "T"
