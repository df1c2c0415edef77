"""The documentation says what the program does: commands, keys, variables, exit codes, events, SQL and its results.

With UPDATE_DOCS=1 the tables of columns, the results of the SQL and the demo's report are written instead of compared.
"""

import contextlib
import io
import json
import os
import re
import shlex
import textwrap
import tomllib
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args
from urllib.parse import urlencode

import psycopg
import pytest
from pydantic import SecretStr
from typer.main import get_command
from typer.testing import CliRunner

from worker import config, errors, log
from worker.cli import demo
from worker.cli import main as cli
from worker.cli import report_tables as report_print
from worker.db import database
from worker.reports import report
from worker.simulator.proxy import Simulator
from worker.simulator.traffic import Traffic
from worker.sync import run as sync

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "config.example.toml"
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
SOURCE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "worker").rglob("*.py")))
UPDATE = "UPDATE_DOCS=1 make test PYTEST_ARGS=tests/test_docs.py"

BEGUN = datetime(2026, 11, 18, tzinfo=UTC)
NUMBERS = {20, 21, 23, 700, 701, 1700}  # the types that psql aligns to the right
NO_ERRORS = {0, 6}  # done, and done with records in quarantine
OF_HTTPX = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE"}


def blocks(text, *languages):
    """The code blocks in these languages, in order."""
    found = re.findall(r"(?ms)^ *```(\w*)\n(.*?)^ *```$", text)
    return [textwrap.dedent(body) for language, body in found if language in languages]


def table(text, heading):
    """The rows of the table whose first column is called `heading`, as lists of cells."""
    rows = re.search(rf"(?m)^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", text)
    assert rows, f"there is no table of {heading}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[1].splitlines()]


# -- commands ---------------------------------------------------------------------------------------------------


def typed(text):
    """What is to be typed into a shell, as (program, words)."""
    for line in "".join(blocks(text, "sh", "crontab")).splitlines():
        found = re.search(r"(?:^|\s)(?:\S*/)?(worker|make)(?:\s+([^|>&;]*)|$)", line)
        if found:
            yield found[1], shlex.split(found[2] or "", comments=True)


def mentioned(text):
    """What the prose mentions as `worker …`, as words."""
    return [shlex.split(words) for words in re.findall(r"`worker ([a-z][^`]*)`", text)]


def walk(words):
    """Follow words into the tree of commands; return the way, the command at its end, and the words that are left."""
    command, way = get_command(cli.app), []
    while words and words[0] in getattr(command, "commands", {}):
        command, way, words = command.commands[words[0]], [*way, words[0]], words[1:]
    return way, command, words


def leaves(command, way=()):
    below = getattr(command, "commands", None)
    if below is None:
        return {way}
    return set().union(*(leaves(inner, (*way, name)) for name, inner in below.items()))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_shown_exists(page):
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    group = get_command(cli.app)
    for program, words in typed(PAGES[page]):
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, words
            continue
        begin = next(n for n, word in enumerate(words) if word in group.commands)
        group.make_context("worker", words[: begin + 1])
        way, command, rest = walk(words[begin:])
        assert CliRunner().invoke(cli.app, [*way, "--help"]).exit_code == 0
        command.make_context(way[-1], list(rest))  # refuses unknown options, bad values and missing arguments


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_mentioned_exists(page):
    for words in mentioned(PAGES[page]):
        way, command, rest = walk(words)
        options = {option for parameter in command.params for option in parameter.opts}
        assert way, words
        assert {word for word in rest if word.startswith("--")} <= options, words
        assert not rest or not hasattr(command, "commands"), words


def test_every_command_is_documented():
    shown = {tuple(walk(words)[0]) for text in PAGES.values() for words in mentioned(text)}
    for text in PAGES.values():
        for program, words in typed(text):
            begin = next((n for n, word in enumerate(words) if word in get_command(cli.app).commands), 0)
            if program == "worker":
                shown.add(tuple(walk(words[begin:])[0]))
    assert leaves(get_command(cli.app)) - shown == set()


# -- configuration ----------------------------------------------------------------------------------------------


