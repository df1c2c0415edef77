"""One answer in whatever shape and however packed: its records are the same, or its bytes stay as they came."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import calls, proxy

import worker.cliproxyapi.payload.answer
import worker.cliproxyapi.unpack
from worker.cliproxyapi.payload import decode_answer, decode_queue
from worker.simulator import traffic
from worker.simulator.proxy import Fault

ITEMS = [traffic.queue_item(call) for call in calls(100)]
RECORDS = decode_queue(json.dumps(ITEMS).encode()).records


def array(items):
    return json.dumps(items).encode()


def lines(items, end="\n"):
    return "".join(json.dumps(one) + end for one in items).encode()


WRAPPINGS = {
    "an array": array,
    "an array with blanks": lambda items: json.dumps(items, indent=2).encode(),
    "strings in an array": lambda items: array([json.dumps(one) for one in items]),
    "data": lambda items: array({"data": items}),
    "data among other fields": lambda items: array(
        {"code": 0, "errors": [], "meta": {"a": [1]}, "data": items, "next": None}
    ),
    "items, with blanks": lambda items: json.dumps({"items": items, "total": len(items)}, indent=1).encode(),
    "strings in data": lambda items: array({"data": [json.dumps(one) for one in items]}),
    "two lists": lambda items: array({"first": items[:1], "second": items[1:]}),
    "JSON lines": lines,
    "JSON lines of Windows": lambda items: lines(items, "\r\n"),
    "JSON lines with empty ones between": lambda items: lines(items, "\n\n"),
    "JSON lines without the last end": lambda items: lines(items).rstrip(),
    "lines of arrays": lambda items: array(items[:1]) + b"\n" + array(items[1:]) + b"\n",
    "lines of objects with data": lambda items: array({"data": items[:1]}) + b"\n" + array({"data": items[1:]}),
    "one object after another": lambda items: b"".join(json.dumps(one, indent=1).encode() + b"\n" for one in items),
}
"""Every form in which an answer has been seen, or a file of such."""


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_records_of_an_answer_are_the_same_whatever_is_around_them(wrapping):
    for some in (ITEMS, ITEMS[:2]):
        decoded = decode_queue(WRAPPINGS[wrapping](some))
        assert (decoded.records, decoded.bad, decoded.fault) == (RECORDS[: len(some)], [], "")
        assert decoded.complete


def test_one_object_alone_is_one_record():
    assert decode_queue(json.dumps(ITEMS[0]).encode()).records == RECORDS[:1]
    assert decode_queue(json.dumps(ITEMS[0], indent=1).encode()).records == RECORDS[:1]


@pytest.mark.parametrize("window", [1 << 8, 1 << 10, 1 << 12])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_where_an_answer_is_cut_into_windows_does_not_matter(monkeypatch, wrapping, window):
    monkeypatch.setattr(worker.cliproxyapi.payload.answer, "WINDOW_BYTES", window)
    decoded = decode_queue(WRAPPINGS[wrapping](ITEMS))
    assert (decoded.records, decoded.bad, decoded.fault) == (RECORDS, [], "")


def test_braces_commas_and_quotes_within_texts_are_no_ends_of_items(monkeypatch):
    odd = [
        {**one, "endpoint": text} for one, text in zip(ITEMS, ['},{"', '"},"{', "\\", '\\"}, {', "]"] * 20, strict=True)
    ]
    expected = decode_queue(array(odd)).records
    assert len(expected) == 100
    monkeypatch.setattr(worker.cliproxyapi.payload.answer, "WINDOW_BYTES", 1 << 10)
    for wrapping in WRAPPINGS.values():
        assert decode_queue(wrapping(odd)).records == expected


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.lists(st.sampled_from(range(100)), min_size=2, max_size=12),
    st.sampled_from([*WRAPPINGS]),
    st.integers(min_value=1, max_value=15),
)
def test_equal_records_are_so_many_records_in_whatever_shape_and_in_parts(picks, wrapping, chunk):
    some = [ITEMS[pick] for pick in picks]
    expected = decode_queue(array(some)).records
    parts = list(decode_answer(WRAPPINGS[wrapping](some), chunk=chunk))
    assert [record for part in parts for record in part.records] == expected
    assert all(part.elements <= chunk for part in parts)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_bad_item_costs_only_itself_in_every_shape(wrapping):
    some = [ITEMS[0], {**ITEMS[1], "timestamp": "never"}, ITEMS[2]]
    decoded = decode_queue(WRAPPINGS[wrapping](some))
    assert decoded.records == [RECORDS[0], RECORDS[2]]
    assert ["timestamp" in bad.reason for bad in decoded.bad] == [True]


@pytest.mark.parametrize("wrapping", ["an array", "data", "items, with blanks", "JSON lines"])
def test_an_answer_cut_at_any_byte_keeps_its_whole_records_and_says_so(wrapping):
    body = WRAPPINGS[wrapping](ITEMS[:3]).rstrip()
    found = [decode_queue(body[:cut]) for cut in range(len(body))]
    assert all(RECORDS[: len(one.records)] == one.records for one in found)
    counts = [len(one.records) for one in found]
    assert counts == sorted(counts)
    assert set(counts) >= {0, 1, 2}
    lines_between = [one for one in found if one.complete]
    # Between two lines nothing tells that there was another.
    assert len(lines_between) == (4 if wrapping == "JSON lines" else 0)


BODY_OF_TWO = array(ITEMS[:2])
LINE = array(ITEMS[0]) + b"\n"


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"[", b"[{", BODY_OF_TWO[:-1], BODY_OF_TWO[:-2], BODY_OF_TWO[:-100], b'{"data": ' + BODY_OF_TWO,
     b'{"data": ' + BODY_OF_TWO[:-1], b'{"data', LINE + LINE[:-2], LINE[:-9], LINE + b"[" + LINE],
)  # fmt: skip
def test_what_ends_before_it_is_closed_breaks_off(body):
    decoded = decode_queue(body)
    assert (decoded.complete, decoded.breaks_off) == (False, True)


@pytest.mark.parametrize(
    "body",
    [BODY_OF_TWO + b" 12 ms", b"<html>", b'[{"timestamp": "x}, {}]', b"[{,}]", b"{}", b"7", b'{"data": "none"}',
     BODY_OF_TWO + b"]", LINE + b"nonsense\n" + LINE, LINE[:-9] + b"\n" + LINE, b"{data: []}"],
)  # fmt: skip
def test_what_is_malformed_and_goes_on_to_its_end_does_not_break_off(body):
    decoded = decode_queue(body)
    assert (decoded.complete, decoded.breaks_off) == (False, False)


@settings(deadline=None, max_examples=500, derandomize=True)
@given(
    st.sampled_from(
        [b"", b"[", b"{", b'{"data": [', b'{"data":[{', b"[{", b'[{"timestamp":', b"\xef\xbb\xbf[", b"[\n"]
    ),
    st.binary(max_size=120) | st.text('[]{}",:\\ \n0eE-nulltruefalse\u0000é', max_size=120).map(str.encode),
)
def test_no_bytes_raise_anything_and_something_is_always_said_of_them(begin, rest):
    parts = list(decode_answer(begin + rest))
    assert parts
    assert parts[-1].complete == (not parts[-1].fault)
    assert all(part.complete for part in parts[:-1])
    assert parts[-1].complete or any(part.bad for part in parts)


# -- from the proxy into the books ---------------------------------------------------------------------------------

BODY = array(ITEMS)
GZIPPED = gzip.compress(BODY)
LABELLED = {"Content-Encoding": "gzip"}


def spoilt(packed, place):
    found = bytearray(packed)
    found[place] ^= 1
    return bytes(found)


READ = {
    "gzip with a label": (GZIPPED, LABELLED),
    "gzip without a label": (GZIPPED, {}),
    "gzip labelled as deflate": (GZIPPED, {"Content-Encoding": "deflate"}),
    "gzip labelled as br": (GZIPPED, {"Content-Encoding": "br"}),
    "plain labelled as gzip": (BODY, LABELLED),
    "plain labelled as br": (BODY, {"Content-Encoding": "br"}),
    "deflate": (zlib.compress(BODY), {"Content-Encoding": "deflate"}),
    "two members": (gzip.compress(BODY[:5000]) + gzip.compress(BODY[5000:]), LABELLED),
    "gzip twice": (gzip.compress(GZIPPED), LABELLED),
    "a byte-order mark": (codecs.BOM_UTF8 + BODY, {}),
    "a byte-order mark in gzip": (gzip.compress(codecs.BOM_UTF8 + BODY), LABELLED),
    "UTF-16": (BODY.decode().encode("utf-16"), {}),
    "data": (WRAPPINGS["data"](ITEMS), {}),
    "JSON lines": (WRAPPINGS["JSON lines"](ITEMS), {}),
    "lines of objects with data": (WRAPPINGS["lines of objects with data"](ITEMS), LABELLED),
}

KEPT = {
    "a wrong checksum": (spoilt(GZIPPED, -6), LABELLED, 0),
    "a wrong checksum without a label": (spoilt(GZIPPED, -6), {}, 0),
    "a wrong length": (spoilt(GZIPPED, -1), LABELLED, 0),
    "a flipped bit": (spoilt(GZIPPED, len(GZIPPED) // 2), LABELLED, 0),
    "a flipped bit in the second member": (
        gzip.compress(array(ITEMS[:60]) + b"\n") + spoilt(gzip.compress(array(ITEMS[60:])), -6), LABELLED, 60
    ),
    "something behind the end": (GZIPPED + b"<!-- 12 ms -->", LABELLED, 100),
    "something behind the array": (BODY + b"<!-- 12 ms -->", {}, 100),
    "a packing that is not known": (b"\x0b\x02\x80" + BODY[1:], {"Content-Encoding": "br"}, 0),
    "a page": (b"<html><body>It works</body></html>", {}, 0),
    "another JSON": (array({"ok": True, "data": "none"}), {}, 0),
}  # fmt: skip


@pytest.mark.parametrize("how", READ)
def test_an_answer_that_can_be_read_is_stored_whole_however_it_comes(books, how):
    body, headers = READ[how]
    with proxy("queue") as simulator:
        simulator.fail_next("/usage-queue", Fault(status=200, body=body, headers=headers))
        result = books.sync(simulator)
    assert (result.exit_code, result.error, result.inserted, result.possible_loss) == (0, None, 100, 0)
    assert books.journal() == []
    books.require_exactly(calls(100))


@pytest.mark.parametrize("how", KEPT)
def test_what_cannot_be_read_whole_stays_as_it_came_and_is_named(books, how):
    body, headers, readable = KEPT[how]
    with proxy("queue") as simulator:
        simulator.fail_next("/usage-queue", Fault(status=200, body=body, headers=headers))
        result = books.sync(simulator)
        (kept,) = books.journal()
        assert (result.exit_code, result.inserted, result.possible_loss) == (4, readable, 0)
        assert str(kept) in result.error
        assert kept.suffix == ".unread"
        assert kept.read_bytes()[512:] == body
        again = books.sync(simulator)  # which reads it once more, and finds what it found
        assert (again.exit_code, again.inserted, books.journal()) == (0, 0, [kept])
    books.require_exactly(calls(100)[:readable])


@pytest.mark.parametrize("how", ["a wrong checksum", "something behind the array", "another JSON"])
def test_a_version_that_can_read_it_loads_what_stayed_and_lets_it_go(books, how, monkeypatch):
    body, headers, readable = KEPT[how]
    with proxy("queue") as simulator:
        simulator.fail_next("/usage-queue", Fault(status=200, body=body, headers=headers))
        assert books.sync(simulator).inserted == readable
        whole = decode_queue(BODY)
        monkeypatch.setattr("worker.sync.journal_load.decode.decode_answer", lambda _: iter([whole]))
        unpack = worker.cliproxyapi.unpack.unpacked
        monkeypatch.setattr("worker.sync.journal_load.unpacked", lambda _, **more: unpack(io.BytesIO(BODY), **more))
        result = books.sync(simulator)
        assert (result.exit_code, result.inserted, books.journal()) == (0, 100 - readable, [])
    books.require_exactly(calls(100))


@pytest.mark.parametrize("how", KEPT)
def test_what_stayed_can_be_imported_or_ends_with_one_sentence(books, tmp_path, how):
    body, _, readable = KEPT[how]
    (tmp_path / "kept").write_bytes(body)
    finished = books.worker(None, "import", "--json", "kept")
    assert (finished.code, "Traceback" in finished.stderr) == (2, False)
    assert books.records() == readable
    assert len(finished.stderr.strip().splitlines()) == 1
