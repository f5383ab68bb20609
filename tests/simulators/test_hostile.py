"""Hostile models: a share of the table is survived for real, and a model that is not refused is found."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.agent.serving_parts import put

from skerry_simulators import hostile_site
from skerry_simulators.cli import main
from skerry_simulators.hostile import GOOD
from skerry_simulators.hostile_models import ANSWERS, CRASHED, REFUSED, Hostile, build
from skerry_simulators.hostile_table import TABLE

SHARE = ["escapes", "nan", "stop", "6gb", "descriptors", "kill", "write", "own-file", "secrets", "time", "sizes"]
SHARE += ["load-locked"]


def test_a_share_of_the_table_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["hostile", *SHARE, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert status == 0, [each for each in said["models"] if each["wrong"]]
    assert {each["name"] for each in said["models"]} == set(SHARE)
    assert said["hostile_models"] == said["hostile_survived"] == len(SHARE) - said["skipped"] >= len(SHARE) - 1


def test_every_hostile_model_has_a_name_of_its_own() -> None:
    assert len({each.name for each in TABLE}) == len(TABLE) >= 30


def test_a_model_that_is_granted_what_it_tries_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The judge itself: one model may do what the table says it may not, one dies that should not, one is right."""
    table = (
        Hostile("granted", "computes", REFUSED, "TRY(0); SYS(mount, 0, 0, 0, 0, 0);"),
        Hostile("dies", "aborts", ANSWERS, "abort();"),
        Hostile("right", "aborts", CRASHED, "abort();"),
    )
    monkeypatch.setattr(hostile_site, "TABLE", table)
    (tmp_path / "outside").mkdir()
    good, bad = (put(tmp_path, build(each, table, tmp_path)).sha256 for each in (GOOD, table[0]))
    asyncio.run(hostile_site.serve(tmp_path, good, {each.name: bad for each in table}))
    over = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "over" in line]
    granted, dies, right = over
    assert granted["ended"] == "granted" and "number [1] was granted" in granted["wrong"][0]
    assert dies["ended"] == "crashed" and len(dies["wrong"]) == 1
    assert right["wrong"] == []


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hostile", "nonsense"]) == 1
    assert "no hostile model 'nonsense'" in capsys.readouterr().err
