r"""Text from outside, made safe for the place where it is shown (pure).

A client chooses the name of a model, a proxy the words of an error. Neither may steer a terminal, end a line, hide
what it is, or become a formula. What cannot be seen is written as Python writes it, such as `\x1b` or `\u202e`, and
never dropped: two names that differ look different.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TypeGuard, cast

UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""What Unicode calls printable and yet cannot be seen: fillers, joiners of graphemes, selectors of variants."""

SEEN = frozenset("\u3000")
"""What Python does not call printable and yet is as plain as a letter: the wide space between CJK words."""

ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
NOT_ASCII = re.compile(r"[^\x20-\x7e\n]+")
READS_AS_ESCAPE = re.compile(r"\\(?=[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
FORMULA = re.compile(r"'*\s*[=+\-@＝＋－＠]")  # noqa: RUF001  # spreadsheets take the wide ones, too
CONTINUATION = "  | "


def name(text: str) -> str:
    r"""Return a name for a cell: one line in which different names look different.

    A backslash is doubled where it would read as one of the escapes that stand for what cannot be seen.
    """
    if text.isprintable() and text.isascii() and "\\" not in text:
        return text
    shown = [_shown(c) for c in text]
    followed = zip(shown[1:], text[1:], strict=True)
    for at, (after, c) in enumerate(followed):
        if text[at] == "\\" and (after != c or READS_AS_ESCAPE.match(text, at)):
            shown[at] = r"\\"
    return "".join(shown)


def sentence(text: str) -> str:
    """Return a sentence with foreign words in it as one line; what our own words quote keeps its backslashes."""
    return text if text.isprintable() and text.isascii() else "".join(map(_shown, text))


def csv_field(value: Any) -> Any:
    """Return a value for a field of CSV: no spreadsheet takes a text for a formula, and every row is one line.

    A text that begins as a formula does is led by an apostrophe, which tells spreadsheets that it is text; so is one
    that begins with apostrophes before such a sign, so that one apostrophe can always be taken away again. Numbers
    are ours, and stay numbers.
    """
    if not isinstance(value, str):
        return value
    shown = name(value)
    return f"'{shown}" if FORMULA.match(shown) else shown


def json_text(document: str) -> str:
    """Return a JSON document, the same by its meaning, with escapes for what a terminal would obey or not show."""
    return NOT_ASCII.sub(lambda found: "".join(map(_json_escape, found[0])), document)


def log_value(value: Any) -> Any:
    """Return a value of a log event, however deep its texts lie, as it may stand in one line."""
    if isinstance(value, str):
        return sentence(value)
    if _is_mapping(value):
        return {log_value(key): log_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [log_value(one) for one in cast("Iterable[Any]", value)]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return sentence(str(value))


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def block(text: str) -> str:
    """Return a text of several lines, such as a traceback, each marked so that none passes for a line of ours."""
    return "\n".join(f"{CONTINUATION}{sentence(line)}" for line in text.rstrip("\n").split("\n"))


def traceback_of(kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> str:
    """Return a traceback without the values of variables, as a block."""
    return block("".join(traceback.format_exception(kind, error, at)))


def _shown(c: str) -> str:
    if (c.isprintable() and c not in UNSEEN) or c in SEEN:
        return c
    if c in ESCAPES:
        return ESCAPES[c]
    point = ord(c)
    return f"\\x{point:02x}" if point <= 0xFF else f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"  # noqa: PLR2004


def _json_escape(c: str) -> str:
    if _shown(c) == c:
        return c
    point = ord(c)
    if point <= 0xFFFF:  # noqa: PLR2004  # JSON escapes are of UTF-16
        return f"\\u{point:04x}"
    point -= 0x10000
    return f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"
