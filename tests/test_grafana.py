"""The dashboards of deploy/grafana: every query of theirs runs, as a reader, and returns what its panel shows.

Grafana itself has no wheel. So what it does to a query is done here as it documents it: variables by their format, then
the macros of its PostgreSQL data source.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml
from conftest import _fresh, _text
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from support import KEY, Books, calls, proxy, utc
from test_deploy import KUBERNETES, compose, filled, needed, run

from worker.config import OwnPrice, Prices, Retention, Upstream
from worker.corrections import maintain
from worker.simulator.traffic import Traffic
from worker.sync import run as sync

ROOT = Path(__file__).resolve().parents[1]
GRAFANA = ROOT / "deploy/grafana"
BOARDS = sorted(path.stem for path in (GRAFANA / "dashboards").glob("*.json"))
PAGE = (ROOT / "docs/grafana.md").read_text(encoding="utf-8")

HIDDEN = ("grain", "since", "until")
CHANNEL, CLIENT_KEY = 'Bob\'s "claude"', "Ann's laptop"
"""Names that an operator gave, with what ends a string in SQL."""

NUMBERS = {20, 21, 23, 700, 701, 1700}
TIMES = {1082, 1114, 1184}
KINDS = {"stat", "table", "timeseries", "heatmap"}
UNITS = {"short", "currencyUSD", "percent", "ms", "s", "m", "bytes"}
SCHEMA = 42
"""That of Grafana 12.4; later versions bring it up to theirs."""

DAYS = (utc(2026, 8, 13, 7, 21, 5), utc(2026, 8, 24, 9, 59, 0, 250_000))
HOURS = (utc(2026, 8, 20, 7, 21, 5), utc(2026, 8, 22, 9, 59, 0, 250_000))

LAST = timedelta(milliseconds=1)
"""Before what Grafana calls the end of a day."""


@cache
def board(name: str) -> Any:
    return json.loads((GRAFANA / f"dashboards/{name}.json").read_text(encoding="utf-8"))


def flat(panels: list[Any]) -> Iterator[Any]:
    for panel in panels:
        yield panel
        yield from flat(panel.get("panels", []))


def panels(name: str) -> list[Any]:
    """Its panels that show something; those of rows that are closed too."""
    return [panel for panel in flat(board(name)["panels"]) if panel["type"] != "row"]


def variables(name: str) -> dict[str, Any]:
    return {variable["name"]: variable for variable in board(name)["templating"]["list"]}


def sql_of(panel: Any) -> str:
    (target,) = panel["targets"]
    return str(target["rawSql"])


EVERY_PANEL = [pytest.param(name, panel, id=f"{name}-{panel['title']}") for name in BOARDS for panel in panels(name)]


# -- what Grafana does to a query ---------------------------------------------------------------------------------


def sqlstring(value: str, *, as_lately: bool = False) -> str:
    """The format of this name; lately it also puts a backslash before double quotes, which SQL keeps."""
    quoted = value.replace("'", "''")
    return "'" + (quoted.replace('"', '\\"') if as_lately else quoted) + "'"


def interpolated(sql: str, values: Mapping[str, str]) -> str:
    """A query with its variables in place; a custom value of All is taken as it is, whatever the format."""

    def one(found: re.Match[str]) -> str:
        name, form = found[1], found[2]
        assert form == "sqlstring"
        return "NULL" if values[name] == "$__all" else sqlstring(values[name])

    return re.sub(r"\$\{(\w+):(\w+)\}", one, sql)


def expanded(sql: str, since: datetime, until: datetime, interval_s: int = 3600) -> str:
    """A query with its macros in place."""
    begin, end = (f"'{at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}'" for at in (since, until))
    sql = sql.replace("$__interval", f"{interval_s}s")
    sql = sql.replace("$__timeFrom()", begin).replace("$__timeTo()", end)
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {begin} AND {end}", sql)
    sql = re.sub(
        r"\$__timeGroupAlias\((\w+), (\d+)s\)", r'floor(extract(epoch from \1)/\2)*\2 AS "time"', sql
    )  # fmt: skip
    assert "$" not in sql, sql
    return sql


class Reader:
    """Grafana's login, in a database that real passes have filled."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.connection = psycopg.connect(books.dsn, autocommit=True, options="-c statement_timeout=60s")
        self.connection.execute("SET ROLE usage_reader")

    def values(self, name: str, since: datetime, until: datetime, **chosen: str) -> dict[str, str]:
        """What the variables of a board come to."""
        values = dict.fromkeys(variables(name), "$__all") | chosen
        for hidden in set(HIDDEN) & values.keys():
            ((values[hidden],),) = self.connection.execute(expanded(variables(name)[hidden]["query"], since, until))
        return values

    def options(self, name: str, variable: str, **chosen: str) -> list[str]:
        sql = variables(name)[variable]["query"]
        values = dict.fromkeys(variables(name), "$__all") | chosen
        return [value for (value,) in self.connection.execute(expanded(interpolated(sql, values), *HOURS))]

    def show(
        self, name: str, panel: Any, window: tuple[datetime, datetime] = HOURS, **chosen: str
    ) -> tuple[dict[str, int], list[tuple[Any, ...]]]:
        """The columns and the rows that a panel gets; passes were made just now."""
        if name == "operations":
            window = (datetime.now(UTC) - timedelta(hours=6), datetime.now(UTC))
        values = self.values(name, *window, **chosen)
        cursor = self.connection.execute(expanded(interpolated(sql_of(panel), values), *window))
        assert cursor.description is not None
        columns = {column.name: column.type_code for column in cursor.description}
        assert len(columns) == len(cursor.description)
        return columns, cursor.fetchall()


