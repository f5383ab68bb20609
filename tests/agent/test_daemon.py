"""A real daemon, a real broker with mutual TLS, the fleet's own trust office: a device's life from enrolment."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.agent.fleet_site import Site
from tests.agent.serving_parts import bundle, compiled

from skerry_agent import cli
from skerry_agent.client import LocalClient
from skerry_agent.status import ask_status
from skerry_contracts import codec, topics
from skerry_contracts.assignment import AssignedModel, Assignment, Envelope, SamplingPolicy, target_path
from skerry_contracts.bundle import Baseline, Manifest
from skerry_contracts.device import Ack, Heartbeat, Presence, Progress, Received
from skerry_contracts.sample import Sample
from skerry_contracts.sketch import Sketch
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.mqtt.client import tls_context
from skerry_fleet.trust.director import verify_receipt

DEADLINE_S = 60.0
HAS_MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is not None
SAMPLING = SamplingPolicy(random_share=1.0, sketch_seconds=1)


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never came true: {what}"
        time.sleep(0.02)


class Fleet:
    """Hears everything, acknowledges what is spooled, and assigns."""

    def __init__(self, site: Site, broker: BrokerProcess) -> None:
        self.site = site
        self.heard: list[tuple[str, bytes]] = []
        self.acknowledges = True
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="fleet")
        credentials = broker.fleet()
        self.client.tls_set_context(
            tls_context(str(credentials.ca), str(credentials.certificate), str(credentials.key))
        )
        self.client.on_message = self._heard
        self.client.on_connect = lambda client, *_: client.subscribe("skerry/1/+/+/up/#", 1)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _heard(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        channel = topics.parse(message.topic).channel
        told = (channel.name, bytes(message.payload))
        if not channel.spooled or told not in self.heard:  # what is not acknowledged in time is sent again
            self.heard.append(told)
        if channel.spooled and self.acknowledges:
            plain = json.loads(message.payload)
            ack = Ack((Received(plain["boot_id"], (plain["seq"],)),))
            self.client.publish(topics.topic("default", "d1", "ack"), codec.encode(ack), 1)

    def of(self, channel: str, kind: type[Any]) -> list[Any]:
        return [codec.decode(kind, payload) for name, payload in list(self.heard) if name == channel]

    def phases(self) -> list[tuple[str, str]]:
        return [(each.phase.value, each.reason.value) for each in self.of("progress", Progress)]

    def assign(self, manifest: Manifest, sequence: int, **more: Any) -> None:
        data = codec.encode(manifest)
        identity = codec.digest(data)
        path = target_path(manifest.model, identity)
        model = AssignedModel(
            manifest.model,
            manifest.version,
            manifest.release,
            identity,
            path,
            len(data),
            "r1",
            sampling=SAMPLING,
            **more,
        )
        now_s = int(time.time())
        assignment = Assignment("default", "d1", sequence, now_s, now_s + 3600, (model,))
        signed = self.site.office.director.sign_assignment(assignment)
        self.client.publish(topics.topic("default", "d1", "assignment"), signed, 1, retain=True)


@dataclasses.dataclass
class Device:
    root: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "SKERRY_AGENT_OBSERVE_S": "1", "SKERRY_AGENT_LINK_RETRY_MAX_S": "1"}
        environment["SKERRY_AGENT_REDELIVER_S"] = "2"
        command = [sys.executable, "-m", "skerry", "agent", "run", "--root", str(self.root), "--heartbeat", "0.5"]
        self.process = subprocess.Popen(command, env=environment)
        eventually(lambda: (self.root / "run/api.sock").exists(), "the daemon listens")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        if number == signal.SIGKILL:
            (self.root / "run/api.sock").unlink(missing_ok=True)
        return code

    def status(self) -> dict[str, Any]:
        return ask_status(self.root / "run/api.sock")

    def infer(self, *values: float) -> list[float]:
        with LocalClient(self.root / "run/api.sock") as client:
            return [float(value) for value in client.infer("toy", {"x": list(values)}).outputs["y"]]

    def serves(self) -> bool:
        try:
            return bool(self.infer(0.0, 1.0, 2.0, 3.0))
        except Exception:  # noqa: BLE001  # whatever is wrong yet, it is asked again
            return False


@pytest.fixture(
    params=[
        "embedded",
        pytest.param(
            "mosquitto",
            marks=[pytest.mark.mosquitto, pytest.mark.skipif(not HAS_MOSQUITTO, reason="mosquitto is not installed")],
        ),
    ]
)
def broker(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Iterator[BrokerProcess]:
    settings = BrokerSettings(tmp_path / "broker", port=0, kind=request.param)
    found = BrokerProcess(settings, site.office.authority)
    found.start()
    site.broker_port = found.port
    yield found
    found.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path / "fleet", time.time())
    yield found
    found.close()


@pytest.fixture
def fleet(site: Site, broker: BrokerProcess) -> Iterator[Fleet]:
    found = Fleet(site, broker)
    yield found
    found.close()


@pytest.fixture
def device(site: Site, fleet: Fleet, tmp_path: Path) -> Iterator[Device]:
    root = tmp_path / "device"
    assert (
        cli.main(["enroll", "--root", str(root), "--fleet", site.url, "--claim", str(site.token), "--device", "d1"])
        == 0
    )
    found = Device(root)
    found.start()
    yield found
    found.stop(signal.SIGKILL)


def published(site: Site, folder: Path, release: int, *, factor: float = 2, golden: float = 2) -> Manifest:
    """Return a manifest the repository lists: a library that multiplies by `factor`, golden vectors for `golden`."""
    folder.mkdir(exist_ok=True)
    parts = bundle(folder, compiled(folder, FACTOR=factor), version=f"v{release}", factor=golden)
    baseline = (Baseline("confidence", (0.5, 0.9), (1, 1, 1)), Baseline("input:x:1", (0.5, 1.5), (1, 1, 1)))
    manifest = dataclasses.replace(parts.manifest, release=release, baseline=baseline)
    blobs = {digest: (folder / digest).read_bytes() for digest in manifest.blobs()}
    site.publish("toy", codec.encode(manifest), blobs)
    return manifest


def a_program_has_its_way(device: Device, fleet: Fleet) -> None:
    """Capture, unload and load through the local API; the fleet hears of the capture, and loses nothing."""
    with LocalClient(device.root / "run/api.sock") as client, client.share("toy") as frame:
        frame.write("x", [0.0, 5.0, 5.0, 5.0])
        answer = frame.infer(sample=True)
        assert client.capture("toy", "mine", prediction=answer.prediction_id)["state"] in ("buffered", "sent")
        eventually(lambda: client.captured("mine")["state"] == "acknowledged", "the capture is acknowledged")
        kept = next(each for each in fleet.of("sample", Sample) if each.capture == "mine")
        assert kept.prediction == answer.prediction_id and kept.inputs[0].data == struct.pack("<4f", 0, 5, 5, 5)
        client.unload("toy")
        assert [each["state"] for each in client.repository()] == ["UNAVAILABLE"]
        client.load("toy")
        frame.infer()
        assert frame.outputs["y"].tobytes() == struct.pack("<4f", 0, 10, 10, 10)


def test_a_devices_life(site: Site, fleet: Fleet, device: Device, broker: BrokerProcess, tmp_path: Path) -> None:
    eventually(lambda: any(each.online for each in fleet.of("presence", Presence)), "presence")
    eventually(lambda: any(each.hardware for each in fleet.of("heartbeat", Heartbeat)), "a heartbeat with hardware")

    first = published(site, tmp_path / "v1", 1)
    fleet.assign(first, 1)
    eventually(lambda: ("committed", "ok") in fleet.phases(), "the first bundle is committed")
    words = ["offered", "downloading", "verified", "trial", "committed"]
    assert [phase for phase, _ in fleet.phases()] == words
    eventually(lambda: fleet.of("receipt", Envelope), "a receipt")
    certificate = (device.root / "identity/device.pem").read_text()
    receipt = verify_receipt(fleet.of("receipt", Envelope)[0], certificate)
    assert (receipt.model, receipt.golden_passed, receipt.variant) == ("toy", 2, "native-fp32")

    assert device.infer(0.0, 1.0, 2.0, 3.0) == [0.0, 2.0, 4.0, 6.0]
    eventually(lambda: fleet.of("sample", Sample), "a sample")
    sample = fleet.of("sample", Sample)[0]
    assert sample.inputs[0].data == struct.pack("<4f", 0.0, 1.0, 2.0, 3.0) and sample.prediction.startswith("d1/")
    eventually(lambda: any(each.predictions for each in fleet.of("sketch", Sketch)), "a sketch")
    eventually(lambda: device.status()["spool"]["waiting"] == 0, "everything acknowledged")
    a_program_has_its_way(device, fleet)

    # A bundle whose answers are wrong never serves; one that crashes right after is taken back.
    fleet.heard.clear()
    fleet.assign(published(site, tmp_path / "v2", 2, golden=3), 2)
    eventually(lambda: ("failed", "golden") in fleet.phases(), "wrong answers are refused")
    assert device.infer(0.0, 1.0, 2.0, 3.0) == [0.0, 2.0, 4.0, 6.0]

    third = published(site, tmp_path / "v3", 3, factor=3, golden=3)
    fleet.assign(third, 3)
    eventually(lambda: fleet.phases()[-1:] == [("committed", "ok")], "the third bundle is committed")
    assert device.infer(0.0, 1.0, 2.0, 3.0) == [0.0, 3.0, 6.0, 9.0]

    # Without a broker, and after kill -9, it serves; what it kept meanwhile arrives later.
    broker.stop()
    device.stop(signal.SIGKILL)
    device.start()
    eventually(device.serves, "serving without a network")
    assert device.infer(0.0, 1.0, 2.0, 3.0) == [0.0, 3.0, 6.0, 9.0]
    assert device.status()["online"] is False
    waiting = device.status()["spool"]["waiting"]
    assert waiting >= 0
    fleet.heard.clear()
    broker.start()
    eventually(lambda: device.status()["online"], "back online")
    eventually(lambda: device.status()["spool"]["waiting"] == 0, "the spool drains")
    assert len(fleet.of("sample", Sample)) >= 2
    assert device.stop() == 0
    eventually(lambda: fleet.of("presence", Presence)[-1].online is False, "it says goodbye")


def test_a_crash_while_observed_takes_it_back(site: Site, fleet: Fleet, device: Device, tmp_path: Path) -> None:
    fleet.assign(published(site, tmp_path / "v1", 1), 1)
    eventually(lambda: ("committed", "ok") in fleet.phases(), "the first bundle is committed")
    fleet.assign(published(site, tmp_path / "v2", 2, factor=3, golden=3), 2)
    eventually(lambda: device.status()["models"]["toy"]["stage"] == "observing", "the second bundle is observed")
    with LocalClient(device.root / "run/api.sock") as client, pytest.raises(Exception):  # noqa: B017  # 500 or a cut
        client.infer("toy", {"x": [1.0, 0.0, 0.0, 0.0]})
    eventually(lambda: ("downloading", "crashed") in fleet.phases(), "taken back, not given up")
    eventually(lambda: device.serves() and device.infer(0.0, 1.0, 0.0, 0.0)[1] == 2.0, "the first serves again")


def test_a_taken_port_is_said_and_nothing_else_happens(device: Device, capfd: pytest.CaptureFixture[str]) -> None:
    device.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "skerry", "agent", "run", "--root", str(device.root)]
        command += ["--api-port", str(taken.getsockname()[1])]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    (said,) = [line for line in ran.stderr.splitlines() if line.startswith("skerry: error: ")]
    assert "cannot listen" in said and "--api-port" in said


def test_one_agent_a_root(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "skerry", "agent", "run", "--root", str(device.root)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1 and "an agent already runs" in second.stderr
    assert cli.main(["status", "--root", str(device.root)]) == 0
    assert "default/d1" in capsys.readouterr().out
