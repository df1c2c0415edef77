"""`worker import` reads whatever form usage has on disk, from the standard input and from pipes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import zlib

import pytest
from support import calls, plain_environment

from worker.simulator.traffic import queue_item

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ITEMS = [queue_item(call) for call in calls(100)]
ARRAY = json.dumps(ITEMS).encode()
LINES = "\n".join(map(json.dumps, ITEMS)).encode()
FORMS = {
    "an array": ARRAY,
    "lines": LINES,
    "a byte-order mark": b"\xef\xbb\xbf" + ARRAY,
    "a byte-order mark before lines": b"\xef\xbb\xbf" + LINES,
    "gzip": gzip.compress(ARRAY),
    "zstd": zstd.compress(LINES),
    "deflate": zlib.compress(ARRAY),
    "two members": gzip.compress(ARRAY[:500]) + gzip.compress(ARRAY[500:]),
}


def run(books, *arguments, content=b""):
    command = [sys.executable, "-W", "error", "-m", "worker", "import", "--json", *arguments]
    return subprocess.run(
        command, input=content, capture_output=True, env=plain_environment(books.environment()), cwd=books.folder,
        check=False, timeout=120,
    )  # fmt: skip


def require_all(books, finished):
    assert finished.returncode == 0, finished.stderr.decode()
    assert json.loads(finished.stdout)[0]["inserted"] == 100
    assert books.records() == 100
    books.balance()


@pytest.mark.parametrize("form", FORMS)
def test_the_standard_input_is_read_in_every_form(books, form):
    require_all(books, run(books, "-", content=FORMS[form]))


@pytest.mark.parametrize("form", ["an array", "zstd"])
def test_a_pipe_is_read(books, form):
    pipe = books.folder / "usage.fifo"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=(FORMS[form],), daemon=True)
    writing.start()
    require_all(books, run(books, str(pipe)))
    writing.join(10)


@pytest.mark.parametrize("spoiled", ["cut short", "a flipped bit", "a wrong checksum"])
def test_a_damaged_file_ends_with_one_sentence(books, spoiled):
    packed = bytearray(gzip.compress(ARRAY))
    if spoiled == "cut short":
        del packed[-len(packed) // 2 :]
    elif spoiled == "a flipped bit":
        packed[len(packed) // 2] ^= 4
    else:
        packed[-8] ^= 1
    file = books.folder / "usage.json.gz"
    file.write_bytes(packed)
    finished = run(books, str(file))
    said = [line for line in finished.stderr.decode().splitlines() if not line.startswith("{")]
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr.decode()
    told = json.loads(finished.stdout)[0]["error"] if finished.stdout else said[0]
    assert str(file) in told
    assert "\n" not in told
    books.balance()