SELECT_ITS_KEY = """
SELECT client_key_id FROM usage_api.v1_records WHERE upstream = 'first' AND channel = 'claude/bob@example.com'
GROUP BY 1 ORDER BY count(*) DESC LIMIT 1
"""


def fill(books: Books) -> None:
    """Two proxies' usage, part of it without a price; of each also a pass that failed."""
    prices = Prices(
        dataset=False,
        own=tuple(
            OwnPrice(
                model=model,
                input_usd_per_mtok=Decimal(2),
                cache_read_usd_per_mtok=Decimal("0.25"),
                cache_write_usd_per_mtok=Decimal("2.5"),
                output_usd_per_mtok=Decimal(8),
            )
            for model in ("gpt*", "claude*")
        ),
    )
    for upstream, made in (("first", calls(2000)), ("second", Traffic(11).generate(300))):
        with proxy("queue", made) as simulator:
            one = Upstream(name=upstream, url=simulator.url, key=SecretStr(KEY))
            assert sync.sync_once(books.config(one, prices=prices), books.engine, one).inserted == len(made)
            wrong = one.model_copy(update={"key": SecretStr("EXAMPLE-wrong-key")})
            assert sync.sync_once(books.config(wrong), books.engine, wrong).exit_code
    ((number,),) = books.ask(SELECT_ITS_KEY)
    for words in (
        ("keys", "rename", str(number), CLIENT_KEY),
        ("channels", "rename", "claude/bob@example.com", CHANNEL, "--upstream", "first"),
    ):
        done = books.worker(None, *words)
        assert done.code == 0, done.stderr


@pytest.fixture(scope="module")
def reader(server_url, admin, template, tmp_path_factory) -> Iterator[Reader]:
    with (
        _fresh(admin, template) as name,
        Books(_text(server_url.set(database=name)), tmp_path_factory.mktemp("books"), "Europe/Berlin") as books,
    ):
        if not books.ask("SELECT 1 FROM pg_roles WHERE rolname = 'usage_reader'"):
            pytest.skip("this account may not make roles")
        fill(books)
        found = Reader(books)
        yield found
        found.connection.close()


