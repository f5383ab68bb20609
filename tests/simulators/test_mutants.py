"""Mutants: the table fits the program of today, and one is really killed; the whole table is a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry_simulators.cli import main
from skerry_simulators.mutant_table import TABLE
from skerry_simulators.mutants import mutated

ROOT = Path(__file__).parents[2]


def test_every_mutant_is_one_line_of_today_s_program() -> None:
    assert len({each.name for each in TABLE}) == len(TABLE) >= 20
    for each in TABLE:
        assert mutated(ROOT, each) != (ROOT / "agent" / "skerry_agent" / each.file).read_text()
        assert all((ROOT / test).is_file() for test in each.tests), each.name


def test_a_mutant_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutants", "kind of a signed document", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["mutants"] == said["mutants_killed"] == 1
    assert "test_all_else_is_unsigned" in said["verdicts"][0]["how"]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutants", "nonsense"]) == 1
    assert "no mutant 'nonsense'" in capsys.readouterr().err
