"""Coverage-guided fuzzing of everything that reads bytes from a proxy: nothing may be raised but what is promised.

Needs atheris, which has wheels for some Pythons on Linux only and so is no dependency: pip install atheris, then
python tests/fuzz_decode.py -max_total_time=60 (`make fuzz` does both).
"""

from __future__ import annotations

import contextlib
import json
import sys
from random import Random

import atheris

with atheris.instrument_imports(
    include=["worker.cliproxyapi.payload", "worker.cliproxyapi.directory", "worker.usage.tokens"]
):
    from worker.cliproxyapi import directory
    from worker.cliproxyapi import payload as decode
    from worker.secret import Keyring

from mutations import payload

KEYRING = Keyring(b"EXAMPLE pepper")


def examine(data: bytes) -> None:
    """Read bytes as every kind of answer; every other input is the seed of a payload with good records in it."""
    if data[:1] < b"\x80":
        made = payload(Random(data), len(data))
        decoded = decode.decode_queue(made.body)
        found = {record.request_id for record in decoded.records}
        if not found >= set(made.good):
            raise AssertionError(made.body)
    else:
        decoded = decode.decode_queue(data[1:])
    for record in decoded.records:
        record.identity(*record.labels.identity("default", KEYRING)).encode()
    for bad in decoded.bad:
        kept, whole = decode.quarantine(bad, KEYRING)
        kept.encode()
        if whole:
            decode.decode_quarantined(kept)
        elif "\0" in kept:
            raise AssertionError(kept)
    with contextlib.suppress(decode.BadValueError):
        list(decode.decode_snapshot(data[1:]))
    list(decode.decode_lines(iter(data[1:].splitlines())))
    for endpoint in directory.ENDPOINTS:
        with contextlib.suppress(directory.BadMappingError):
            directory.parse(endpoint, data[1:], KEYRING)
    for name in ("timestamp", "source"):
        decode.decode_queue(json.dumps([{name: data.decode("latin-1")}]).encode())


if __name__ == "__main__":
    atheris.Setup(sys.argv, examine)
    atheris.Fuzz()
