"""What reading JSON ends in, where it is none."""

from __future__ import annotations

import msgspec

NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises at bytes that are not the JSON they should be, or nested too deep."""
