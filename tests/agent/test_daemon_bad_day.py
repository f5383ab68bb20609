"""A real daemon that is stopped for longer than anybody waits for it, and two that start at the same moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tests.agent import serving_parts as parts
from tests.agent.fleet_site import Site
from tests.agent.test_daemon import Device, Fleet, broker, device, eventually, fleet, published, site  # noqa: F401

from skerry_contracts.device import Heartbeat, Presence

pytestmark = pytest.mark.parametrize("broker", ["embedded"], indirect=True)


def test_an_agent_that_was_stopped_goes_on(
    site: Site,  # noqa: F811
    fleet: Fleet,  # noqa: F811
    device: Device,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Agent and workers are stopped until the fleet has given them up: an inference under way is answered, the session
    comes back, what was assigned meanwhile is installed, and nobody was taken for hung."""
    monkeypatch.setenv("SKERRY_AGENT_KEEPALIVE_S", "1")
    device.stop()
    device.start()
    fleet.assign(published(site, tmp_path / "v1", 1), 1)
    eventually(lambda: ("committed", "ok") in fleet.phases(), "the first bundle is committed")
    (worker,) = device.status()["workers"]
    assert device.process is not None
    here = psutil.Process(device.process.pid)
    everybody = [here, *here.children(recursive=True)]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(device.infer, float(parts.SLOW), 500.0, 2.0, 3.0)
        time.sleep(0.2)
        for each in everybody:
            each.suspend()
        eventually(lambda: fleet.of("presence", Presence)[-1].online is False, "the fleet sees it go")
        fleet.heard.clear()
        fleet.assign(published(site, tmp_path / "v2", 2, factor=3, golden=3), 2)
        for each in reversed(everybody):
            each.resume()
        assert answer.result(60)[2] == 4.0
    eventually(lambda: fleet.phases()[-1:] == [("committed", "ok")], "the second bundle is committed")
    assert device.infer(0.0, 1.0, 2.0, 3.0) == [0.0, 3.0, 6.0, 9.0]
    assert all(model.errors == 0 for each in fleet.of("heartbeat", Heartbeat) for model in each.models)
    assert {reason for _, reason in fleet.phases()} == {"ok"} and worker["restarts"] == 0
    eventually(lambda: device.status()["spool"]["waiting"] == 0, "everything is acknowledged")


def test_of_two_that_start_at_the_same_moment_one_runs(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    device.stop()
    monkeypatch.setenv("SKERRY_AGENT_HEARTBEAT_S", "3600")  # a stop waits for no heartbeat either
    command = [sys.executable, "-m", "skerry", "agent", "run", "--root", str(device.root)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    eventually(lambda: any(each.poll() is not None for each in both), "one of them ends")
    (loser,) = [each for each in both if each.poll() is not None]
    (winner,) = [each for each in both if each is not loser]
    said = loser.communicate()[1]
    assert loser.returncode == 1 and said.count("\n") == 1 and "an agent already runs" in said
    eventually(lambda: (device.root / "run/api.sock").exists(), "the other listens")
    assert device.status()["device"] == "d1"
    os.kill(winner.pid, signal.SIGTERM)
    winner.communicate(timeout=60)
    assert winner.returncode == 0