# -- queries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [HOURS, DAYS], ids=["hours", "days"])
@pytest.mark.parametrize(("name", "panel"), EVERY_PANEL)
def test_every_panel_gets_what_it_shows(reader, name, panel, window):
    columns, rows = reader.show(name, panel, window=window)
    assert rows
    shape(panel, columns, rows)
    config = panel["fieldConfig"]
    for override in config["overrides"]:
        kind, what = override["matcher"]["id"], override["matcher"]["options"]
        fitting = [column for column in columns if matches(kind, what, column)]
        assert fitting, what
        if any(one["id"] == "unit" for one in override["properties"]):
            assert {columns[column] for column in fitting} <= NUMBERS, what
    for sort in panel["options"].get("sortBy", []):
        assert sort["displayName"] in columns


def matches(kind, what, column):
    if kind == "byName":
        return column == what
    assert kind == "byRegexp"
    pattern, flags = re.fullmatch(r"/(.*)/(i?)", what).groups()
    return re.search(pattern, column, re.IGNORECASE if flags else 0)


def shape(panel, columns, rows):
    """Fail unless the columns are those that this kind of panel draws."""
    measures = [column for column, kind in columns.items() if kind in NUMBERS and column != "time"]
    assert measures or panel["type"] == "table"
    (target,) = panel["targets"]
    assert target["format"] == ("time_series" if panel["type"] in {"timeseries", "heatmap"} else "table")
    if target["format"] == "time_series":
        first, *others = columns
        assert first == "time"
        assert columns["time"] in TIMES | NUMBERS  # a macro's is in seconds
        assert others == ["metric", *measures]["metric" not in columns :]
        times = [row[0] for row in rows]
        assert None not in times
        assert times == sorted(times)
        assert len(measures) == 1 or "metric" not in columns
    if panel["type"] == "stat":
        assert len(rows) == 1 or panel["options"]["reduceOptions"]["values"]


def chosen_of(name):
    known = {"upstream": "first", "channel": CHANNEL, "client_key": CLIENT_KEY}
    return {variable: value for variable, value in known.items() if variable in variables(name)}


@pytest.mark.parametrize(("name", "panel"), EVERY_PANEL)
def test_every_panel_takes_one_value_of_each_variable(reader, name, panel):
    chosen = chosen_of(name)
    columns, everything = reader.show(name, panel)
    if "model" in variables(name):
        chosen["model"] = "claude-sonnet-4-6"
    found, rows = reader.show(name, panel, **chosen)
    assert found == columns
    filtered = {variable for variable in chosen if f"${{{variable}:" in sql_of(panel)}
    assert filtered
    if panel["title"] != "Without a price":
        assert rows
    for column, value in {
        "Proxy": "first",
        "Channel": CHANNEL,
        "Client key": CLIENT_KEY,
        "Model": chosen.get("model"),
    }.items():
        variable = {"Proxy": "upstream"}.get(column, column.lower().replace(" ", "_"))
        if column in columns and variable in filtered:
            place = list(columns).index(column)
            assert {row[place] for row in rows} <= {value}, column
            assert len({row[place] for row in everything}) >= len({row[place] for row in rows})


@pytest.mark.parametrize("as_lately", [False, True])
def test_no_value_leaves_its_quotes(reader, as_lately):
    for value in (CHANNEL, "'; DROP SCHEMA usage_api; --", "\\'", '"', "''"):
        ((found,),) = reader.connection.execute(f"SELECT {sqlstring(value, as_lately=as_lately)}")
        assert found == (value.replace('"', '\\"') if as_lately else value)


