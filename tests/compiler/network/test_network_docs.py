"""The table of operators says what the engine has, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

from onnx import defs

from skerry_compiler.engines.network.operators import HANDLERS

TABLE = Path(__file__).parents[3] / "docs" / "native-engine.md"


def test_every_operator_is_in_the_table() -> None:
    section = TABLE.read_text().split("## Operators")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(HANDLERS)


def test_every_operator_is_one_of_onnx() -> None:
    assert set(HANDLERS) <= {schema.name for schema in defs.get_all_schemas_with_history()}
