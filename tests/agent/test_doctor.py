"""`skerry agent doctor` on a real device: well, and ill in every way that can be made here."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent.fleet_site import Site
from tests.agent.test_agent_cli import packed
from tests.agent.test_daemon import Device

from skerry_agent import cli, doctor_host, health, this_device
from skerry_agent.disk import RealDisk
from skerry_agent.store import BLOBS, Store
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    found = Site(tmp_path_factory.mktemp("fleet") / "fleet", time.time())
    yield found
    found.close()


@pytest.fixture(scope="module")
def broker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    settings = BrokerSettings(tmp_path_factory.mktemp("broker"), port=0, kind="embedded")
    found = BrokerProcess(settings, site.office.authority)
    found.start()
    site.broker_port = found.port
    yield found
    found.stop()


@pytest.fixture
def root(site: Site, broker: BrokerProcess, tmp_path: Path) -> Path:
    found = tmp_path / "device"
    words = ["enroll", "--root", str(found), "--fleet", site.url, "--claim", str(site.token), "--device", "d1"]
    assert cli.main(words) == 0
    assert cli.main(["import", str(packed(tmp_path)), "--root", str(found)]) == 0
    return found


def examined(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = cli.main(["doctor", "--json", "--root", str(root)])
    found = json.loads(capsys.readouterr().out)
    assert found["well"] is (code == 0)
    return code, {each["name"]: each for each in found["checks"]}


def test_a_well_device_is_well_whether_its_agent_runs_or_not(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = examined(root, capsys)
    assert code == 0, checks
    assert checks["agent"]["verdict"] == "note" and "skerry agent run" in checks["agent"]["hint"]
    assert "2 of 2 golden vectors" in checks["model toy"]["says"]
    assert "seccomp" in checks["sandbox"]["says"]
    assert "takes this device's certificate" in checks["link"]["says"]
    before = sorted(path.name for path in root.iterdir())

    device = Device(root)
    device.start()
    try:
        deadline_s = time.monotonic() + 60
        while not (device.status()["online"] and device.serves()):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        sessions = device.status()["sessions"]
        code, checks = examined(root, capsys)
        assert code == 0, checks
        assert checks["agent"]["says"].startswith("runs") and "session stands" in checks["link"]["says"]
        assert device.status()["sessions"] == sessions, "the doctor pushed the agent from its broker"
        assert cli.main(["doctor", "--root", str(root)]) == 0
        assert capsys.readouterr().out.endswith("all is well\n")
    finally:
        device.stop()
    assert set(before) <= {path.name for path in root.iterdir()}
    assert not [path for path in root.iterdir() if path.name.startswith("doctor")]


def test_each_illness_is_named_with_its_next_step(
    root: Path, site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Store(RealDisk(root)).manifest(next(iter(Store(RealDisk(root)).factory().values())))
    assert manifest is not None
    blob = root / BLOBS / manifest.variants[0].blobs["library"].sha256
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)
    with sqlite3.connect(root / "state.db") as db:
        db.execute("CREATE TABLE memory (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        db.execute("INSERT INTO memory VALUES ('clock', CAST('9999999999.0' AS BLOB))")
    other = (root / "identity/device.pem").read_text()
    certificate = other[other.index("-----BEGIN CERT") :]
    assert cli.main(
        ["enroll", "--root", str(root.parent / "d2"), "--fleet", site.url, "--claim", str(site.token), "--device", "d2"]
    ) == 0  # fmt: skip
    key = (root.parent / "d2/identity/device.pem").read_text().partition("-----BEGIN CERT")[0]
    (root / "identity/device.pem").write_text(key + certificate)
    monkeypatch.setattr(health, "temperature_c", lambda: 91.0)
    monkeypatch.setenv("SKERRY_AGENT_RESERVE_FREE_BYTES", str(1 << 60))

    code, checks = examined(root, capsys)
    assert code == 1
    ill = {name for name, each in checks.items() if each["verdict"] == "WRONG"}
    assert ill == {"space", "clock", "identity", "link", "model toy", "temperature"}
    assert all(checks[name]["hint"] for name in ill)
    assert "key is not the certificate's" in checks["identity"]["says"]
    assert "not what its digest says" in checks["model toy"]["says"]


def test_a_damaged_ledger_is_told_and_left_as_it_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rubbish = b"SQLite format 3\0" + bytes(range(256)) * 40
    (root / "state.db").write_bytes(rubbish)
    code, checks = examined(root, capsys)
    assert code == 1 and checks["ledger"]["verdict"] == "WRONG" and "rebuilds it" in checks["ledger"]["hint"]
    assert (root / "state.db").read_bytes() == rubbish
    assert checks["model toy"]["verdict"] == "ok", "without a ledger the store says what serves"


def test_a_fleet_that_is_gone_or_another_is_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Site(tmp_path / "other", time.time())
    enrolment = root / "identity/enrolment.json"
    text = json.loads(enrolment.read_text())
    try:
        text["fleet"], text["enrolment"]["broker_port"] = other.url, 9
        enrolment.write_text(json.dumps(text))
        code, checks = examined(root, capsys)
    finally:
        other.close()
    assert code == 1 and "another fleet" in checks["fleet"]["says"]
    assert checks["link"]["verdict"] == "WRONG" and "127.0.0.1:9" in checks["link"]["says"]
    code, checks = examined(root, capsys)
    assert code == 1 and "is the fleet up" in checks["fleet"]["hint"]


def test_an_agent_that_holds_the_folder_and_is_silent_is_told(tmp_path: Path) -> None:
    held = this_device.lock(tmp_path)
    _, finding = doctor_host.running(tmp_path)
    os.close(held)
    assert finding.verdict.value == "WRONG" and "does not answer" in finding.says
    _, finding = doctor_host.running(tmp_path)
    assert finding.verdict.value == "note"


def test_without_an_enrolment_or_a_folder_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert cli.main(["doctor", "--root", str(folder)]) == 1
        out = capsys.readouterr().out
        assert "skerry agent enroll" in out and out.endswith("something is wrong\n")