@pytest.mark.parametrize(
    ("since", "until", "grain", "first", "last"),
    [
        (*HOURS, "hour", utc(2026, 8, 20, 7), utc(2026, 8, 22, 10)),
        (utc(2026, 8, 20, 7), utc(2026, 8, 20, 8), "hour", utc(2026, 8, 20, 7), utc(2026, 8, 20, 8)),
        # What Grafana makes of "yesterday", and of a whole month.
        (utc(2026, 8, 19, 22), utc(2026, 8, 20, 22) - LAST, "hour", utc(2026, 8, 19, 22), utc(2026, 8, 20, 22)),
        (utc(2026, 7, 31, 22), utc(2026, 8, 31, 22) - LAST, "day", utc(2026, 7, 31, 22), utc(2026, 8, 31, 22)),
        (*DAYS, "day", utc(2026, 8, 12, 22), utc(2026, 8, 24, 22)),
        (utc(2026, 10, 20), utc(2026, 10, 30), "day", utc(2026, 10, 19, 22), utc(2026, 10, 30, 23)),
    ],
)  # fmt: skip
def test_windows_are_rounded_to_what_rollups_have(reader, since, until, grain, first, last):
    for name in BOARDS:
        if "since" in variables(name):
            found = reader.values(name, since, until)
            assert found["grain"] == grain
            assert [datetime.fromisoformat(found[which] + ":00") for which in ("since", "until")] == [first, last]


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_offers_what_there_is(reader, name):
    for variable in variables(name).keys() - set(HIDDEN):
        everything = reader.options(name, variable)
        assert everything == sorted(set(everything), key=everything.index)
        assert chosen_of(name).get(variable, "claude-sonnet-4-6") in everything
        of_second = reader.options(name, variable, upstream="second")
        assert set(of_second) <= set(everything)
        if variable in {"channel", "client_key"}:
            assert chosen_of(name)[variable] not in of_second


def test_every_panel_bears_an_empty_database(books):
    reader = Reader(books)
    for name in BOARDS:
        for variable in variables(name).keys() - set(HIDDEN):
            assert reader.options(name, variable) == []
        for panel in panels(name):
            columns, _ = reader.show(name, panel)
            assert columns
    reader.connection.close()


def of_records(name: str) -> list[Any]:
    """The panels under the row that says that they read records."""
    rows = [panel for panel in board(name)["panels"] if panel["title"] == "From records"]
    return [panel for row in rows for panel in row["panels"]]


def test_boards_show_what_outlives_its_records(books):
    fill(books)
    reader = Reader(books)
    # Neither those of passes, which were just now, nor those of the row "Now".
    shown = [(name, panel) for name in BOARDS if name != "operations" for panel in board(name)["panels"]]
    shown = [(name, panel, window) for name, panel in shown if panel["type"] != "row" for window in (HOURS, DAYS)]
    before = [reader.show(*one)[1] for one in shown]
    maintain.maintain(books.engine, Retention(records_days=31))
    assert books.records() == 0
    assert [reader.show(*one)[1] for one in shown] == before
    told = set()
    for name in BOARDS:
        for panel in of_records(name):
            with contextlib.suppress(psycopg.errors.ObjectNotInPrerequisiteState):  # records have been dropped
                _, rows = reader.show(name, panel)
                assert not any(any(row) for row in rows), panel["title"]
                continue
            told.add(panel["title"])
    assert told >= {"Fallbacks", "Cache lifetimes", "Gaps between requests"}
    reader.connection.close()


def test_totals_are_those_of_the_records(reader):
    panel = next(panel for panel in panels("overview") if panel["title"] == "Totals")
    columns, ((requests, *_),) = reader.show("overview", panel)
    since, until = (
        datetime.fromisoformat(reader.values("overview", *HOURS)[name] + ":00") for name in ("since", "until")
    )
    counted = (
        "SELECT count(*) FROM usage_api.v1_records WHERE outcome <> 'warmup' AND occurred_at >= %s AND occurred_at < %s"
    )
    assert next(iter(columns)) == "Requests"
    assert reader.books.ask(counted, [since, until]) == [(requests,)]
    _, series = reader.show("overview", next(panel for panel in panels("overview") if panel["title"] == "Requests"))
    assert sum(succeeded + failed + cancelled for _, succeeded, failed, cancelled in series) == requests > 0


# -- the files --------------------------------------------------------------------------------------------------


def test_the_boards_are_the_ones_that_are_documented():
    assert BOARDS == ["channels", "keys", "models", "operations", "overview"]
    shown = re.findall(r"(?m)^\| `usage-(\w+)` \| (.+?) \|", PAGE)
    found = {name: [title.strip() for title in titles.split(" · ")] for name, titles in shown}
    assert found == {name: [panel["title"] for panel in panels(name)] for name in BOARDS}


