"""Bars and a calendar made of characters. Knows only numbers and days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from rich.text import Text

EIGHTHS = " ▏▎▍▌▋▊▉"
SHADES = "·░▒▓█"
"""From nothing to the most; they can be told apart without colours, too."""

GREENS = ("bright_black", "#0e6b34", "#1e9a4a", "#35c463", "#7df09f")
WEEK = 7
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MARGIN = 4
"""How wide the names of the weekdays are."""


def bar(value: float, most: float, width: int) -> str:
    """Return a bar as long as `value` is of `most`, the longest of which has `width` characters.

    What is not nothing can be seen.
    """
    if value <= 0 or most <= 0:
        return ""
    eighths = max(round(8 * width * value / most), 1)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def shade(value: int, most: int) -> int:
    """Return which of the five shades a value has: the first for nothing, the others for a quarter of `most` each."""
    return -(-4 * value // most) if value > 0 else 0


def calendar(values: Mapping[date, int], most: int, width: int) -> tuple[list[Text], int, int]:
    """Draw values of consecutive days: weeks from left to right, weekdays from Monday down, months above.

    Args:
        values: at least one day with its value.
        most: what the darkest shade stands for.
        width: how wide it may be. The newest weeks are shown, as many as there is room for.

    Returns:
        its lines, how many weeks are shown, and how many there are.
    """
    first, last = min(values), max(values)
    begin = first - timedelta(days=first.weekday())
    weeks = (last - begin).days // WEEK + 1
    cell = 2 if MARGIN + 2 * weeks <= width else 1
    shown = max(min(weeks, (width - MARGIN) // cell), 1)
    mondays = [begin + timedelta(weeks=n) for n in range(weeks - shown, weeks)]
    lines = [_months(mondays, last, cell)]
    for weekday, name in enumerate(WEEKDAYS):
        line = Text(name.ljust(MARGIN))
        for monday in mondays:
            value = values.get(monday + timedelta(days=weekday))
            place = shade(value, most) if value is not None else 0
            line.append(" " if value is None else SHADES[place], GREENS[place])
            line.append(" " * (cell - 1))
        line.rstrip()
        lines.append(line)
    return lines, shown, weeks


def _months(mondays: Sequence[date], last: date, cell: int) -> Text:
    """Return the names of the months, each above the week that its first day lies in, where there is room for it."""
    ends = [min(monday + timedelta(days=WEEK - 1), last) for monday in mondays]
    begun = [(n, end) for n, end in enumerate(ends) if not n or end.day <= (end - mondays[n]).days + 1]
    if len(begun) > 1 and (begun[1][0] - begun[0][0]) * cell < MARGIN:
        begun = begun[1:]
    line = ""
    for n, end in begun:
        line = line.ljust(MARGIN + n * cell) + MONTHS[end.month - 1]
    return Text(line)


def legend() -> Text:
    """Return the five shades in order."""
    line = Text("less ")
    for place, character in enumerate(SHADES):
        line.append(character, GREENS[place])
    return line.append(" more")
