"""Bytes as they came, packed in whatever way: what can be trusted of them is handed on, and what is missing is told."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import sys
import threading
import zlib
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.cliproxyapi.unpack import LAYERS_MAX, MEMORY_MAX_BYTES, PIECE_BYTES, unpacked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JSON = b'[{"timestamp": "2026-08-22T12:00:00Z", "model": "gpt-5.4"}]'
LIMIT_BYTES = 1 << 30


def deflated(body, wbits=-zlib.MAX_WBITS):
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": zstd.compress,
    "deflate": zlib.compress,  # as RFC 9110 has it
    "deflate, raw": deflated,  # and as many servers send it
}
LABELS = {name: name.partition(",")[0] for name in CODINGS}


def read(raw, encoding="", limit=LIMIT_BYTES):
    file = raw if hasattr(raw, "read") else io.BytesIO(raw)
    with unpacked(file, encoding=encoding, limit_bytes=limit) as found:
        return found._replace(body=bytes(found.body))


def whole(raw, encoding=""):
    found = read(raw, encoding)
    assert (found.whole, found.fault, found.breaks_off) == (True, "", False)
    return found.body


class Dribble(io.RawIOBase):
    """A pipe that gives as many bytes at a time as it likes."""

    def __init__(self, content, sizes):
        self._content, self._sizes = io.BytesIO(content), sizes

    def read(self, size=-1):
        return self._content.read(min(size, self._sizes.pop() if self._sizes else size))


# -- packed and unpacked is as before ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.binary(max_size=3000), st.lists(st.integers(min_value=1, max_value=70), max_size=100))
@pytest.mark.parametrize("coding", CODINGS)
def test_what_was_packed_is_unpacked_however_it_comes(coding, body, sizes):
    body = b"[" + body  # what begins as something packed does is taken for it
    assert whole(Dribble(CODINGS[coding](body), sizes), LABELS[coding]) == body
    if coding != "deflate, raw":
        assert whole(Dribble(CODINGS[coding](body), sizes)) == body


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.binary(max_size=3000), st.lists(st.integers(min_value=0, max_value=3000), max_size=4))
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_what_was_packed_in_several_members_is_one_body(coding, body, cuts):
    body = b"[" + body
    places = sorted([0, len(body), *(min(cut, len(body)) for cut in cuts)])
    members = [CODINGS[coding](body[begin:end]) for begin, end in pairwise(places)]
    assert whole(b"".join(members), coding) == body
    assert whole(b"".join(members)) == body


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_longer_than_a_piece_and_than_memory_may_hold_is_unpacked(coding):
    body = b"[" + Random(7).randbytes(3 * PIECE_BYTES + 1) + b" " * MEMORY_MAX_BYTES
    assert whole(CODINGS[coding](body), LABELS[coding]) == body


def test_a_file_on_disk_a_pipe_and_what_a_file_holds_behind_a_header_are_read(tmp_path):
    body = b"[" + b"1," * MEMORY_MAX_BYTES + b"1]"
    for content, after in ((JSON, JSON), (body, body), (gzip.compress(body, 1), body)):
        path = tmp_path / "answer"
        path.write_bytes(b"header\n" + content)
        with path.open("rb") as file:
            file.readline()
            assert whole(file) == after
        reader, writer = os.pipe()

        def write(descriptor=writer, content=content):
            with os.fdopen(descriptor, "wb") as pipe:
                pipe.write(content)

        thread = threading.Thread(target=write)
        thread.start()
        with os.fdopen(reader, "rb") as pipe:
            assert whole(pipe) == after
        thread.join()


# -- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
def test_a_label_that_a_reverse_proxy_kept_on_what_it_has_unpacked_does_not_matter(coding):
    assert whole(JSON, LABELS[coding]) == JSON
    assert whole(b"[]", LABELS[coding]) == b"[]"
    assert whole(b"", LABELS[coding]) == b""


@pytest.mark.parametrize("label", ["", "identity", "br", "deflate", "zstd", "utf-8", "GZIP", "gzip, identity", "\0é"])
def test_what_is_packed_is_told_by_how_it_begins_whatever_its_label_says(label):
    assert whole(gzip.compress(JSON), label) == JSON


@pytest.mark.parametrize(
    ("codings", "label"),
    [
        (("gzip", "gzip"), "gzip, gzip"),
        (("gzip", "gzip"), "gzip"),
        (("zstd", "gzip"), ""),
        (("deflate, raw", "gzip"), "deflate, gzip"),
        (("deflate", "gzip", "zstd"), ""),
    ],
)
def test_what_was_packed_more_than_once_is_unpacked_as_often(codings, label):
    packed = JSON
    for coding in codings:
        packed = CODINGS[coding](packed)
    assert whole(packed, label) == JSON


def test_what_is_packed_without_end_is_given_up_and_told():
    packed = JSON
    for _ in range(LAYERS_MAX + 1):
        packed = gzip.compress(packed)
    assert read(packed) == (b"", False, f"it is packed more than {LAYERS_MAX} times", False)


@pytest.mark.parametrize("label", ["br", "compress", "gzip", "zstd", "x" * 21, "\x1b[31m"])
def test_what_cannot_be_unpacked_here_is_told_with_its_label_and_nothing_of_it_is_taken_for_plain(label):
    found = read(b"\x0b\x02\x80[]\x03", label)
    assert (found.body, found.whole, found.breaks_off) == (b"", False, False)
    assert (label if label.isalnum() and len(label) < 20 else "something unknown") in found.fault
    assert "\x1b" not in found.fault


@pytest.mark.parametrize(
    "text",
    [
        codecs.BOM_UTF8 + JSON,
        JSON.decode().encode("utf-16"),
        codecs.BOM_UTF16_BE + JSON.decode().encode("utf-16-be"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_text(text):
    assert whole(text) == JSON
    assert whole(gzip.compress(text)) == JSON
    assert whole(text, "gzip") == JSON


def test_utf_16_that_is_none_is_told():
    found = read(codecs.BOM_UTF16_LE + b"[\0\0\xdc]\0")
    assert (found.whole, "UTF-16" in found.fault) == (False, True)


# -- damage --------------------------------------------------------------------------------------------------------


def members(coding, *bodies):
    return b"".join(CODINGS[coding](body) for body in bodies)


def flipped(packed, place):
    spoilt = bytearray(packed)
    spoilt[place] ^= 1
    return bytes(spoilt)


def checked(body):
    """Zstandard with a checksum, which not every writer adds."""
    return zstd.compress(body, options={zstd.CompressionParameter.checksum_flag: 1})


@pytest.mark.parametrize(
    "packed",
    [flipped(gzip.compress(JSON), -6), flipped(zlib.compress(JSON), -1), flipped(checked(JSON), -1)],
    ids=["gzip", "deflate", "zstd"],
)
def test_what_fails_its_checksum_is_not_handed_on(packed):
    found = read(packed)
    assert (found.body, found.whole, found.breaks_off) == (b"", False, False)
    assert "damaged, and only 0 bytes" in found.fault


def test_a_length_that_is_not_true_is_damage():
    assert read(flipped(gzip.compress(JSON), -1)).body == b""


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, checked], ids=["gzip", "deflate", "zstd"])
def test_a_flipped_bit_anywhere_makes_nothing_up(pack, place, bit):
    spoilt = bytearray(pack(JSON * 3))
    spoilt[place % len(spoilt)] ^= 1 << bit
    found = read(bytes(spoilt), "x-gzip")
    # What has lost its own begin is told; a flag or a time in a header may change nothing.
    assert found.body in (b"", JSON * 3) or not found.whole
    if found.whole:
        assert found.body == JSON * 3


def test_members_before_a_damaged_one_are_handed_on():
    found = read(gzip.compress(JSON) + flipped(gzip.compress(JSON), -6))
    assert (found.body, found.whole, found.breaks_off) == (JSON, False, False)
    assert f"only {len(JSON)} bytes before the damage" in found.fault


def test_zeros_that_pad_an_end_are_nothing_and_anything_else_behind_it_is_damage():
    assert whole(gzip.compress(JSON) + bytes(1000)) == JSON
    found = read(gzip.compress(JSON) + b"<html>")
    assert (found.body, found.whole) == (JSON, False)


@pytest.mark.parametrize("coding", CODINGS)
def test_what_breaks_off_is_handed_on_as_far_as_it_goes_and_told(coding):
    body = b"[" + b", ".join(b"%d" % number for number in Random(7).sample(range(10**9), 20_000)) + b"]"
    packed = CODINGS[coding](body)
    for cut in (1, 9, len(packed) // 2, len(packed) - 20):
        found = read(packed[:-cut], LABELS[coding])
        assert (found.whole, found.breaks_off) == (False, True)
        assert body.startswith(found.body)
        if cut < len(packed) // 2:
            assert len(found.body) > len(body) // 2


@settings(deadline=None, max_examples=600, derandomize=True)
@given(
    st.sampled_from(
        [b"", b"\x1f\x8b", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c", b"\xff\xfe", b"[", b"\x50*M\x18"]
    ),
    st.binary(max_size=200),
    st.sampled_from(["", "gzip", "deflate", "zstd", "br", "gzip, deflate", ",,", "\ud800"]),
)
def test_no_bytes_raise_anything(begin, rest, label):
    found = read(begin + rest, label)
    assert found.whole == (not found.fault)


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("limit", [0, 1, 100, PIECE_BYTES - 1, 5 * PIECE_BYTES])
def test_no_more_than_the_limit_is_unpacked_and_what_is_within_it_is_handed_on(coding, limit):
    body = b"[" + b" " * (6 * PIECE_BYTES)
    for packed in (CODINGS[coding](body), body):
        found = read(packed, LABELS[coding], limit)
        assert (found.body, found.whole, found.breaks_off) == (body[:limit], False, False)
        assert str(limit) in found.fault


def test_what_has_exactly_the_limit_is_whole():
    found = read(gzip.compress(JSON), limit=len(JSON))
    assert (found.body, found.whole) == (JSON, True)


def test_where_no_folder_takes_what_is_long_it_is_told(monkeypatch, tmp_path):
    def refuse(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OSError, match="No space"):
        read(gzip.compress(b" " * (MEMORY_MAX_BYTES + 1)))
    assert whole(gzip.compress(b"[" + b" " * (MEMORY_MAX_BYTES - 1))) == b"[" + b" " * (MEMORY_MAX_BYTES - 1)
