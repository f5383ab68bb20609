"""A real agent whose wall clock is changed while it runs (benchmarks/agent.py, part `clock`): does any inference fail?

The daemon and the children that check signatures and dates see the clock that a file says (libfaketime): on a device it
is the machine's that is wrong. A worker starts with no environment, and its sandbox lets it read no such file, so it
keeps the true clock; it asks for none but monotonic time. Monotonic time is everybody's own, as on a device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from tests.agent.fleet_site import Site
from tests.agent.serving_parts import bundle, compiled

from skerry_agent import cli
from skerry_agent.client import LocalClient
from skerry_agent.errors import AgentError
from skerry_agent.status import ask_status
from skerry_contracts import codec, topics
from skerry_contracts.assignment import AssignedModel, Assignment, target_path
from skerry_contracts.device import Ack, Heartbeat, Received
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.mqtt.client import tls_context

DAY_S = 86400
YEAR_2100_S = 4_102_444_800
MOMENTS = ("boot", "offer", "downloading", "trial", "observing")
HEARTBEAT_S = 2.0
PATIENCE_S = 60.0
CONNECTING_S = 1.0  # of the time to the next heartbeat: what a new session takes by itself
ASK_EVERY_S = 0.01
X = [0.0, 1.0, 2.0, 3.0]


def offsets_s() -> dict[str, int]:
    """Return how far off the clocks are, in seconds."""
    now_s = int(time.time())
    return {"1970": DAY_S - now_s, "2100": YEAR_2100_S - now_s, "an hour back": -3600, "sixty days on": 60 * DAY_S}


def environment(file: Path) -> dict[str, str]:
    """Return what makes a process, and those it starts, see the clock that a file says.

    Raises:
        RuntimeError: no libfaketime here.
    """
    if shutil.which("faketime") is None:
        raise RuntimeError("a running process's clock is set with faketime, which is not installed")
    said = subprocess.run(
        ["faketime", "-m", "-f", "+0s", "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    words = {"LD_PRELOAD": said.stdout.strip(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    return words | {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@dataclasses.dataclass(slots=True)
class Tally:
    """What came of it. `polls`: the most heartbeats that went by between the right clock and the update going on."""

    inferences: int = 0
    interruptions: int = 0
    updates: int = 0
    stuck: int = 0
    polls: int = 0
    misdated: int = 0  # heartbeats with a wrong date: the clock really was wrong


class Program(threading.Thread):
    """A program on the device that asks steadily; whatever is no right answer interrupts it."""

    def __init__(self, socket: Path, tally: Tally) -> None:
        super().__init__(name="program", daemon=True)
        self._socket, self._tally = socket, tally
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with LocalClient(self._socket) as client:
                    while not self._over.wait(ASK_EVERY_S):
                        self._tally.inferences += 1
                        answer = [float(value) for value in client.infer("toy", {"x": X}).outputs["y"]]
                        if answer != [answer[1] * value for value in X] or not answer[1]:
                            self._interrupted(f"{answer}")
            except (AgentError, OSError, ValueError) as error:
                self._interrupted(f"{type(error).__name__}: {error}")
                self._over.wait(ASK_EVERY_S)

    def end(self) -> None:
        """Stop asking."""
        self._over.set()
        self.join(PATIENCE_S)

    def _interrupted(self, words: str) -> None:
        self._tally.interruptions += 1
        print(f"clock: interrupted: {words}", file=sys.stderr)


class Fleet:
    """The fleet's end of the broker: hears heartbeats, acknowledges, assigns."""

    def __init__(self, site: Site, broker: BrokerProcess, tally: Tally) -> None:
        self.site, self._tally = site, tally
        self.right = 0  # heartbeats with the right date
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="fleet")
        keys = broker.fleet()
        self.client.tls_set_context(tls_context(str(keys.ca), str(keys.certificate), str(keys.key)))
        self.client.on_message = self._heard
        self.client.on_connect = lambda client, *_: client.subscribe("skerry/1/+/+/up/#", 1)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def close(self) -> None:
        """Hang up."""
        self.client.disconnect()
        self.client.loop_stop()

    def _heard(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        channel = topics.parse(message.topic).channel
        if channel.name == "heartbeat":
            right = abs(codec.decode(Heartbeat, bytes(message.payload)).time_s - time.time()) < DAY_S / 48
            self.right += right
            self._tally.misdated += not right
        elif channel.spooled:
            plain = json.loads(message.payload)
            ack = codec.encode(Ack((Received(plain["boot_id"], (plain["seq"],)),)))
            self.client.publish(topics.topic("default", "d1", "ack"), ack, 1)

    def release(self, folder: Path, number: int) -> str:
        """Publish a bundle and assign it; return its version."""
        folder.mkdir()
        parts = bundle(folder, compiled(folder, FACTOR=1 + number), version=f"v{number}", factor=1 + number)
        manifest = dataclasses.replace(parts.manifest, release=number)
        data = codec.encode(manifest)
        self.site.publish("toy", data, {digest: (folder / digest).read_bytes() for digest in manifest.blobs()})
        name = codec.digest(data)
        model = AssignedModel("toy", f"v{number}", number, name, target_path("toy", name), len(data), "r1")
        now_s = int(time.time())
        assignment = Assignment("default", "d1", number, now_s, now_s + 3600, (model,))
        signed = self.site.office.director.sign_assignment(assignment)
        self.client.publish(topics.topic("default", "d1", "assignment"), signed, 1, retain=True)
        return f"v{number}"


class Device:
    """The enrolled agent: a process of its own, and the file that is its clock."""

    def __init__(self, root: Path, url: str, claim: str, heartbeat_s: float, observe_s: float) -> None:
        self.root, self.file, self.socket = root, root.with_suffix(".clock"), root / "run" / "api.sock"
        self.turn(0)
        if cli.main(["enroll", "--root", str(root), "--fleet", url, "--claim", claim, "--device", "d1"]) != 0:
            raise RuntimeError("the device cannot be enrolled")
        words = {"HEARTBEAT_S": heartbeat_s, "OBSERVE_S": observe_s, "OBSERVE_PREDICTIONS": 10**9}
        told = {f"SKERRY_AGENT_{name}": str(value) for name, value in words.items()}
        self._environment = {**os.environ, **told, **environment(self.file)}
        self._process: subprocess.Popen[bytes] | None = None

    def turn(self, offset_s: int) -> None:
        """Set the clock: this far from the true one."""
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{offset_s:+d}\n")
        beside.replace(self.file)

    def start(self) -> None:
        """Start the daemon."""
        command = [sys.executable, "-m", "skerry", "agent", "run", "--root", str(self.root), "--log-level", "error"]
        self._process = subprocess.Popen(command, env=self._environment)

    def stop(self) -> None:
        """End the daemon."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def model(self) -> dict[str, Any]:
        """Return what the agent says of its model; empty where it says nothing."""
        with contextlib.suppress(AgentError, OSError):
            return dict(ask_status(self.socket)["models"].get("toy", {}))
        return {}

    def online(self) -> bool:
        """Return whether it has a session with the broker."""
        with contextlib.suppress(AgentError, OSError):
            return bool(ask_status(self.socket)["online"])
        return False

    def answers(self) -> bool:
        """Return whether the model serves."""
        with contextlib.suppress(AgentError, OSError), LocalClient(self.socket) as client:
            return bool(client.infer("toy", {"x": X}).outputs)
        return False


def within(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    """Return whether a condition came true."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


class Course:
    """One agent through one wrong clock after the other, each at one moment of an update."""

    def __init__(self, root: Path, site: Site, fleet: Fleet, device: Device, heartbeat_s: float, tally: Tally) -> None:
        self._root, self._site, self._fleet, self._device = root, site, fleet, device
        self._heartbeat_s, self._tally, self._number = heartbeat_s, tally, 0

    def begin(self) -> None:
        """Start, and take up a first bundle.

        Raises:
            RuntimeError: it does not come to serve.
        """
        self._device.start()
        version = self._release()
        if not within(lambda: self._committed(version)):
            raise RuntimeError("a first bundle never came to serve")

    def wrong(self, moment: str, offset_s: int) -> None:
        """Let the clock be wrong for two heartbeats from a moment on, then right, and wait until the update is over."""
        device, boots = self._device, moment == "boot"
        if boots:
            device.stop()
            device.turn(offset_s)
            device.start()
        if not within(device.answers):
            self._tally.interruptions += 1
            print("clock: no model serves after a boot", file=sys.stderr)
        program = Program(device.socket, self._tally)
        program.start()
        if moment == "offer":
            device.turn(offset_s)
        version = self._release()
        if moment not in ("boot", "offer"):
            within(lambda: device.model().get("stage") == moment or self._committed(version))
            device.turn(offset_s)
        time.sleep(2 * self._heartbeat_s)
        if not self._committed(version):
            self._tally.polls = max(self._tally.polls, self._right_again(version))
        device.turn(0)
        self._tally.updates += 1
        if not within(lambda: self._committed(version)):
            self._tally.stuck += 1
            print(f"clock: {moment}: never taken up: {device.model()}", file=sys.stderr)
        time.sleep(self._heartbeat_s)  # one more, so that the next change is seen as one
        program.end()

    def _right_again(self, version: str) -> int:
        """Set the clock right; return how many heartbeats go by until the update moves."""
        device, seen, right, begun_s = self._device, len(self._site.seen), self._fleet.right, time.monotonic()
        was_online = device.online()
        device.turn(0)

        def moves() -> bool:
            model = device.model()
            under_way = model.get("stage", "idle") != "idle" and "trouble" not in model
            return len(self._site.seen) > seen or under_way or self._committed(version)

        if was_online:
            within(moves)
            return self._fleet.right - right
        within(device.online)  # its heartbeats reach nobody before
        return max(0, math.ceil((time.monotonic() - begun_s - CONNECTING_S) / self._heartbeat_s))

    def _release(self) -> str:
        self._number += 1
        return self._fleet.release(self._root / f"v{self._number}", self._number)

    def _committed(self, version: str) -> bool:
        model = self._device.model()
        return model.get("stage") == "idle" and model.get("active", {}).get("version") == version


@contextlib.contextmanager
def course(root: Path, heartbeat_s: float) -> Iterator[tuple[Course, Tally]]:
    """Give an agent of a fleet of its own, which serves a model."""
    environment(root)  # before anything is started
    tally, site = Tally(), Site(root / "fleet", time.time())
    with contextlib.ExitStack() as ending:
        ending.callback(site.close)
        broker = BrokerProcess(BrokerSettings(root / "broker", port=0, kind="embedded"), site.office.authority)
        broker.start()
        ending.callback(broker.stop)
        site.broker_port = broker.port
        fleet = Fleet(site, broker, tally)
        ending.callback(fleet.close)
        device = Device(root / "device", site.url, str(site.token), heartbeat_s, 1.5 * heartbeat_s)
        ending.callback(device.stop)
        found = Course(root, site, fleet, device, heartbeat_s, tally)
        found.begin()
        yield found, tally


def measure(root: Path, heartbeat_s: float = HEARTBEAT_S) -> Tally:
    """Return what came of each wrong clock at each moment.

    Raises:
        RuntimeError: it cannot be measured here.
    """
    with course(root, heartbeat_s) as (found, tally):
        for moment in MOMENTS:
            for name, offset_s in offsets_s().items():
                print(f"clock: {name}, {moment}", file=sys.stderr, flush=True)
                found.wrong(moment, offset_s)
    if not tally.misdated:
        raise RuntimeError("no heartbeat had a wrong date: the clock did not move")
    return tally