def test_boards_are_alike():
    assert len({board(name)["title"] for name in BOARDS}) == len(BOARDS)
    for name in BOARDS:
        whole = board(name)
        assert whole["uid"] == f"usage-{name}"
        assert whole["schemaVersion"] == SCHEMA
        assert whole["tags"] == ["usage-worker"] == whole["links"][0]["tags"]
        assert whole["description"]
        assert "id" not in whole  # another database numbers in its own way
        ids = [panel["id"] for panel in flat(whole["panels"])]
        assert sorted(ids) == list(range(1, len(ids) + 1))
        titles = [panel["title"] for panel in flat(whole["panels"])]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(("name", "panel"), EVERY_PANEL)
def test_every_panel_is_described_and_reads_usage_api_by_the_data_source(name, panel):
    assert panel["type"] in KINDS
    assert panel["description"].endswith(".")
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/usage.yaml").read_text())["datasources"]
    named = {"type": source["type"], "uid": source["uid"]}
    (target,) = panel["targets"]
    assert panel["datasource"] == target["datasource"] == named
    assert (target["rawQuery"], target["editorMode"]) == (True, "code")
    units = [panel["fieldConfig"]["defaults"]["unit"]]
    for override in panel["fieldConfig"]["overrides"]:
        units += [one["value"] for one in override["properties"] if one["id"] == "unit"]
    assert set(units) <= UNITS
    only_usage_api(target["rawSql"])
    assert set(re.findall(r"\$\{(\w+)", target["rawSql"])) <= variables(name).keys()
    # A panel follows the time range, or says that it does not, or shows what is.
    if not re.search(r"\$__time|\$\{since:", target["rawSql"]):
        said = f"{panel['description']} {panel.get('timeFrom', '')}"
        assert re.search(
            r"[Ww]hatever the time range|1y|up to now|ever seen|per proxy|each proxy|last pass ended", said
        ), said


def only_usage_api(sql):
    """Fail unless all that is read is in usage_api, or named by the query itself; what extract() takes is not read."""
    own = re.findall(r"\bWITH (\w+) AS", sql)
    read = re.findall(r"\b(?:FROM|JOIN)\s+([\w.]+)", re.sub(r"extract\(\w+ FROM ", "", sql))
    assert read or not re.search(r"\bFROM\b", sql)
    assert [table for table in read if not table.startswith("usage_api.v1_") and table not in own] == []
    assert not re.search(r"\busage\.\w|\bpg_|\binformation_schema", sql)


