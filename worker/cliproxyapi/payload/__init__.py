"""Bytes → Record: the only room that spells the field names of a usage payload (pure).

One tolerant parser for every shape a proxy, a fork or an adapter has ever answered with: `answer`, `snapshot` and
`home` take answers and files apart, `record` reads one item, `quarantined` keeps what could not be read.
"""

from worker.cliproxyapi.payload.answer import decode_answer, decode_queue
from worker.cliproxyapi.payload.home import HomePage, HomeRecord, decode_home
from worker.cliproxyapi.payload.payload import CHUNK_RECORDS, Cursor, Decoded, count_elements
from worker.cliproxyapi.payload.quarantined import decode_quarantined, hidden, quarantine
from worker.cliproxyapi.payload.record import (
    COUNT_MAX,
    DURATION_MAX_MS,
    TEXT_MAX_CHARS,
    BadRecord,
    BadValueError,
    Labels,
    Record,
    clean,
    refused,
    text,
    timestamp_ns,
    whole,
)
from worker.cliproxyapi.payload.snapshot import decode_snapshot

__all__ = [
    "CHUNK_RECORDS",
    "COUNT_MAX",
    "DURATION_MAX_MS",
    "TEXT_MAX_CHARS",
    "BadRecord",
    "BadValueError",
    "Cursor",
    "Decoded",
    "HomePage",
    "HomeRecord",
    "Labels",
    "Record",
    "clean",
    "count_elements",
    "decode_answer",
    "decode_home",
    "decode_quarantined",
    "decode_queue",
    "decode_snapshot",
    "hidden",
    "quarantine",
    "refused",
    "text",
    "timestamp_ns",
    "whole",
]