def settings(model=config.Config, prefix=""):
    """Every key of the configuration and its default; None where it has none."""
    for name, field in model.model_fields.items():
        inner = (get_args(field.annotation) or [field.annotation])[0]
        if isinstance(inner, type) and issubclass(inner, config.Section):
            yield from settings(inner, f"{prefix}{name}.")
        else:
            value = None if field.is_required() else field.get_default(call_default_factory=True)
            yield prefix + name, value.get_secret_value() if isinstance(value, SecretStr) else value


def flat(tree, prefix=""):
    for name, value in tree.items():
        inner = value[0] if isinstance(value, list) else value
        if isinstance(inner, dict):
            yield from flat(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@pytest.fixture
def data_dirs(monkeypatch):
    """The default of `data_dir` for root and for others."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    found = []
    for uid in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        found.append(str(config.default_data_dir()).replace(str(Path.home()), "~"))
    return found


@pytest.fixture
def uncommented(tmp_path):
    """The example with every key of it in force."""
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"(?m)^#(?=\S)", "", EXAMPLE.read_text(encoding="utf-8")), encoding="utf-8")
    return file


def test_the_example_holds_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.load(EXAMPLE, {}) == config.load(None, {})


def test_the_example_names_every_key_with_its_default(uncommented, data_dirs):
    shown = dict(flat(tomllib.loads(uncommented.read_text(encoding="utf-8"))))
    known = dict(settings()) | {"data_dir": data_dirs[0]}
    assert shown.keys() == known.keys()
    assert {key: shown[key] for key in known if known[key] is not None} == {
        key: value for key, value in known.items() if value is not None
    }


def test_config_check_passes_the_example_with_an_upstream(uncommented, monkeypatch):
    monkeypatch.setattr(log, "setup", lambda *_: None)  # stderr here is gone after the test
    nothing = {name: None for name in os.environ if name.startswith("WORKER_")}
    named = nothing | {"WORKER_UPSTREAM_URL": "http://127.0.0.1:8317", "WORKER_UPSTREAM_KEY": "a key"}
    for file, environment in ((uncommented, nothing), (EXAMPLE, named)):
        done = CliRunner().invoke(cli.app, ["--config", str(file), "config", "check"], env=environment)
        assert done.exit_code == 0
        assert "1 upstream" in done.stdout


def test_every_key_is_documented_with_its_default_and_its_variable(data_dirs, tmp_path):
    rows = table(PAGES["docs/configuration.md"], "key")
    known = dict(settings())
    assert [key.strip("`") for key, *_ in rows] == list(known)
    for key, default, variable, _ in rows:
        name, value = key.strip("`"), known[key.strip("`")]
        expected = "none" if value is None else f"`{json.dumps(value, default=str)}`"
        if name == "data_dir":
            expected = f"`{data_dirs[0]}` as root, else `{data_dirs[1]}`"
        assert default == expected, name
        assert key_of(variable.strip("`"), tmp_path) == name


def key_of(variable, folder):
    """The key that a variable sets, or ConfigError."""
    value = folder / "value"
    value.write_text("value")
    ((_, keys, _),) = config._from_environment({variable: str(value)})
    return ".".join(key for key in keys if isinstance(key, str))


def test_every_variable_in_the_docs_exists(tmp_path):
    known = dict(settings())
    for text in (*PAGES.values(), EXAMPLE.read_text(encoding="utf-8")):
        for variable in set(re.findall(r"\bWORKER_[A-Z0-9_]*[A-Z0-9]\b", text)) - {"WORKER_CONFIG"}:
            assert key_of(variable, tmp_path) in known, variable
    others = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGES["docs/configuration.md"]))
    others = {name for name in others if not name.startswith(("WORKER_", "_"))} - OF_HTTPX
    assert others
    assert {name for name in others if f'"{name}"' not in SOURCE} == set()


def test_every_variable_is_documented():
    documented = set(re.findall(r"`(WORKER_[A-Z0-9_]+)`", PAGES["docs/configuration.md"]))
    files = {f"{name}_FILE" for name in config.SECRET_NAMES}
    assert config.SHORT_NAMES.keys() | files | {"WORKER_CONFIG"} <= documented


# -- exit codes and events --------------------------------------------------------------------------------------


def codes_of(error):
    return {error.exit_code}.union(*(codes_of(kind) for kind in error.__subclasses__()))


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_every_exit_code_is_documented(page):
    assert {int(code) for code, *_ in table(PAGES[page], "code")} == codes_of(errors.WorkerError) | NO_ERRORS


def test_every_event_is_documented():
    logged = {
        (event, level.replace("exception", "error"))
        for level, event in re.findall(r'\blog\.(debug|info|warning|error|exception)\(\s*"([a-z_.]+)"', SOURCE)
    }
    shown = {(event.strip("`"), level) for event, level, _ in table(PAGES["docs/operations.md"], "event")}
    assert shown == logged


# -- links ------------------------------------------------------------------------------------------------------


def anchors(text):
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


# -- SQL --------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(database_url):
    found = database.connect(database_url)
    yield found
    found.dispose()


@pytest.fixture
def filled(engine, tmp_path):
    """A database with the demo's traffic, at a time and under a pepper that stay the same."""
    traffic = Traffic(demo.SEED, start=BEGUN)
    with Simulator(generation="queue", key=demo.KEY, traffic=traffic) as proxy:
        upstream = config.Upstream(name="demo", url=proxy.url, key=SecretStr(demo.KEY))
        security = config.Security(pepper=SecretStr("the documentation's"))
        whole = config.Config(data_dir=tmp_path, upstream=(upstream,), security=security)
        for calls in (demo.FIRST_CALLS, demo.MORE_CALLS):
            proxy.push(traffic.generate(calls))
            assert sync.sync_once(whole, engine, upstream).exit_code == 0
    return engine


def in_words(connection, statement):
    """What psql would print of the last statement."""
    cursor = connection.execute(statement)
    while cursor.nextset():
        pass
    found = cursor.pgresult
    columns = []
    for n in range(found.nfields):
        values = [(found.get_value(row, n) or b"").decode() for row in range(found.ntuples)]
        name, right = found.fname(n).decode(), found.ftype(n) in NUMBERS
        width = max(map(len, [name, *values]))
        align = str.rjust if right else str.ljust
        columns.append([name.center(width), "-" * width, *(align(value, width) for value in values)])
    head, rule, *rows = zip(*columns, strict=True)
    lines = [" " + " | ".join(head), "-" + "-+-".join(rule) + "-", *(" " + " | ".join(row) for row in rows)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum)
FROM pg_attribute AS a
WHERE a.attrelid = %s::regclass AND a.attnum > 0
ORDER BY a.attnum
"""


FUNCTION = """
SELECT pg_get_function_arguments(oid), format_type(prorettype, NULL), proretset, obj_description(oid, 'pg_proc')
FROM pg_proc WHERE pronamespace = 'usage_api'::regnamespace AND proname = %s
"""
SHORTER = (("timestamp with time zone", "timestamptz"), ("timestamp without time zone", "timestamp"))
RELATIONS = "SELECT relname::text FROM pg_class WHERE relnamespace = 'usage_api'::regnamespace"
VIEWS_AND_FUNCTIONS = """
SELECT viewname::text FROM pg_views WHERE schemaname = 'usage_api'
UNION SELECT proname::text FROM pg_proc WHERE pronamespace = 'usage_api'::regnamespace
"""


def columns_of(connection, name):
    """The columns of a view, or of the rows of a function; none of a function that returns one value."""
    if (name,) not in connection.execute(RELATIONS).fetchall():
        return []
    return connection.execute(COLUMNS, [f"usage_api.{name}"]).fetchall()


def told(connection, name):
    """What a view is, or how a function is called and what it answers."""
    function = connection.execute(FUNCTION, [name]).fetchone()
    if function is None:
        return connection.execute("SELECT obj_description(%s::regclass)", [f"usage_api.{name}"]).fetchone()[0]
    arguments, answer, rows, comment = function
    call = f"{name}({re.sub(r'::[a-z ]+', '', arguments)})" + ("" if rows else f" → {answer}")
    for long, short in SHORTER:
        call = call.replace(long, short)
    return f"`{call}`\n\n{comment}"


def column_table(connection, marker):
    """A view's or function's comment and columns; of one that differs from another in few, those."""
    view, other = marker["view"], marker["other"]
    known = columns_of(connection, other) if other else []
    rows = [f"| `{name}` | {kind} | {text} |" for name, kind, text in columns_of(connection, view)
            if (name, kind, text) not in known]  # fmt: skip
    head = ["", "| column | type | meaning |", "|---|---|---|"] if rows else []
    return "\n".join([marker[1], told(connection, view), *head, *rows, "<!-- end -->"])


def written(connection, text):
    """A page as it should be: with the columns of the views, and the results of its SQL."""
    table_of = partial(column_table, connection)
    text = re.sub(r"(?s)(<!-- columns: (?P<view>\w+)(?: except (?P<other>\w+))? -->)\n.*?<!-- end -->", table_of, text)
    return re.sub(
        r"(?s)(?<=```sql\n)([^`]*)```\n\n```text\n.*?```",
        lambda shown: f"{shown[1]}```\n\n```text\n{in_words(connection, shown[1])}```",
        text,
    )


REPORT = re.compile(r"(?s)(?<=```sh\n)worker (report [^\n]*)\n```\n\n```text\n.*?```")


def reported(engine, text):
    """A page with what the reports that it shows print, each where its text stands."""
    with database.transaction(engine) as connection:
        url = f"postgresql://?{urlencode(connection.info.get_parameters())}"

    def run(shown):
        done = CliRunner().invoke(cli.app, shlex.split(shown[1]), env={"WORKER_DATABASE_URL": url, "NO_COLOR": "1"})
        assert done.exit_code == 0, done.output
        printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
        return f"worker {shown[1]}\n```\n\n```text\n{printed}```"

    return REPORT.sub(run, text)


def demo_report(engine):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        report_print.print_figures(report.figures(engine, "channels"))
    return "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines() if line.strip())


def test_columns_results_and_the_demos_report_are_up_to_date(filled, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with database.transaction(filled) as connection:
        pages = {page: reported(filled, written(connection, text)) for page, text in PAGES.items()}
    before, _, after = pages["README.md"].partition("```text\n")
    pages["README.md"] = f"{before}```text\n{demo_report(filled)}{after[after.index('```') :]}"
    for page, text in pages.items():
        if os.environ.get("UPDATE_DOCS"):
            (ROOT / page).write_text(text, encoding="utf-8")
        else:
            assert PAGES[page] == text, f"{page} is out of date: {UPDATE}"


def test_every_view_and_every_function_is_documented(engine):
    with database.transaction(engine) as connection:
        there = [name for (name,) in connection.execute(VIEWS_AND_FUNCTIONS).fetchall()]
    documented = re.findall(r"(?m)^<!-- columns: (\w+)", PAGES["docs/sql.md"])
    assert sorted(documented) == sorted(there)
    assert set(re.findall(r"\bv\d+_[a-z_]+", "".join(PAGES.values()))) == set(documented)


def test_every_family_of_reports_is_shown_with_what_it_prints():
    shown = {shlex.split(found[1])[1] for found in REPORT.finditer(PAGES["docs/reports.md"])}
    assert shown == set(report.FAMILIES)


def test_every_option_of_reports_is_documented_with_the_families_that_take_it():
    command = get_command(cli.app).commands["report"]
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    documented = {
        option.strip("`").split()[0]: families for option, families, _ in table(PAGES["docs/reports.md"], "option")
    }
    assert documented.keys() == options
    for option, families in documented.items():
        takes = {name for name, family in report.FAMILIES.items() if option[2:].replace("-", "_") in family.takes}
        if option not in {"--format", "--json"}:
            said = re.findall(r"`([a-z-]+)`", families)
            assert (set(report.FAMILIES) - set(said) if "but" in families else set(said)) == takes, option


def test_every_column_that_figures_come_from_exists(engine):
    named = set(re.findall(r"`(v1_\w+)\.(\w+)`", PAGES["docs/figures.md"]))
    with database.transaction(engine) as connection:
        there = {(view, name) for view in {view for view, _ in named} for name, *_ in columns_of(connection, view)}
    assert named - there == set()


def test_every_statement_runs(engine):
    for statement in (found for text in PAGES.values() for found in blocks(text, "sql")):
        # those that make roles need a privilege, and are undone
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege), database.transaction(engine) as connection:
            connection.execute(statement)
            connection.rollback()
