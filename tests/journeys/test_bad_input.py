"""What a street refuses: each time one clear line, nothing changed, nothing lost. All parts are real."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from tests.journeys.bad_input_parts import bundle_id, reasons, trouble
from tests.journeys.conftest import MakeBundle

from skerry_agent.client import LocalClient
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.data import INPUT
from skerry_simulators.demo.processes import Children, run, skerry, wait_for
from skerry_simulators.demo.street import Street

DEVICE = "gate-01"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Iterator[Street]:
    """One fleet and one device that serves release 1; release 2 is uploaded."""
    root = tmp_path_factory.mktemp("street")
    street = Street(root, Children(root / "logs"))
    try:
        parts.start_fleet(street)
        street.fleet("model", "register", parts.MODEL)
        parts.start_devices(street, 1)
        assert start(street, upload(street, make_bundle("1.0", 1))) == "complete"
        upload(street, make_bundle("2.0", 2))
        yield street
    finally:
        street.children.stop()


def upload(street: Street, bundle: Path) -> str:
    return str(street.fleet("bundle", "upload", str(bundle))["id"])


def rollout_words(bundle: str) -> list[str]:
    return ["rollout", "start", "--model", parts.MODEL, "--bundle", bundle, "--group", parts.GROUP, "--soak-s", "0"]


def start(street: Street, bundle: str) -> str:
    """Start a rollout and return how it ended."""
    rollout = street.fleet(*rollout_words(bundle))["id"]

    def over() -> str | None:
        status = str(street.ask(f"/rollouts/{rollout}")["status"])
        return status if status in ("complete", "rolled-back", "aborted") else None

    return wait_for("end of the rollout", over, street.children, 60.0)


def refused(*words: str, key: Path | None = None, url: str = "") -> str:
    """Return the one line in which a command refuses."""
    more = [*(["--url", url] if url else []), *(["--key", str(key)] if key else [])]
    done = subprocess.run(skerry(*words, *more), capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout, done
    assert done.stderr.startswith("skerry: error: ") and done.stderr.count("\n") == 1
    return done.stderr


def fleet_refuses(street: Street, *words: str) -> str:
    return refused("fleet", *words, url=street.fleet_url, key=street.root / "fleet" / "admin.key")


def state(street: Street) -> dict[str, Any]:
    """Return what a refusal must not change: what the device serves and is to run, and everything ever done."""
    with LocalClient(street.sockets[DEVICE]) as client:
        served = client.get(f"/v2/models/{parts.MODEL}")["versions"]
        client.infer(parts.MODEL, {INPUT: np.zeros(64, np.float32).tobytes()})
    device = street.ask(f"/devices/{DEVICE}")
    desired = [(each["model"], each["bundle"]) for each in device["desired"]]
    return {"served": served, "desired": desired, "audit": street.ask("/audit?limit=1")["items"]}


def test_a_bundle_for_another_board_is_offered_to_nobody(
    street: Street, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    model = make_bundle("1.0", 1).parent / "model.onnx"
    words = ["compile", str(model), "--target", "raspberry-pi-4", "--model", parts.MODEL, "--version", "9.0"]
    run("foreign", skerry(*words, "--release", "9", "-o", str(tmp_path / "pi.skerry")), tmp_path)
    foreign = upload(street, tmp_path / "pi.skerry")
    before = state(street)
    assert "made for raspberry-pi-4" in fleet_refuses(street, *rollout_words(foreign))
    assert state(street) == before
    said = refused("agent", "import", str(tmp_path / "pi.skerry"), "--root", str(tmp_path / "bare"))
    assert "fits this device" in said and not (tmp_path / "bare" / "store").exists()


def test_a_damaged_file_is_not_taken_in(street: Street, make_bundle: MakeBundle, tmp_path: Path) -> None:
    content = bytearray(make_bundle("2.0", 2).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.skerry").write_bytes(content)
    before = state(street)
    assert "not a valid bundle" in fleet_refuses(street, "bundle", "upload", str(tmp_path / "flipped.skerry"))
    assert state(street) == before


@pytest.mark.parametrize("part", ["manifest", "blob"])
def test_bytes_changed_on_the_fleets_own_disk_are_never_installed(
    street: Street, make_bundle: MakeBundle, part: str
) -> None:
    bundle, fleet = make_bundle("2.0", 2), street.root / "fleet"
    wanted = bundle_id(bundle)
    with zipfile.ZipFile(bundle) as file:
        own = {each.filename: each.file_size for each in file.infolist() if len(each.filename) == 64}
    if part == "manifest":
        path = fleet / "trust" / "tuf" / "targets" / parts.MODEL / f"{wanted}.{wanted}.json"
    else:
        here = {each.name for each in (street.root / "devices" / DEVICE / "store" / "blobs").iterdir()}
        name = max((each for each in own if each not in here), key=lambda each: own[each])
        path = fleet / "blobs" / name[:2] / name
    # And every difference from which the same bytes could be made.
    differences = [each for each in (fleet / "blobs").glob("*/*") if each.is_file() and each.name not in own]
    whole, served = {each: each.read_bytes() for each in (path, *differences)}, state(street)["served"]
    before = len(reasons(street, DEVICE))
    try:
        for each, content in whole.items():
            each.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        rollout = street.fleet(*rollout_words(wanted))["id"]
        told = wait_for("its word", lambda: reasons(street, DEVICE)[: -before or None] or None, street.children, 60.0)
        street.fleet("rollout", "abort", rollout)
        wait_for("end of the attempt", lambda: trouble(street, DEVICE) is None, street.children, 60.0)
    finally:
        for each, content in whole.items():
            each.write_bytes(content)
    assert set(told) == {"corrupt"} and state(street)["served"] == served


def test_a_claim_token_is_good_for_one_device(street: Street, tmp_path: Path) -> None:
    token = street.fleet("claim", "create", "--uses", "1")["token"]
    words = ["agent", "enroll", "--fleet", street.fleet_url, "--claim", token]
    run("first", skerry(*words, "--device", "first", "--root", str(tmp_path / "first")), tmp_path)
    before = street.ask("/audit?limit=1")["items"]
    said = refused(*words, "--device", "second", "--root", str(tmp_path / "second"))
    assert "this claim token is used up" in said
    assert street.ask("/audit?limit=1")["items"] == before
    assert not (tmp_path / "second" / "identity" / "device.pem").exists()


RUBBISH = {
    b"this is not JSON": "not JSON",
    b'{"a":NaN}': "NaN",
    b"[" * 60_000 + b"]" * 60_000: "nested deeper",
    b"a" * 131_073: "at most 131072",
}


def test_rubbish_from_a_device_is_kept_with_its_reason_and_harms_nobody(street: Street, tmp_path: Path) -> None:
    token = street.fleet("claim", "create")["token"]
    words = ["agent", "enroll", "--fleet", street.fleet_url, "--claim", token, "--device", "rogue"]
    run("rogue", skerry(*words, "--root", str(tmp_path)), tmp_path)
    before = state(street)
    for payload in RUBBISH:
        publish(tmp_path, "skerry/1/default/rogue/up/sample", payload)
    # In another's name: the broker acknowledges it and passes it on to nobody.
    for topic in (f"{DEVICE}/up/heartbeat", f"{DEVICE}/down/assignment", "rogue/down/assignment"):
        publish(tmp_path, f"skerry/1/default/{topic}", b'{"forged":1}', end=False)

    def letters() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = street.ask("/dead-letters")["items"]
        return found if len(found) >= len(RUBBISH) else None

    found = wait_for("word of all rubbish", letters, street.children, 30.0)
    assert {each["topic"] for each in found} == {"skerry/1/default/rogue/up/sample"}
    for each, reason in zip(reversed(found), RUBBISH.values(), strict=True):
        assert reason in each["reason"]
    assert state(street) == before and street.ask(f"/devices/{DEVICE}")["online"] is True


def publish(root: Path, topic: str, payload: bytes, *, end: bool = True) -> None:
    """Publish as the device whose identity lies in `root`; with `end`, the broker must go on listening."""
    identity = root / "identity"
    enrolment = json.loads((identity / "enrolment.json").read_text())["enrolment"]
    client = mqtt.Client(CallbackAPIVersion.VERSION2, f"default/{enrolment['device']}")
    client.tls_set(str(identity / "ca.crt"), str(identity / "device.pem"), cert_reqs=ssl.CERT_REQUIRED)
    client.tls_insecure_set(True)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(enrolment["broker_host"], enrolment["broker_port"])
    client.loop_start()
    try:
        assert connected.wait(20.0)
        told = client.publish(topic, payload, qos=1, retain=not end)
        told.wait_for_publish(20.0)
        assert told.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


def test_an_older_release_needs_to_be_meant(street: Street, make_bundle: MakeBundle) -> None:
    assert start(street, bundle_id(make_bundle("2.0", 2))) == "complete"  # and is sound, after all that was refused
    before = state(street)
    assert before["served"] == ["2.0"]
    said = fleet_refuses(street, *rollout_words(bundle_id(make_bundle("1.0", 1))))
    assert "release 1 is older than release 2" in said and "downgrade" in said
    assert state(street) == before


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "skerry-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with pytest.raises(OSError, match="No space"), (folder / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.root
def test_a_device_whose_disk_is_full_says_so_serves_on_and_catches_up(
    street: Street, small: Path, make_bundle: MakeBundle
) -> None:
    token = street.fleet("claim", "create", "--group", parts.GROUP)["token"]
    (small / "config.toml").write_text(parts.AGENT + "reserve_free_bytes = 0\nretry_failed_s = 2.0\n")
    words = ["agent", "enroll", "--fleet", street.fleet_url, "--claim", token, "--device", "small"]
    run("small", skerry(*words, "--root", str(small)), street.children.logs)
    street.children.start("small", skerry("agent", "run", "--root", str(small)))

    def versions() -> list[str]:
        with LocalClient(small / "run" / "api.sock") as client:
            answer = client.infer(parts.MODEL, {INPUT: np.zeros(64, np.float32).tobytes()})
            assert answer.prediction_id
            return [str(each) for each in client.get(f"/v2/models/{parts.MODEL}")["versions"]]

    def serves(version: str) -> bool | None:
        return any(each["version"] == version for each in street.ask("/devices/small")["models"]) or None

    try:
        wait_for("first model", lambda: serves("2.0"), street.children, 60.0)
        fill(small)
        street.fleet(*rollout_words(upload(street, make_bundle("3.0", 3))), "--canary", "2", "--failure-budget", "1")

        def told() -> bool | None:
            events = street.ask("/devices/small/events")["items"]
            degraded = street.ask("/devices/small")["heartbeat"]["degraded"]
            return any("full" in each for each in degraded) or events[0]["reason"] == "no-space" or None

        wait_for("word of the full disk", told, street.children, 60.0)
        assert versions() == ["2.0"]
        (small / "fill").unlink()
        wait_for("the update", lambda: serves("3.0"), street.children, 90.0)
        assert versions() == ["3.0"]
    finally:
        os.kill(street.children.pid("small"), signal.SIGTERM)
        street.children.forget("small")


@pytest.mark.root
def test_a_fleet_whose_disk_is_full_refuses_and_goes_on_when_there_is_space(
    small: Path, tmp_path: Path, make_bundle: MakeBundle
) -> None:
    street = Street(small, Children(tmp_path / "logs"))
    try:
        parts.start_fleet(street)
        street.fleet("model", "register", parts.MODEL)
        fill(small)
        said = fleet_refuses(street, "bundle", "upload", str(make_bundle("1.0", 1)))
        assert "cannot keep" in said and "free disk space" in said
        key = {"authorization": f"Bearer {street.key}"}
        for number in range(30):  # until SQLite's log has no room left either
            url = f"{street.fleet_url}/api/v1/groups"
            answer = httpx.post(url, json={"name": f"g{number}"}, headers=key, trust_env=False)
            if answer.status_code != 201:
                break
        assert answer.status_code == 503 and set(answer.json()["error"]) == {"code", "message", "hint"}
        door = httpx.Client(base_url=street.fleet_url, trust_env=False)
        wait_for("word of it", lambda: door.get("/readyz").status_code == 503 or None, street.children, 30.0)
        (small / "fill").unlink()
        wait_for("a well disk", lambda: door.get("/readyz").status_code == 200 or None, street.children, 30.0)
        door.close()
        made = {each["name"] for each in street.ask("/groups")["items"]}
        assert made == {parts.GROUP, *(f"g{each}" for each in range(number))}
        upload(street, make_bundle("1.0", 1))
        assert street.fleet("audit", "verify")["broken_at"] is None
        assert len(street.ask(f"/models/{parts.MODEL}/bundles")["items"]) == 1
    finally:
        street.children.stop()
