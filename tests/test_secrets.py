"""No key leaves the worker: not into the database, the logs, an error's text, nor what it prints or leaves on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from support import KEY, Books, calls, proxy

from worker.simulator import traffic
from worker.simulator.proxy import Fault

PAYLOADS = Path(__file__).parent / "payloads"
USAGE = sorted(PAYLOADS.glob("queue-*.json")) + sorted(PAYLOADS.glob("snapshot-*.json")) + [PAYLOADS / "export.json"]
OTHERS = sorted(set(PAYLOADS.glob("*.json")) - set(USAGE))
MAPPINGS = {path.stem.removesuffix("-v7.2.140"): path for path in OTHERS if path.stem.endswith(("-key", "-keys"))} | {
    "auth-files": PAYLOADS / "auth-files-v7.2.140.json",
    "openai-compatibility": PAYLOADS / "openai-compatibility.json",
}
KEYS = {
    key
    for path in PAYLOADS.glob("*.json")
    for key in re.findall(r"\b(?:sk-|AIza|xai-|vk-)[\w-]+", path.read_text())
    if not key.endswith("-api-key")
}
BAD_KEY, BAD_SOURCE = "sk-client-EXAMPLE-bad-record-0001", "sk-ant-EXAMPLE-bad-source-0002"
SECRETS = KEYS | traffic.Traffic(7).secrets() | {KEY, BAD_KEY, BAD_SOURCE}
TABLES = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_schema IN ('usage', 'usage_api') ORDER BY 1, 2
"""
DEBUG = {"WORKER_LOG_LEVEL": "debug"}


