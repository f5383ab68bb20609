"""A device whose clock a file says, a program that asks its model, and the fleet's end (benchmarks/agent_clock.py)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
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
from skerry_fleet.broker.launch import BrokerProcess
from skerry_fleet.mqtt.client import tls_context

DAY_S = 86400
PATIENCE_S = 60.0
ASK_EVERY_S = 0.01
X = [0.0, 1.0, 2.0, 3.0]


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
