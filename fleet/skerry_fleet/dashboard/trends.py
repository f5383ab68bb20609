"""How the fleet did over days and weeks, from what is counted by the hour: lines, and the same in numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlmodel import Session, col, func, select

from skerry_fleet.records import Alert
from skerry_fleet.rollup_tables import HealthHour, MessageHour

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SPANS = {"day": (24, HOUR_MS), "week": (7 * 24, HOUR_MS), "month": (31 * 24, DAY_MS), "quarter": (92 * 24, DAY_MS)}
"""Hours back, and the width of a step."""
WIDTH, HEIGHT, TOP = 720, 150, 8
LINES = 6
_HEALTH: Any = (
    *(HealthHour.model, HealthHour.version, HealthHour.hour_ms),
    *(HealthHour.beats, HealthHour.predictions, HealthHour.errors),
)
LASTS_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line: its points as SVG, and its values by step (None: nothing was counted)."""

    name: str
    points: str
    values: tuple[float | None, ...]
    last: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """One chart: lines over the same steps. `unit` belongs to the numbers."""

    title: str
    unit: str
    most: float
    lines: tuple[Line, ...]


def charts(session: Session, tenant: str, now: float, span: str) -> dict[str, Any]:
    """Return the charts of a span, the steps' times, and what is left out."""
    hours, step_ms = SPANS[span]
    last_ms = int(now * 1000) // step_ms * step_ms
    count = hours * HOUR_MS // step_ms
    steps = [last_ms - (count - 1 - index) * step_ms for index in range(count)]
    since_ms = steps[0]

    def series(rows: Any) -> dict[str, list[float | None]]:
        found: dict[str, list[float | None]] = {}
        for name, at_ms, value in rows:
            index = (int(at_ms) - since_ms) // step_ms
            if 0 <= index < count:
                line = found.setdefault(str(name), [None] * count)
                line[index] = (line[index] or 0.0) + float(value)
        return found

    health = session.exec(select(*_HEALTH).where(HealthHour.tenant == tenant, HealthHour.hour_ms >= since_ms)).all()
    messages = session.exec(
        select(MessageHour.channel, MessageHour.hour_ms, func.sum(MessageHour.messages))
        .where(MessageHour.tenant == tenant, MessageHour.hour_ms >= since_ms)
        .group_by(col(MessageHour.channel), col(MessageHour.hour_ms))
    ).all()
    day = col(Alert.first_ms) // step_ms
    alerts = session.exec(
        select(Alert.severity, day, func.count())
        .where(Alert.tenant == tenant, col(Alert.first_ms) >= since_ms)
        .group_by(col(Alert.severity), day)
    ).all()
    predictions = series((row[0], row[2], row[4]) for row in health)
    errors = series((row[0], row[2], row[5]) for row in health)
    beats = series((f"{row[0]} {row[1]}", row[2], row[3]) for row in health)
    rates = {name: [_rate(e, p) for e, p in zip(errors[name], line, strict=True)] for name, line in predictions.items()}
    per = "an hour" if step_ms == HOUR_MS else "a day"
    return {
        "steps": steps,
        "span": span,
        "daily": step_ms == DAY_MS,
        "charts": [
            _chart(f"Heartbeats {per}, by version", "", beats),
            _chart(f"Predictions {per}", "", predictions),
            _chart("Errors in a hundred predictions", "%", rates),
            _chart(f"Messages {per}, by channel", "", series(messages)),
            _chart(f"New alerts {per}", "", _zeroed(series((name, at * step_ms, value) for name, at, value in alerts))),
        ],
    }


def _zeroed(series: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
    """Return lines where nothing counted means none."""
    return {name: [value or 0.0 for value in line] for name, line in series.items()}


def _rate(errors: float | None, predictions: float | None) -> float | None:
    return 100 * (errors or 0.0) / predictions if predictions else None


def _chart(title: str, unit: str, series: dict[str, list[float | None]]) -> Chart:
    """Return a chart of the largest lines."""
    largest = sorted(series, key=lambda name: (-sum(value or 0.0 for value in series[name]), name))[:LINES]
    most = max((value or 0.0 for name in largest for value in series[name]), default=0.0)
    lines = []
    for name in largest:
        values = tuple(series[name])
        last = next((value for value in reversed(values) if value is not None), None)
        lines.append(Line(name, _path(values, most), values, last))
    return Chart(title, unit, most, tuple(lines))


def _path(values: tuple[float | None, ...], most: float) -> str:
    """Return the SVG path of a line; it breaks where nothing was counted.

    >>> _path((0.0, 2.0, None, 1.0), 2.0)
    'M0.0 150.0L240.0 8.0M720.0 79.0h.01'
    """
    step = WIDTH / max(1, len(values) - 1)
    parts, drawing, alone = [], False, False
    for index, value in enumerate(values):
        if value is None:
            parts += ["h.01"] if alone else []
            drawing = alone = False
            continue
        y = HEIGHT - (HEIGHT - TOP) * (value / most if most else 0.0)
        parts.append(f"{'L' if drawing else 'M'}{index * step:.1f} {y:.1f}")
        alone, drawing = not drawing, True
    return "".join([*parts, "h.01"] if alone else parts)
