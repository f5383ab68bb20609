"""The whole world: the same seed is the same history, honest programs pass, dishonest ones are caught."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from skerry_fleet.rollout_words import State
from skerry_simulators import faults
from skerry_simulators.bugs import planted
from skerry_simulators.faults import BUGS
from skerry_simulators.runner import hunt, run_world
from skerry_simulators.world import Settings

SMALL = Settings(devices=10, seed=3, days=0.3)
HUNTED = Settings(devices=16, days=0.5)


def test_a_small_world_keeps_every_promise() -> None:
    report = run_world(SMALL)
    assert report.violation is None, report.violation
    assert report.device_days == pytest.approx(3.0)
    assert report.checks > 5000
    # Everything that can go wrong did: otherwise nothing was proved.
    for fault in ("power cut", "agent crash", "worker died", "partition", "wrong clock", "disk full", "killed"):
        assert report.counts[fault] > 0, fault


def test_the_same_seed_is_the_same_history_whatever_the_hashes() -> None:
    script = (
        "from skerry_simulators.runner import run_world; from skerry_simulators.world import Settings;"
        "print(run_world(Settings(devices=2, seed=5, days=0.05)).history)"
    )
    found = set()
    for seed in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        )
        found.add(run.stdout.strip())
    assert len(found) == 1
    assert run_world(Settings(devices=2, seed=6, days=0.05)).history not in found


def test_without_bad_luck_everyone_ends_on_the_newest_release() -> None:
    report = run_world(Settings(devices=5, seed=1, days=0.2, faults=faults.NONE))
    assert report.violation is None, report.violation
    assert report.counts["release"] >= 2
    assert report.counts["swap"] == 5 * report.counts["rollout"]
    assert "power cut" not in report.counts


def test_candidates_in_the_shadow_survive_bad_luck_and_serve_nobody() -> None:
    report = run_world(Settings(devices=6, seed=9, days=0.4, shadows=True))
    assert report.violation is None, report.violation
    assert report.counts["up shadow"] > 20 and report.counts["shadow"] > 10 and report.counts["power cut"] > 3
    assert report.history == run_world(Settings(devices=6, seed=9, days=0.4, shadows=True)).history


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found(bug: str) -> None:
    report = hunt(bug, HUNTED, seeds=5)
    assert report is not None and report.violation is not None
    expected = {"missing-fsync": "I2", "ack-before-commit": "I3", "no-dedup": "I3", "no-inflight-budget": "I4"}
    assert report.violation.invariant == expected[bug]
    assert report.violation.last


def test_a_planted_bug_leaves_no_trace() -> None:
    right = State.__dict__["exposure"]
    with planted("no-inflight-budget"):
        assert State.__dict__["exposure"] is not right
    assert State.__dict__["exposure"] is right
