"""The parts of the demonstration, started as their users would start them: by the command line."""

from __future__ import annotations

import dataclasses
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from skerry_agent.client import LocalClient
from skerry_simulators.demo.data import CLASSES, INPUT, Deal
from skerry_simulators.demo.processes import Children, DemoError, free_port, run, skerry, wait_for

MODEL = "digits"
GROUP = "gates"
PATIENCE_S = 60.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# What the people who run this fleet decided, once. `oracle` is what the simulated labellers know of the world.
PROJECT = f"""\
model = "{MODEL}"
dataset = "../digits.npz"
input_name = "{INPUT}"
approval = "auto"
cooldown_s = 5.0

[train]
trainer = "mlp"
clip = [0.0, 1.0]
image_shape = [8, 8]
shift_pixels = 1

[labels]
workforce = "simulated"
oracle = "../oracle.jsonl"

[rollout]
canary = 2
waves = [50, 100]
soak_s = 1.0
failure_budget = 2
exposure_budget = 10
sampling = {{ random_share = 0.8, uncertain_margin = 0.3, bytes_per_hour = 5000000, sketch_seconds = 5 }}

[[targets]]
profile = "host"
budget_s = 3.0
group = "{GROUP}"

[[targets]]
profile = "arm64"
budget_s = 3.0
deploy = false
"""

# A device reports often and decides soon, because the audience is waiting.
AGENT = """\
heartbeat_s = 2.0
observe_s = 2.0
observe_predictions = 5
flush_s = 0.5
"""


@dataclasses.dataclass(slots=True)
class Street:
    """Everything that runs, and how to reach it."""

    root: Path
    children: Children
    fleet_url: str = ""
    cloud_url: str = ""
    broker: str = ""
    sockets: dict[str, Path] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The administrator's key of the fleet."""
        return (self.root / "fleet" / "admin.key").read_text().strip()

    @property
    def oracle(self) -> Path:
        """Where the world writes what only the labellers may read."""
        return self.root / "cloud" / "oracle.jsonl"

    def fleet(self, *words: str) -> Any:
        """Return what `skerry fleet …` says, as data."""
        return json.loads(
            run(
                f"fleet-{words[0]}-{words[1]}",
                skerry("fleet", *words, "--json"),
                self.children.logs,
                {"SKERRY_FLEET_URL": self.fleet_url, "SKERRY_FLEET_KEY": self.key},
            )
        )

    def cloud(self, *words: str) -> Any:
        """Return what `skerry cloud …` says, as data."""
        command = skerry("cloud", *words, "--root", str(self.root / "cloud"), "--json")
        return json.loads(run(f"cloud-{words[0]}", command, self.children.logs))

    def ask(self, path: str) -> Any:
        """Return what the fleet's API says."""
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.get(f"{self.fleet_url}/api/v1{path}", headers=headers, trust_env=False, timeout=30.0)
        answer.raise_for_status()
        return answer.json()


def write_project(root: Path, dealt: Deal) -> None:
    """Write the cloud's project: its settings, and the first training data (without the held-out classes)."""
    (root / "cloud" / "projects").mkdir(parents=True)
    (root / "cloud" / "projects" / f"{MODEL}.toml").write_text(PROJECT)
    known = [label for label in range(CLASSES) if label not in dealt.held_out]
    place = {label: index for index, label in enumerate(known)}
    y = np.array([place[int(label)] for label in dealt.train.labels])
    labels = np.array([str(label) for label in known])
    np.savez(root / "cloud" / "digits.npz", x=dealt.train.images, y=y, labels=labels)
    (root / "cloud" / "oracle.jsonl").touch()


