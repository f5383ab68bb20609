"""`skerry sim`: exit codes, JSON, and a violation that tells how to see it again."""

from __future__ import annotations

import json

import pytest

from skerry_simulators.cli import main


def test_a_clean_world_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--devices", "3", "--seed", "2", "--days", "0.1"]) == 0
    shown = capsys.readouterr()
    assert "0 of 1 worlds with a violation" in shown.out and shown.err == ""


def test_json_holds_the_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--devices", "3", "--seed", "2", "--days", "0.1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["violations"] == 0 and said["device_days"] == pytest.approx(0.3)
    assert len(said["worlds"][0]["history"]) == 64


def test_a_violation_ends_with_1_and_says_how_to_replay(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--devices", "12", "--bug", "ack-before-commit"]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and shown.err.startswith("skerry: error: seed 1: I3 violated by d")
    assert "replay: skerry sim world --devices 12 --seed 1 --days 1 --bug ack-before-commit" in shown.out
    assert "what came before:" in shown.out


@pytest.mark.parametrize(
    "words", [["world", "--devices", "0"], ["world", "--bug", "none"], ["world", "--days", "-1"], ["nonsense"], []]
)
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage" in capsys.readouterr().err
