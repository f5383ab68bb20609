"""The whole life of an emulated Linux board: real agent, fleet, broker and compiler; only the processor is QEMU's.

One architecture here; all three where SKERRY_ALL_BOARDS is set, and by `skerry sim board`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from skerry_simulators.boards import running
from skerry_simulators.debian import packages
from skerry_targets import catalogue

BOARDS = ("raspberry-pi-4", "raspberry-pi-2", "riscv64")
STEPS = [
    *("userland", "fleet", "enrol", "start", "bundles", "update", "predict", "rollback"),
    *("refuse sibling", "refuse foreign", "doctor"),
]


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.mosquitto
@pytest.mark.parametrize("name", BOARDS if os.environ.get("SKERRY_ALL_BOARDS") else BOARDS[:1])
def test_the_agent_lives_on_an_emulated_board(name: str, tmp_path: Path) -> None:
    try:
        report = running.run(catalogue.get(name), print, tmp_path)
    except packages.FetchError as error:
        pytest.skip(f"{error} ({error.hint})")
    seen = {each.name: each.seen for each in report.steps}
    assert report.held, json.dumps(seen)
    assert list(seen) == STEPS
    assert "mosquitto" in seen["fleet"]
    assert seen["enrol"].startswith(name)
    assert seen["update"] == "offered → downloading → verified → trial → committed"
    assert seen["rollback"].startswith("rolled-back, unhealthy")
    assert "processor lacks" in seen["refuse sibling"] and "failed, unfit" in seen["refuse sibling"]
    assert "made for x86_64" in seen["refuse foreign"] or "this is" in seen["refuse foreign"]
    # What QEMU has not, the agent says; a real board of this kind has it.
    assert "seccomp" in seen["doctor"].partition("not here:")[2]
