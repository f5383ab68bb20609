"""A disk that fails at any operation of an update: survived and said, and an agent that would hide it is noticed."""

from __future__ import annotations

import pytest

from skerry_agent.core import DeviceCore
from skerry_simulators import diskerrors
from skerry_simulators.cli import main


def test_a_share_of_the_errors_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["errors", "--no-strace", "--every", "37"]) == 0
    assert "0 violations" in capsys.readouterr().out


@pytest.mark.strace
def test_system_calls_that_fail_are_survived() -> None:
    """A share of them; all of them are a figure of `benchmarks/agent.py --long`."""
    outcome = diskerrors.enumerate_errors(strace=True, small=False, every=97)
    assert outcome.violations == () and outcome.points >= 5 and len(outcome.calls) >= 2


@pytest.mark.root
@pytest.mark.parametrize("error", [diskerrors.BYTES, diskerrors.NAMES])
def test_a_file_system_that_is_really_full_is_survived(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [diskerrors.Point(error, "operation", number, lasting=True) for number in (1, 13, 30, 50)]
    monkeypatch.setattr(diskerrors, "_points", lambda *_: points)
    outcome = diskerrors.enumerate_errors(strace=False, small=True)
    assert outcome.violations == () and outcome.points == 4


def test_an_agent_that_hides_a_bad_disk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = DeviceCore._finish

    def hides(self: DeviceCore, *values: object, **more: object) -> object:
        found = right(self, *values, **more)  # type: ignore[arg-type]  # passed through
        self.degraded.clear()
        return found

    monkeypatch.setattr(DeviceCore, "_finish", hides)
    outcome = diskerrors.enumerate_errors(strace=False, small=False, every=39)
    assert any("nothing says" in each for each in outcome.violations)
