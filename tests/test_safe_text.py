"""Text from outside: nothing of it steers a terminal, ends a line, hides, or becomes a formula."""

import csv
import io
import json
import logging
import re
import sys
import unicodedata

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from support import calls, proxy

from worker import log, safe_text
from worker.cli import show
from worker.reports import report
from worker.simulator.proxy import Fault

HOSTILE = ("[/]", "gpt-5.4[high]", "\x1b[2J\x1b]0;pwn\x07evil", '=HYPERLINK("http://x.example/?"&A1,"x")',
           "a\nworker: all is well", "\u202egnp.exe", "zero\u200bwidth", "\x9b31mred", ":fire:", "@SUM(A1)", "-1+1",
           "[link=https://evil.example]click[/link]", "tab\there", r"\x1b", "#", "'=quoted")  # fmt: skip
ANY = st.text(st.characters(), max_size=60) | st.sampled_from(HOSTILE)
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def has_only_what_is_seen(text):
    return not any(unicodedata.category(c) in UNSEEN or c in "\u3164\ufe0f\u034f" for c in text)


def read_back(shown):
    """The name that is shown so: what makes it certain that no two names are shown alike."""
    escape = re.compile(r"\\(?:(\\)|([nrt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
    letters = {"n": "\n", "r": "\r", "t": "\t"}
    return escape.sub(
        lambda found: found[1] or letters.get(found[2]) or chr(int(found[3] or found[4] or found[5], 16)), shown
    )


# -- per medium -------------------------------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=60) | st.text("\\nxu0041\x1b\n", max_size=20))
@example("\\\x1b")
@example(r"\\x1b")
def test_a_name_is_one_line_that_tells_it_from_every_other(text):
    shown = safe_text.name(text)
    assert has_only_what_is_seen(shown)
    assert read_back(shown) == text


def test_plain_names_stay_as_they_are():
    for text in (
        "gpt-5.4",
        "claude/a@example.org",
        "通义 千问",
        "全角\u3000空格",
        "ｶﾅ",
        "naïve",
        "…Q2mX#3fa9c1",
        r"C:\proxy",
        "🙂",
    ):
        assert safe_text.name(text) == safe_text.sentence(text) == text


@given(ANY)
def test_a_sentence_is_one_line(text):
    assert has_only_what_is_seen(safe_text.sentence(f"the proxy says {text}"))


@given(st.lists(ANY, min_size=1, max_size=4), st.integers(-5, 5), st.decimals(-5, 5, places=2))
def test_csv_parses_back_and_no_field_begins_a_formula(capsys_of, names, count, cost):
    columns = [f"c{n}" for n in range(len(names))]
    row = {**dict(zip(columns, names, strict=True)), "count": count, "cost": cost}
    out = capsys_of(lambda: show.csv_rows([*columns, "count", "cost"], [row]))
    assert has_only_what_is_seen(out.replace("\n", ""))
    assert out.count("\n") == 2
    (found,) = csv.DictReader(io.StringIO(out))
    for column, name in zip(columns, names, strict=True):
        field = found[column]
        assert not re.match(r"[=+\-@\t\r]", field)
        unquoted = field[1:] if re.match(r"''*\s*[=+\-@＝＋－＠]", field) else field  # noqa: RUF001
        assert read_back(unquoted) == name
    assert (int(found["count"]), found["cost"]) == (count, str(cost))


@given(st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_json_is_exact_and_steers_no_terminal(capsys_of, text):
    out = capsys_of(lambda: show.json_document({"model": text, text: [text]}))
    assert has_only_what_is_seen(out.replace("\n", ""))
    assert json.loads(out) == {"model": text, text: [text]}


@given(st.lists(ANY, min_size=1, max_size=3), ANY)
def test_tables_facts_and_sentences_show_any_text_as_text(capsys_of, names, other):
    def printed():
        show.table(other, ["model", "requests"], [{"model": name, "requests": 1} for name in names], other)
        show.facts(other, {"model": other}, other)
        show.say(other)

    out = capsys_of(printed)
    assert has_only_what_is_seen(out.replace("\n", ""))
    flat = "".join(out.split())
    for name in (*names, other):
        assert "".join(safe_text.name(name).split()) in flat or len(name) > 20


@pytest.fixture(scope="module")
def capsys_of():
    """What something prints to stdout."""

    def captured(doing):
        before, sys.stdout = sys.stdout, io.StringIO()
        try:
            doing()
            return sys.stdout.getvalue()
        finally:
            sys.stdout = before

    return captured


# -- logs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(monkeypatch):
    """What loggers write to stderr in a style."""

    def captured(style, doing):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        log.setup("info", style)
        doing()
        return stream.getvalue()

    yield captured
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


FORGED = "broken\n2026-11-26T00:00:00Z [info     ] pass.done\x1b[2J\x9b\u202e"


@pytest.mark.parametrize("style", ["console", "json"])
def test_no_log_line_is_forged_and_no_escape_written(logged, style):
    def speak():
        ours, theirs = structlog.get_logger("worker"), logging.getLogger("library")
        ours.warning("pass.failed", reason=FORGED, names=[FORGED], told={FORGED: (FORGED,)})
        theirs.warning("said %s", FORGED)
        for logger in (ours, theirs):
            try:
                int(FORGED)
            except ValueError:
                logger.exception("job.failed")

    said = logged(style, speak)
    assert has_only_what_is_seen(said.replace("\n", ""))
    begun = [line for line in said.splitlines() if not line.startswith(safe_text.CONTINUATION)]
    assert len(begun) == 4
    assert said.count("ValueError: ") == 2
    if style == "json":
        events = [json.loads(line) for line in begun]
        assert events[0]["reason"] == FORGED
        assert FORGED in events[1]["event"]
    else:
        assert f"reason={safe_text.sentence(FORGED)!r}" in begun[0]


# -- through everything -----------------------------------------------------------------------------------------


DAYS = ("--since", "2026-08-20", "--until", "2026-08-23")
RELAYS = ("[prod] relay", "[test] relay")
USED = "SELECT DISTINCT channel_id FROM usage.dimension WHERE channel_id IS NOT NULL ORDER BY 1 LIMIT 1"


@pytest.fixture
def hostile(books):
    """Books in which clients, the proxy and its answers have named things as they liked."""
    made = [
        call.__class__(**{**{f: getattr(call, f) for f in call.__dataclass_fields__}, "model": name, "alias": name})
        for call, name in zip(calls(len(HOSTILE)), HOSTILE, strict=True)
    ]
    with proxy("queue", made) as simulator:
        books.sync(simulator)
    for n, label in enumerate(RELAYS):
        books.ask(f"UPDATE usage.channel SET label = %s WHERE channel_id = ({USED} OFFSET {n})", [label])
    books.ask("UPDATE usage.client_key SET label = %s || client_key_id", ["[/] \x1b[2J=x"])
    return books


def test_every_report_shows_hostile_names_in_every_format(hostile):
    for what, family in report.FAMILIES.items():
        day = DAYS if "since" in family.takes else ()
        for style in ("table", "json", "csv"):
            finished = hostile.worker(None, "report", what, *day, "--format", style)
            assert (finished.code, finished.stderr) == (0, ""), (what, style)
            assert has_only_what_is_seen(finished.stdout.replace("\n", "")), (what, style)
    models = hostile.worker(None, "report", "models").stdout
    assert "[/]" in models
    assert "gpt-5.4[high]" in models
    assert ":fire:" in models
    for arguments in (["channels"], ["records", *DAYS], ["latency", "--by", "channel", *DAYS]):
        shown = hostile.worker(None, "report", *arguments).stdout
        assert [label in shown for label in RELAYS] == [True, True], arguments
        assert "[/]" in shown or arguments[0] != "records"


@pytest.mark.parametrize(
    "command",
    [["prices", "unpriced"], ["prices", "list"], ["channels", "list"], ["keys", "list"], ["status"], ["verify"],
     ["quarantine", "list"], ["reprice", "--dry-run"], ["resolve", "--all", "--dry-run"], ["doctor"]],
)  # fmt: skip
def test_every_command_shows_hostile_names(hostile, command):
    hostile.ask("UPDATE usage.record SET cost_usd = NULL, actual_cost_usd = NULL, price_id = NULL")
    with proxy("queue") as simulator:
        finished = hostile.worker(simulator, *command)
    assert "Traceback" not in finished.stderr
    assert has_only_what_is_seen((finished.stdout + finished.stderr).replace("\n", ""))


@pytest.mark.parametrize(
    "arguments",
    [["--\x1b[2J"], ["report", "\x1b[2J\u202e"], ["report", "models", "--limit", "\x9b"], ["\x1b]0;pwn\x07"],
     ["report", "daily", "--since", "\x1b[31m"], ["--config", "/nowhere/\x1b[2J", "status"],
     ["keys", "rename", "\x1b", "x"],
     ["channels", "show", "[/]\x1b[2J"], ["prices", "set", "x", "--input", "\x1b[2J"], ["import", "\x1b[2J"]],
)  # fmt: skip
def test_errors_that_quote_an_argument_quote_it_safely(books, arguments):
    finished = books.worker(None, *arguments)
    assert finished.code in (2, 3)
    assert finished.stderr
    assert has_only_what_is_seen(finished.stderr.replace("\n", ""))
    assert "Traceback" not in finished.stderr


SAID = "broken\n1999-11-26T00:00:00Z [info     ] pass.done\x1b[2J\u202e"
TELLING = {
    "json": Fault(status=400, body=json.dumps({"error": SAID}).encode()),
    "json, after which it is tried again": Fault(status=500, body=json.dumps({"error": SAID}).encode()),
    "a refused key": Fault(status=401, body=json.dumps({"error": SAID}).encode()),
    "a body of any kind": Fault(status=400, body=SAID.replace("\n", "\r").encode()),
}


ESCAPED = (r"\x1b[2J", r"\u202e")


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("path", ["usage-statistics-enabled", "usage-queue"])
@pytest.mark.parametrize("kind", TELLING)
def test_an_error_text_of_a_proxy_forges_nothing_on_stderr(books, kind, path, style):
    with proxy("queue", calls(5)) as simulator:
        simulator.fail_next(path, *[TELLING[kind]] * 20)
        finished = books.worker(simulator, "sync", "--once", WORKER_LOG_FORMAT=style)
    assert finished.code == 4, finished.stderr
    assert has_only_what_is_seen((finished.stdout + finished.stderr).replace("\n", ""))
    told = [line for line in finished.stderr.splitlines() if "broken" in line]
    assert [line[: len("worker: ")] for line in told].count("worker: ") == 1
    assert len(told) > 1  # it arrived, in the log and in the last word,
    for line in told:
        said = json.loads(line) if line.startswith("{") else line
        words = said.get("error") or said["reason"] if isinstance(said, dict) else said
        assert all(part in words for part in ("pass.done", *(("\x1b[2J", "\u202e") if words is not said else ESCAPED)))
    assert not any(line.startswith("1999") for line in finished.stderr.splitlines())  # and forged no line
