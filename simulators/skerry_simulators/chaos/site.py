"""The site of a run: a fleet manager with its broker, one model, and devices enrolled, each behind the network."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from skerry_agent import identity
from skerry_agent.disk import RealDisk, replace_file
from skerry_contracts import codec
from skerry_simulators.chaos.device import MODEL
from skerry_simulators.chaos.mortal import mortal
from skerry_simulators.chaos.plan import Settings
from skerry_simulators.chaos.weather import Network
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.processes import Children, free_port, run, skerry, wait_for
from skerry_simulators.demo.street import Street

GROUP = parts.GROUP
PROGRAM = "asked"
MANAGER, PULLER = "fleet", "puller"
SAMPLING = {"random_share": 1.0, "uncertain_margin": 0.0, "bytes_per_hour": 10**13, "sketch_seconds": 30}
AGENT = """\
heartbeat_s = 5.0
keepalive_s = 5
observe_s = 0.5
observe_predictions = 1
link_retry_max_s = 2.0
redeliver_s = 10.0
spool_in_flight = 1024
flush_s = 0.2
flush_rows = 256
log_level = "warning"
"""
SMALL_QUOTA_BYTES = 1024 * 1024
INPUTS, OUTPUTS = 8, 4
END_S = 60.0


@dataclasses.dataclass(slots=True)
class Device:
    """One device: its folder, its process, and what it has told so far."""

    number: int
    name: str
    root: Path
    want: int
    seed: int
    net: int = 0  # samples kept, less those given up
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None

    @property
    def fed(self) -> bool:
        """Whether the feed is in its process; the other one is an unmodified agent."""
        return self.name != PROGRAM

    @property
    def history(self) -> Path:
        """Where its history is written."""
        return self.root.with_suffix(".history")


class Site:
    """Starts everything, and starts again what was killed."""

    def __init__(self, root: Path, network: Network, settings: Settings) -> None:
        self.network, self.settings = network, settings
        self.begun = False  # before, devices only take up the model
        self.street = Street(root, Children(root / "logs"))
        self.fleet_words = ["fleet", "serve", "--root", str(root / "fleet"), "--broker", settings.broker]
        self.fleet_words += ["--host", network.host, "--broker-host", network.host]
        self.cloud = root / "cloud"
        share, rest = divmod(settings.samples, settings.devices)
        self.devices = [
            Device(i, f"fed-{i}", root / f"fed-{i}", share + (i <= rest), settings.seed * 1000 + i)
            for i in range(1, settings.devices + 1)
        ]
        self.devices.append(Device(settings.devices + 1, PROGRAM, root / PROGRAM, 0, 0))

    def open(self, say: Callable[[str], None]) -> None:
        """Start the fleet, enrol the devices, and let all of them serve the model."""
        say("compiling a model")
        bundle = _bundle(self.street.root)
        say("starting the fleet")
        port = free_port()
        self.street.fleet_url = f"http://{self.network.host}:{port}"
        self.fleet_words += ["--port", str(port)]
        self.start_manager()
        parts.wait_for_fleet(self.street)
        self.street.fleet("group", "create", GROUP)
        self.street.fleet("model", "register", MODEL)
        say("enrolling devices")
        token = self.street.fleet("claim", "create", "--uses", str(len(self.devices)), "--group", GROUP)["token"]
        for device in self.devices:
            self._enrol(device, token)
            self.start_device(device)
        found = self.street.fleet("bundle", "upload", str(bundle))["id"]
        words = ["--model", MODEL, "--bundle", found, "--group", GROUP, "--sampling", json.dumps(SAMPLING)]
        count = str(len(self.devices))
        words += ["--canary", count, "--soak-s", "0.2", "--exposure-budget", count]
        say("rolling the model out")
        self.street.fleet("rollout", "start", *words)
        self.start_puller()
        wait_for("model everywhere", lambda: self._serving(found) or None, self.street.children, 120.0)

    def begin(self) -> None:
        """Let the devices make samples from now on."""
        self.begun = True
        for device in self.devices:
            if device.fed:
                self.end_device(device, signal.SIGTERM)
                self.start_device(device)

    def start_manager(self) -> int:
        """Start the fleet manager, which starts its broker."""
        return self.street.children.start(MANAGER, mortal(skerry(*self.fleet_words)))

    def start_puller(self) -> int:
        """Start what pulls the fleet's samples into the lake."""
        key = self.street.root / "fleet" / "admin.key"
        words = [sys.executable, "-m", "skerry_simulators.chaos.puller", str(self.cloud), self.street.fleet_url]
        return self.street.children.start(PULLER, mortal([*words, str(key)]))

    def revive(self) -> list[str]:
        """Start manager and puller again if they ended by themselves, as systemd would; return which had."""
        starts = {MANAGER: self.start_manager, PULLER: self.start_puller}
        ended = [name for name in starts if self.street.children.ended(name)]
        for name in ended:
            self.street.children.forget(name)
            starts[name]()
        return ended

    def start_device(self, device: Device) -> None:
        """Start a device; one with a feed makes what is still to be made."""
        words = skerry("agent", "run", "--root", str(device.root))
        if device.fed:
            left = max(0, device.want - device.net) if self.begun else 0
            module = "skerry_simulators.chaos.device"
            words = [sys.executable, "-m", module, str(device.root), str(left), str(device.seed + device.lives)]
        device.lives += 1
        with (self.street.children.logs / f"{device.name}.log").open("ab") as log:
            device.process = subprocess.Popen(
                mortal(self.network.command(device.number, words)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if device.fed else log,
                stderr=log,
                start_new_session=True,
            )
        if device.fed:
            device.reader = threading.Thread(target=_listen, args=(device, device.process), daemon=True)
            device.reader.start()

    def end_device(self, device: Device, number: int) -> None:
        """Send a device's process a signal and wait for its end."""
        if device.process is not None and device.process.poll() is None:
            os.kill(device.process.pid, number)
        if device.process is not None:
            try:
                device.process.wait(END_S)
            except subprocess.TimeoutExpired:
                device.process.kill()
                device.process.wait()
        if device.reader is not None:
            device.reader.join(30.0)

    def broker_pid(self) -> int | None:
        """Return the broker's process id, while it has one."""
        from skerry_simulators.demo.memory import children_of

        try:
            return next(iter(children_of(self.street.children.pid(MANAGER))), None)
        except KeyError:
            return None

    def close(self) -> None:
        """End every process."""
        for device in self.devices:
            if device.process is not None and device.process.poll() is None:
                device.process.kill()
                device.process.wait()
        self.street.children.stop()

    def _serving(self, bundle: str) -> bool:
        devices = self.street.ask(f"/devices?limit=1000&group={GROUP}")["items"]
        return len(devices) == len(self.devices) and all(
            any(each["bundle"] == bundle and each["state"] == "serving" for each in device["models"])
            for device in devices
        )

    def _enrol(self, device: Device, token: str) -> None:
        device.root.mkdir(parents=True, exist_ok=True)
        words = ["agent", "enroll", "--fleet", self.street.fleet_url, "--claim", token, "--device", device.name]
        command = self.network.command(device.number, skerry(*words, "--root", str(device.root)))
        run(f"enroll-{device.name}", command, self.street.children.logs)
        # Two have less room than they need in a long night: what the spool gives up must be what it says it gave up.
        small = f"spool_quota_bytes = {SMALL_QUOTA_BYTES}\n" if device.number % 4 == 2 and device.fed else ""
        (device.root / "config.toml").write_text(AGENT + small)
        disk = RealDisk(device.root)
        found = identity.load(disk)
        host, port = self.network.broker(device.number, found.enrolment.broker_host, found.enrolment.broker_port)
        moved = dataclasses.replace(found.enrolment, broker_host=host, broker_port=port)
        replace_file(disk, identity.ENROLMENT, codec.encode(dataclasses.replace(found, enrolment=moved)))


def _listen(device: Device, process: subprocess.Popen[bytes]) -> None:
    """Write what a device tells to its history, whole lines only, and count."""
    from skerry_simulators.chaos.history import count

    assert process.stdout is not None
    pending = 0
    with device.history.open("ab") as file:
        for line in process.stdout:
            if not line.endswith(b"\n"):
                break
            file.write(line)
            verb, *rest = line.decode().split()
            if verb == "try":
                pending = sum(count(word) * {"+": 1, "!": -1, "?": 0}.get(word[0], 0) for word in rest)
            elif verb == "ok":
                device.net += pending
            if verb != "try":
                file.flush()


def _bundle(root: Path) -> Path:
    """Return a small classifier, compiled for this machine."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(0)
    weights = numpy_helper.from_array(chance.normal(size=(INPUTS, OUTPUTS)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, size]) for n, size in (("x", INPUTS), ("y", OUTPUTS))
    ]
    graph = helper.make_graph(nodes, "chaos", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), root / "model.onnx")
    np.savez(root / "rows.npz", x=chance.normal(size=(50, INPUTS)).astype(np.float32))
    words = ["compile", str(root / "model.onnx"), "--target", "host", "--calibration", str(root / "rows.npz")]
    words += ["--model", MODEL, "--version", "1.0", "--release", "1", "--engines", "native"]
    run("compile", skerry(*words, "-o", str(root / "chaos.skerry")), root)
    return root / "chaos.skerry"
