"""Bars and a calendar made of characters. Knows only numbers and days."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
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


def shades(values: Iterable[int]) -> dict[int, int]:
    """Return which of the five shades each value has: the first for nothing, the others for a quarter of the rest each.

    A day that is far above all others takes no shade from them. Equal values have the darkest shade due to any.
    """
    used = sorted(value for value in values if value > 0)
    return {0: 0} | {value: -(-4 * bisect_right(used, value) // len(used)) for value in used}


def calendar(values: Mapping[date, int], width: int) -> tuple[list[Text], int, int]:
    """Draw values of consecutive days: weeks from left to right, weekdays from Monday down, months above.

    Args:
        values: at least one day with its value.
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
    lines, places = [_months(mondays, last, cell)], shades(values.values())
    for weekday, name in enumerate(WEEKDAYS):
        line = Text(name.ljust(MARGIN))
        for monday in mondays:
            value = values.get(monday + timedelta(days=weekday))
            place = places[max(value, 0)] if value is not None else 0
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