def start_fleet(street: Street) -> None:
    """Start the fleet manager (it starts its broker), and register the group."""
    port = free_port()
    street.fleet_url = f"http://127.0.0.1:{port}"
    street.children.start("fleet", skerry("fleet", "serve", "--root", str(street.root / "fleet"), "--port", str(port)))

    wait_for_fleet(street)
    street.fleet("group", "create", GROUP)
    found = re.search(r"^broker +(.*)$", (street.children.logs / "fleet.log").read_text(), re.MULTILINE)
    street.broker = found[1] if found else ""


def wait_for_fleet(street: Street) -> None:
    """Wait until the fleet answers and its broker is connected."""

    def ready() -> bool | None:
        try:
            return httpx.get(f"{street.fleet_url}/readyz", trust_env=False, timeout=2.0).status_code == 200 or None
        except httpx.TransportError:
            return None

    wait_for("answer from the fleet", ready, street.children, PATIENCE_S)


def start_cloud(street: Street) -> None:
    """Start the cloud side with the fleet's key."""
    port = free_port()
    street.cloud_url = f"http://127.0.0.1:{port}"
    words = ["cloud", "serve", "--root", str(street.root / "cloud"), "--fleet", street.fleet_url, "--port", str(port)]
    words += ["--key", str(street.root / "fleet" / "admin.key"), "--interval", "0.5"]
    street.children.start("cloud", skerry(*words), ONE_THREAD)


def start_devices(street: Street, count: int) -> None:
    """Enrol devices with one claim token, and start their agents."""
    token = street.fleet("claim", "create", "--uses", str(count), "--group", GROUP)["token"]

    def enrol(number: int) -> tuple[str, Path]:
        device = f"gate-{number:02d}"
        root = street.root / "devices" / device
        root.mkdir(parents=True)
        (root / "config.toml").write_text(AGENT)
        words = ["agent", "enroll", "--fleet", street.fleet_url, "--claim", token, "--device", device]
        run(f"enroll-{device}", skerry(*words, "--root", str(root)), street.children.logs)
        return device, root

    with ThreadPoolExecutor(max_workers=3) as pool:
        enrolled = list(pool.map(enrol, range(1, count + 1)))
    for device, root in enrolled:
        street.children.start(device, skerry("agent", "run", "--root", str(root)))
        street.sockets[device] = root / "run" / "api.sock"

    def online() -> bool | None:
        return street.ask("/overview")["devices"]["online"] == count or None

    wait_for("sign of all devices", online, street.children, PATIENCE_S)


def pipelines(street: Street) -> list[dict[str, Any]]:
    """Return the cloud's pipelines, newest first."""
    found: list[dict[str, Any]] = street.cloud("pipeline", "list")["pipelines"]
    return found


def pipeline_step(street: Street, name: str) -> dict[str, Any]:
    """Return one pipeline with its steps.

    Raises:
        DemoError: it failed, or was refused.
    """
    found: dict[str, Any] = street.cloud("pipeline", "show", name)
    if found["state"] in ("failed", "refused"):
        detail = json.dumps(found["detail"])
        raise DemoError(
            f"pipeline {name}: {found['state']}: {detail}", hint=f"see {street.children.logs / 'cloud.log'}"
        )
    return found


def serving(street: Street, bundle: str) -> bool:
    """Return whether every device serves a model, and the fleet counts all of them on this bundle."""
    for path in street.sockets.values():
        with LocalClient(path) as client:
            if not client.ready(MODEL):
                return False
    devices = street.ask(f"/devices?limit=1000&group={GROUP}")["items"]
    return all(any(each["bundle"] == bundle for each in device["models"]) for device in devices)


def newest_prediction(street: Street, bundle: str) -> str | None:
    """Return the id of a sampled prediction that a bundle made, or None where the fleet has none yet."""
    cursor = ""
    while True:
        page = street.ask(f"/samples?limit=1000{cursor}")
        for item in page["items"]:
            if item["record"]["bundle"] == bundle:
                return str(item["record"]["prediction"])
        if not page["items"] or page["next"] is None:
            return None
        cursor = f"&after={page['next']}"