@pytest.mark.parametrize(
    "sql", ["SELECT requests FROM usage.daily", "SELECT 1 FROM usage_api.v1_daily JOIN pg_roles ON true", "FROM most"]
)
def test_a_query_of_anything_else_is_found(sql):
    with pytest.raises(AssertionError):
        only_usage_api(sql)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_side_by_side(name):
    taken = set()
    for panel in flat(board(name)["panels"]):
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", BOARDS)
def test_variables_offer_all_or_stay_hidden(name):
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/usage.yaml").read_text())["datasources"]
    for variable in variables(name).values():
        assert variable["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert variable["refresh"] == 2  # with the time range: the macros of a query need it
        only_usage_api(variable["query"])
        if variable["name"] in HIDDEN:
            assert (variable["hide"], variable["skipUrlSync"]) == (2, True)
        else:
            assert (variable["includeAll"], variable["allValue"]) == (True, "NULL")
            assert variable["current"] == {"text": "All", "value": "$__all"}
        used = [sql_of(panel) for panel in panels(name)]
        assert any(f"${{{variable['name']}:sqlstring}}" in sql for sql in used)


def test_links_lead_to_boards_and_their_variables():
    found = 0
    for name in BOARDS:
        for panel in panels(name):
            for override in panel["fieldConfig"]["overrides"]:
                for one in override["properties"]:
                    for link in one["value"] if one["id"] == "links" else ():
                        uid, variable = re.fullmatch(
                            r"/d/usage-(\w+)\?\$\{__url_time_range\}&\$\{upstream:queryparam\}&var-(\w+)=\$\{__value.raw:percentencode\}",
                            link["url"],
                        ).groups()
                        assert variable in variables(uid)
                        found += 1
    assert found >= 5


# -- provisioning, login, Compose -------------------------------------------------------------------------------


def test_compose_brings_what_the_provisioning_asks_for():
    services = compose()["services"]
    grafana, login = services["grafana"], services["grafana-login"]
    assert grafana["profiles"] == login["profiles"] == ["grafana"]
    assert re.fullmatch(r"grafana/grafana:12\.\d+\.\d+", grafana["image"])
    text = (GRAFANA / "provisioning/datasources/usage.yaml").read_text()
    wanted = set(re.findall(r"\$(\w+)", text))
    assert wanted <= grafana["environment"].keys()
    (source,) = yaml.safe_load(re.sub(r"\$(\w+)", lambda found: filled(grafana["environment"][found[1]]), text))[
        "datasources"
    ]
    host, port = source["url"].split(":")
    assert host == login["environment"]["PGHOST"] in services
    assert port == "5432"
    assert source["jsonData"]["database"] == login["environment"]["PGDATABASE"]
    assert f"ALTER ROLE {source['user']} LOGIN" in (GRAFANA / "login.sql").read_text()
    assert grafana["environment"]["USAGE_DATABASE_PASSWORD"] == login["environment"]["GRAFANA_PASSWORD"]
    mounts = dict(volume.split(":", 1) for volume in grafana["volumes"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/usage.yaml").read_text())["providers"]
    assert mounts["../grafana/dashboards"] == f"{provider['options']['path']}:ro"
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning:ro"
    assert login["volumes"] == [f"../grafana/login.sql:{login['command'][-1].removeprefix('--file=')}:ro"]
    named = set(re.findall(r"(?m)^\| `(USAGE_\w+)` \|", PAGE))
    assert named == wanted
    assert grafana["depends_on"] == {"grafana-login": {"condition": "service_completed_successfully"}}


def test_kustomize_makes_a_config_map_for_the_sidecar():
    (made,) = yaml.safe_load_all(run(needed("kubectl"), "kustomize", GRAFANA))
    kubernetes_validate.validate(made, KUBERNETES[0], strict=True)
    assert made["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert {file: json.loads(text) for file, text in made["data"].items()} == {f"{n}.json": board(n) for n in BOARDS}


def psql(books: Books, password: str | None) -> subprocess.CompletedProcess[str]:
    words = [*compose()["services"]["grafana-login"]["command"][:-1], "--file", str(GRAFANA / "login.sql"), books.dsn]
    environment = {name: value for name, value in os.environ.items() if name != "GRAFANA_PASSWORD"}
    if password is not None:
        environment["GRAFANA_PASSWORD"] = password
    return subprocess.run(
        [needed(words[0]), *words[1:]], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("password", [None, ""])
def test_no_login_is_made_without_a_password(books, password):
    done = psql(books, password)
    assert done.returncode != 0
    assert "GRAFANA_PASSWORD is not set" in done.stderr


def test_the_login_reads_and_does_nothing_else(books):
    if not books.ask("SELECT 1 FROM pg_roles WHERE rolname = 'usage_reader'"):
        pytest.skip("this account may not make roles")
    if books.ask("SELECT 1 FROM pg_roles WHERE rolname = 'grafana'"):
        pytest.skip("this server has such a login, which is not ours to drop")
    try:
        for password in ("first's", "second"):  # again, with another password
            done = psql(books, password)
            assert (done.returncode, done.stderr) == (0, "")
        with psycopg.connect(make_conninfo(books.dsn, user="grafana", password="second"), autocommit=True) as grafana:
            assert grafana.execute("SELECT requests FROM usage_api.v1_summary(NULL, NULL)").fetchall() == [(0,)]
            assert grafana.execute("SHOW statement_timeout").fetchall() == [("30s",)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                grafana.execute("SELECT FROM usage.record")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                grafana.execute("CREATE TABLE public.mine ()")
    finally:
        books.ask("DROP ROLE IF EXISTS grafana")
