"""Figures as people read them: the templates' filters."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Any

import jinja2

_STEPS = ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600), (float("inf"), "days", 86_400))
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_SIZES = ("B", "kB", "MB", "GB", "TB")
GOOD = {
    "online",
    "serving",
    "published",
    "complete",
    "confirmed",
    "chosen",
    "resolved",
    "steady",
    "committed",
    "ok",
    "promoted",
}
BAD = {"failed", "critical", "drifting", "inaccurate", "rolled-back", "stopped", "withdrawn", "silent", "aborted"}
BUSY = {"running", "offered", "soaking", "downloading", "trial", "starting", "rolling-back", "returning", "verified"}
WARN = {"open", "warning", "paused", "retrying", "degraded", "awaiting-approval", "too-large", "draft"}


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit.

    >>> duration(4), duration(150), duration(86_400), duration(200_000)
    ('4 s', '2 min', '24 h', '2 days')
    """
    for below, unit, size in _STEPS:
        if seconds < below:
            return f"{int(seconds // size)} {unit}"
    raise AssertionError("the last step has no end")


@jinja2.pass_context
def ago(context: jinja2.runtime.Context, milliseconds: float | None) -> str:
    """Return how long ago a time was, by the page's own `now`."""
    if not milliseconds:
        return "never"
    age_s = context["now"] - milliseconds / 1000
    if age_s < -1:
        return f"in {duration(-age_s)}"
    return "now" if age_s < 1 else f"{duration(age_s)} ago"


def instant(milliseconds: float | None) -> str:
    """Return a time in UTC.

    >>> instant(0), instant(1_800_000_000_000)
    ('', '2027-01-15T08:00:00Z')
    """
    if not milliseconds:
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def size(count: float | None) -> str:
    """Return a number of bytes.

    >>> size(999), size(1_500_000), size(None)
    ('999 B', '1.5 MB', '–')
    """
    if count is None:
        return "–"
    number = float(count)
    for unit in _SIZES:
        if abs(number) < 1000 or unit == _SIZES[-1]:
            return f"{number:.0f} {unit}" if unit == "B" or abs(number) >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("the last unit has no end")


def figure(value: object, unit: str = "", digits: int = 3) -> str:
    """Return a number with so many significant digits and its unit; a dash where there is none.

    >>> figure(0.123456), figure(1234567), figure(None, "ms"), figure(12.0, "ms")
    ('0.123', '1\u202f234\u202f567', '–', '12 ms')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, float) and abs(value) < 1000:
        text = f"{value:.{digits}g}"
    else:
        text = f"{round(value):,}".replace(",", "\u202f")  # a narrow space that does not break
    return f"{text} {unit}" if unit else text


def latency(milliseconds: object) -> str:
    """Return a latency in the unit that needs no row of zeros.

    >>> latency(0.00147), latency(0.42), latency(None)
    ('1.47 µs', '0.42 ms', '–')
    """
    if isinstance(milliseconds, (int, float)) and 0 < milliseconds < 0.1:
        return figure(milliseconds * 1000, "µs")
    return figure(milliseconds, "ms")


@jinja2.pass_context
def who(context: jinja2.runtime.Context, actor: str) -> str:
    """Return who did something: a key's name beside its id, which nobody can choose."""
    name = context["keys"].get(actor.removeprefix("key:"))
    return f"{name} ({actor})" if name and actor.startswith("key:") else actor


def share(value: object) -> str:
    """Return a share of one in percent.

    >>> share(0.9512)
    '95.1 %'
    """
    return f"{value * 100:.1f} %" if isinstance(value, (int, float)) and not isinstance(value, bool) else "–"


def short(digest: str | None) -> str:
    """Return the beginning of a digest: enough to know it by.

    >>> short("0123456789abcdef" * 4), short(None)
    ('0123456789ab', '–')
    """
    return digest[:12] if digest else "–"


def brief(text: str) -> str:
    """Return a text with its digests shortened.

    >>> brief('{"bundle":"' + "ab" * 32 + '"}')
    '{"bundle":"abababababab…"}'
    """
    return _DIGEST.sub(lambda found: found[0][:12] + "…", text)


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count and its word.

    >>> plural(1, "device"), plural(2, "device"), plural(0, "entry", "entries")
    ('1 device', '2 devices', '0 entries')
    """
    return f"{figure(count)} {one if count == 1 else many or one + 's'}"


def tone(word: str) -> str:
    """Return the colour class of a state: the word itself always stands beside it.

    >>> tone("serving"), tone("failed"), tone("anything")
    ('good', 'bad', 'plain')
    """
    tones = (("good", GOOD), ("bad", BAD), ("busy", BUSY), ("warn", WARN))
    return next((name for name, words in tones if word in words), "plain")


FILTERS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (ago, brief, duration, figure, instant, latency, plural, share, short, size, tone, who)
}
