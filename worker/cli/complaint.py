"""What is said to a person on stderr, beside the log."""

from __future__ import annotations

import sys

from worker.safe_text import sentence


def complain(*sentences: str) -> None:
    """Write sentences to stderr, each in one line, whatever foreign words are in them."""
    text = "\n  ".join(map(sentence, sentences))
    sys.stderr.write(f"worker: {text}\n")
