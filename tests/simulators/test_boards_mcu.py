"""`skerry sim board` for microcontrollers: a day of one, what the command says, and days that go wrong."""

from __future__ import annotations

import dataclasses
import json

import pytest

from skerry_compiler.firmware import emulated
from skerry_firmware.link import LinkError
from skerry_simulators import board_report, boards_mcu, cli_board
from skerry_simulators.board_report import Report
from skerry_simulators.cli import main
from skerry_simulators.errors import SimulatorError
from skerry_simulators.mcu_models import Model
from skerry_targets import catalogue, shelf


@pytest.mark.boards
def test_a_day_of_a_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "nrf52840", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["target"] == "nrf52840" and said["held"] and "mps2-an386" in said["emulator"]
    steps = {each["name"]: each for each in said["steps"]}
    assert all(each["held"] for each in steps.values()) and len(steps) == 14
    floats, small = steps["takes convolutions in floats into slot A"], steps["takes convolutions in bytes into slot B"]
    assert floats["flash_bytes"] > 16_000 and small["ram_bytes"] < floats["ram_bytes"] / 2
    for name in ("a wrong signature", "an older release", "another processor's code", "more than its slot"):
        assert "nothing was written" in steps[f"refuses {name}"]["seen"]
    assert "release 2 runs" in steps["goes back after a crash"]["seen"]
    assert "release 2 runs" in steps["loses power, half written"]["seen"]
    assert "release 3 runs" in steps["loses power, being tried"]["seen"]


@pytest.mark.boards
def test_a_dead_link_is_said_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(self: emulated.Machine, data: bytes) -> None:
        raise LinkError("it is gone")

    monkeypatch.setattr(emulated.Machine, "write", dead)
    with pytest.raises(SimulatorError, match="does not start: it is gone"):
        boards_mcu.run(shelf.get("cortex-m4"), lambda words: None)


@pytest.mark.boards
def test_wrong_answers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "answered", lambda self, board: (False, "7 of 8 rows right"))
    for part in ("refuses", "goes_back", "loses_power"):
        monkeypatch.setattr(boards_mcu.Day, part, lambda self: None)
    found = boards_mcu.run(shelf.get("cortex-m3"), lambda words: None)
    assert not found.held and [each.held for each in found.steps] == [True, False, False, True]


def test_a_board_without_an_agent_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "esp32-c3"]) == 1
    said = capsys.readouterr().err
    assert "no emulator here runs an agent on esp32-c3" in said and "nearest that one does for" in said
    assert main(["board", "cortexm4"]) == 1
    assert "did you mean 'cortex-m4'" in capsys.readouterr().err
    assert main(["board"]) == 2


def test_every_cortex_m_has_a_board() -> None:
    for each in catalogue.load_all():
        if each.family == "cortex-m":
            assert cli_board.kind(each) == "microcontroller", each.id


def test_a_report_holds_only_where_every_step_does() -> None:
    report = Report("b", "e")
    assert not report.held
    with report.step("one") as step:
        step.held, step.flash_bytes = True, 2048
    with pytest.raises(ValueError), report.step("two"):
        raise ValueError("in the midst")
    assert not report.held and "WRONG" in board_report.table(report) and "2.0 kB" in board_report.table(report)
    assert dataclasses.replace(report.steps[0]).held