class Said:
    """All that commands print, by command."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.texts: dict[str, str] = {}

    def worker(self, simulator, *arguments, **environment):
        finished = self.books.worker(simulator, *arguments, **DEBUG, **environment)
        self.texts[f"{len(self.texts)} {' '.join(arguments)}"] = f"{finished.stdout}\n{finished.stderr}"
        assert "Traceback" not in finished.stderr, finished.stderr
        return finished

    def all_there_is(self) -> dict[str, str]:
        """What was printed, what can be printed of it now, the database, and the files, by name."""
        for what in ("keys", "channels", "records"):
            self.worker(None, "report", what, "--format", "csv")
        self.worker(None, "status", "--json")
        for row in self.worker(None, "quarantine", "list", "--json").json[:2]:
            self.worker(None, "quarantine", "show", str(row["quarantine_id"]))
        self.worker(None, "config", "show", WORKER_UPSTREAM_URL="http://127.0.0.1:1", WORKER_UPSTREAM_KEY=KEY)
        return {**self.texts, **tables(self.books), **files(self.books.folder)}


def tables(books: Books) -> dict[str, str]:
    """Every row of every table and view, as text."""
    with psycopg.connect(books.dsn) as connection:
        found = {}
        for schema, name in connection.execute(TABLES).fetchall():
            query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, name))
            found[f"{schema}.{name}"] = "\n".join(row for (row,) in connection.execute(query))
    return found


def files(folder: Path) -> dict[str, str]:
    """What the worker has on disk."""
    own = folder / "journal"
    return {str(path): f"{path}\n{path.read_text(errors='replace')}" for path in own.rglob("*") if path.is_file()}


def leaks(texts: Mapping[str, str], secrets: Iterable[str] = SECRETS) -> list[tuple[str, str, str]]:
    """Where a secret stands, or ten characters of its end: (place, secret, what is around it)."""
    found = []
    for place, text in texts.items():
        for secret in secrets:
            for shape in (secret, secret[-10:], secret.encode().hex()):
                at = text.find(shape)
                if at >= 0:
                    found.append((place, secret, text[max(0, at - 60) : at + 60]))
                    break
    return found


def bad_records():
    """Records that cannot be read, each with keys in it, in as many ways as there are."""
    item = {**traffic.queue_item(calls(1)[0]), "api_key": BAD_KEY, "source": BAD_SOURCE}
    fail = {"status_code": 401, "body": json.dumps({"error": {"type": BAD_KEY, "message": f"bad key {BAD_SOURCE}"}})}
    yield {**item, "timestamp": "yesterday"}
    yield {**item, "timestamp": None, "fail": fail}
    yield {**item, "tokens": {"input_tokens": -1}, "failed": True, "fail": fail}
    yield {**item, "failed": "maybe", "source": {"key": BAD_SOURCE}, "api_key": [BAD_KEY]}
    yield {**item, "timestamp": "never", "source": f" {BAD_SOURCE} ", "response_headers": {"Authorization": [BAD_KEY]}}
    yield {**item, "timestamp": "never", "source": f"https://user:{BAD_SOURCE}@relay.example.net/v1"}
    yield {**item, "timestamp": "never", "note": f"of {BAD_KEY}", BAD_KEY: 1}
    yield json.dumps({**item, "timestamp": "a string in a string"})
    yield json.dumps(item)[:-40]
    yield [item]
    yield f"a text with {BAD_KEY} in it"


def test_the_search_finds_a_key_however_it_is_written():
    assert len(KEYS) >= 10
    assert len(SECRETS) >= len(KEYS) + 8
    assert {"queue-v7.2.140.json", "snapshot-string-auth-index.json"} <= {path.name for path in USAGE}
    for text in (f"…{BAD_KEY}…", f"the end is {BAD_KEY[-10:]}", BAD_KEY.encode().hex()):
        assert [leak[:2] for leak in leaks({"here": text})] == [("here", BAD_KEY)]
    assert leaks({"here": f"…{BAD_KEY[-4:]}#123456"}) == []


def test_a_whole_pass_with_bad_records_between_good_ones_leaves_no_key_anywhere(books):
    said = Said(books)
    with proxy("queue", calls(400)) as simulator:
        simulator.push_raw(bad_records())
        simulator.push(calls(800)[400:])
        finished = said.worker(simulator, "sync", "--once")
        assert finished.code == 6
        assert (simulator.queued, books.journal()) == (0, [])
        said.worker(simulator, "quarantine", "retry", "--json")
        said.worker(simulator, "verify")
    books.balance()
    there = said.all_there_is()
    assert there["usage.quarantine"].count("\n") >= 8
    assert "…Q2mX#" in there["usage_api.v1_daily"], "the label of a client key is missing: this text is no proof"
    assert "alice@example.com" in there["usage_api.v1_records"]
    assert leaks(there) == []


def test_a_key_that_stands_where_counts_are_expected_is_not_kept(books):
    said = Said(books)
    item = traffic.queue_item(calls(1)[0])
    with proxy("queue") as simulator:
        simulator.push_raw([{**item, "tokens": [BAD_KEY]}, {**item, "tokens": {BAD_KEY: -1, "input_tokens": BAD_KEY}}])
        assert said.worker(simulator, "sync", "--once").code == 6
    assert leaks(said.all_there_is()) == []


def test_usage_files_of_every_version_leave_no_key_anywhere(books):
    said = Said(books)
    with proxy("queue") as simulator:
        for mapping, path in MAPPINGS.items():
            simulator.override(mapping, path.read_bytes())
        said.worker(simulator, "sync", "--once")
    assert len(books.ask("SELECT 1 FROM usage_api.v1_channels")) >= 8
    finished = said.worker(None, "import", "--json", *map(str, USAGE))
    assert finished.json[0]["inserted"] >= 10
    assert leaks(said.all_there_is()) == []


def test_files_that_are_no_usage_leave_no_key_anywhere(books):
    said = Said(books)
    for path in OTHERS:
        said.worker(None, "import", str(path))
    assert leaks(said.all_there_is()) == []


SNAPSHOT = json.dumps(traffic.snapshot(calls(50))).encode()
ARRAY = json.dumps([traffic.queue_item(call) for call in calls(50)]).encode()
ODD_ANSWERS = {
    "an array that breaks off": ARRAY[:20_000],
    "an array that breaks off within a key": ARRAY[: ARRAY.index(b"sk-client") + 15],
    "a snapshot in the place of the queue": SNAPSHOT,
    "a snapshot that breaks off": SNAPSHOT[:9000],
    "a page that quotes a key": f"<html>the key {BAD_KEY} is not allowed</html>".encode(),
    "single quotes": f"[{{'api_key': '{BAD_KEY}', 'source': '{BAD_SOURCE}'}}]".encode(),
    "no quotes": f"[{{api_key: {BAD_KEY}}}]".encode(),
    "an error with a key": json.dumps({"error": f"no such key: {BAD_KEY}"}).encode(),
    "one item and no array": json.dumps({**traffic.queue_item(calls(1)[0]), "api_key": BAD_KEY}).encode(),
    "text": f"api_key={BAD_KEY}".encode(),
    "other bytes": b"\xff\xfe" + BAD_KEY.encode() + b"\x00" + KEY.encode("utf-16-le"),
}


@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_an_odd_answer_of_the_queue_leaves_no_key_anywhere(books, answer):
    said = Said(books)
    with proxy("queue") as simulator:
        simulator.override("usage-queue", ODD_ANSWERS[answer])
        finished = said.worker(simulator, "sync", "--once")
        assert finished.code in (0, 4, 6)
        said.worker(simulator, "quarantine", "list")
    for kept in books.journal():  # an answer that cannot be read stays as it came, and only its owner may look
        assert (kept.suffix, kept.stat().st_mode & 0o777) == (".unread", 0o600)
        kept.unlink()
    assert leaks({**said.texts, **tables(books), **files(books.folder)}) == []


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [
        ("/usage-statistics-enabled", 401),
        ("/usage-statistics-enabled", 403),
        ("/auth-files", 500),
        ("/usage-queue", 400),
    ],
)
def test_an_error_that_quotes_the_request_does_not_make_us_quote_the_key(books, endpoint, status):
    said = Said(books)
    echo = json.dumps({"error": f"GET with Authorization: Bearer {KEY} refused"}).encode()
    with proxy("queue") as simulator:
        simulator.fail_next(endpoint, Fault(status=status, body=echo))
        finished = said.worker(simulator, "sync", "--once")
        assert f"{endpoint[1:]} answered {status}" in finished.stderr
    assert leaks({**said.texts, **tables(books), **files(books.folder)}) == []
