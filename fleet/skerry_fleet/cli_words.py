"""How `skerry fleet` prints what a fleet answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Rows = list[dict[str, Any]]


def show(answer: Any, as_json: bool, otherwise: Callable[[], None]) -> None:
    """Print an answer as JSON, or as `otherwise` does."""
    if as_json:
        print(json.dumps(answer))
    else:
        otherwise()


def record(verb: tuple[str, str], answer: dict[str, Any]) -> None:
    """Print one record, a field a line; of a secret that was made, the secret alone."""
    if verb == ("claim", "create"):
        print(answer["token"])  # alone, so that it can be copied or piped
        return
    if verb == ("key", "create"):
        print(answer["key"])
        return
    for name, value in answer.items():
        if value not in (None, "", {}, []):
            print(f"{name:16} {cell(name, value)}")


def table(rows: Rows, columns: tuple[str, ...]) -> None:
    """Print rows as a table."""
    cells = [[cell(column, row.get(column)) for column in columns] for row in rows]
    heads = [column.removesuffix("_ms") for column in columns]
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(columns))]
    for line in [heads, *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def cell(name: str, value: Any) -> str:
    """Return a value in one line; control characters of others' making never reach the terminal."""
    if value is None:
        return "-"
    if name.endswith("_ms") and isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if name == "agreement" and isinstance(value, dict):
        return f"{100 * value['rate']:.2f} % ({100 * value['low']:.2f} to {100 * value['high']:.2f})"
    if name == "counts":
        return " ".join(f"{place} {count}" for place, count in value.items() if count)
    if name == "models" and isinstance(value, list):
        return " ".join(f"{each['model']}@{each['version']}" for each in value)
    if name in ("bundle", "id") and isinstance(value, str) and len(value) == 64:
        return value[:12]
    if isinstance(value, (dict, list)):
        value = json.dumps(value)
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
