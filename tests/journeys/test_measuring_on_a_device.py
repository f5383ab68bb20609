"""A compile whose candidates are measured on an enrolled device: real fleet, broker and agent, and what goes wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.journeys.conftest import MakeBundle

from skerry_agent.status import ask_status
from skerry_contracts import codec
from skerry_contracts.container import open_container
from skerry_contracts.evidence import Evidence, Verdict
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.data import Deal
from skerry_simulators.demo.processes import skerry, wait_for
from skerry_simulators.demo.street import Street

DEVICE = "gate-01"


@dataclasses.dataclass
class Lab:
    """A street with one board that takes part, a key for a compiler, and a model."""

    street: Street
    key: str
    folder: Path
    profile: str
    engines: str = "native,onnxruntime"
    compiles: list[subprocess.Popen[str]] = dataclasses.field(default_factory=list)

    def command(self, *more: str, target: str = "", budget: str = "20s") -> list[str]:
        words = ["compile", str(self.folder / "model.onnx"), "--target", target or self.profile, "--model", "digits"]
        words += ["--version", "9", "--release", "9", "--evaluation", str(self.folder / "rows.npz")]
        words += ["--budget", budget, "-o", str(self.folder / "out.skerry"), "--fleet", self.street.fleet_url]
        words += ["--engines", self.engines]
        return skerry(*words, "--json", *(more or ("--on-device",)))

    def start(self, *more: str, **options: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "SKERRY_FLEET_KEY": self.key}
        command = self.command(*more, **options)
        # Tests that run in the background inherit that Ctrl-C is ignored, and would hand that on.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            child = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        self.compiles.append(child)
        return child

    def end(self) -> None:
        """Leave no compile behind, however the test went."""
        for child in self.compiles:
            child.kill()
            child.communicate()

    def compile(self, *more: str, **options: Any) -> tuple[int, str, str]:
        child = self.start(*more, **options)
        out, err = child.communicate(timeout=180)
        return child.returncode, out, err

    def leases(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.street.ask("/leases")["items"]
        return found

    def until(self, status: str) -> dict[str, Any]:
        def newest() -> dict[str, Any] | None:
            found = self.leases()
            return found[0] if found and found[0]["status"] == status else None

        return wait_for(f"a lease {status}", newest, self.street.children, 60.0)


@pytest.fixture
def lab(street: Street, dealt: Deal, make_bundle: MakeBundle, tmp_path: Path) -> Iterator[Lab]:
    parts.start_devices(street, 1)
    live = make_bundle("1.0", 1)
    bundle = street.fleet("bundle", "upload", str(live))["id"]
    words = ["--model", parts.MODEL, "--bundle", bundle, "--group", parts.GROUP, "--soak-s", "0.5"]
    street.fleet("rollout", "start", *words, "--wait")
    street.fleet("group", "create", "measuring")
    street.fleet("group", "add", "measuring", DEVICE)
    key = street.fleet("key", "create", "compiler", "--role", "measurer")["key"]
    folder = tmp_path / "compile"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((live.parent / "model.onnx").read_bytes())
    np.savez(folder / "rows.npz", image=dealt.examination.images[:64])
    wait_for("rest", lambda: street.ask(f"/devices/{DEVICE}")["online"] or None, street.children, 30.0)
    profile = street.ask(f"/devices/{DEVICE}")["profile"]
    made = Lab(street, key, folder, profile)
    try:
        yield made
    finally:
        made.end()


def measure(lab: Lab) -> None:
    """Everything the target has, measured beside the original on the board."""
    code, out, err = lab.compile()
    assert code == 0, err
    found = json.loads(out)
    board = found["board"]
    assert (board["device"], board["profile"]) == (DEVICE, lab.profile) and found["executed_on"] == "device"
    assert board["cpu"] and board["agent_version"] and board["measured_s"] > 1.7e9 and board["engines"]
    with (lab.folder / "out.skerry").open("rb") as file:
        container = open_container(file)
        evidence = codec.decode(Evidence, container.evidence or b"")
    assert evidence.board is not None and evidence.board.reference == "ort-plain" and evidence.original is not None
    measured = [each for each in evidence.candidates if each.measurement is not None]
    assert len(measured) >= 3 and {each.engine for each in measured} >= {"native", "onnxruntime"}
    chosen = next(each for each in evidence.candidates if each.verdict is Verdict.CHOSEN)
    assert chosen.speed is not None and chosen.speed >= 1 and chosen.agreement is not None
    assert container.manifest.variants[0].id == chosen.id

    rows = lab.street.fleet("measurements", "list", "--device", DEVICE)
    assert {each["candidate"] for each in rows} >= {each.id for each in measured}
    one = next(each for each in rows if each["candidate"] == chosen.id)
    assert one["artifact_sha256"] == container.manifest.variants[0].blobs["library"].sha256
    shown = lab.street.fleet("measurements", "show", str(one["id"]))
    assert len(shown["record"]["p50_ns"]) == len(shown["record"]["against_p50_ns"]) >= 1
    assert lab.leases()[0]["status"] == "done"

    root, socket = lab.street.root / "devices" / DEVICE, lab.street.sockets[DEVICE]
    wait_for("an end", lambda: ask_status(socket)["measuring"] == {} or None, lab.street.children, 30.0)
    assert len(list((root / "store" / "bundles").iterdir())) == 1, "the candidates are gone"
    assert not [path for path in (lab.street.root / "fleet" / "measuring").rglob("*") if path.is_file()]
    assert lab.street.fleet("audit", "verify")["broken_at"] is None
    assert lab.street.ask("/dead-letters")["items"] == []


def refuse(lab: Lab) -> None:
    """What no board can do is said at once."""
    code, _, err = lab.compile("--on-device", "gate-77")
    assert code == 1 and "no device 'gate-77'" in err and "skerry fleet device list" in err
    code, _, err = lab.compile(target="raspberry-pi-4")
    assert code == 1 and "no board here is a raspberry-pi-4" in err and lab.profile in err


def stop(lab: Lab) -> None:
    """At Ctrl-C the lease is given back."""
    child = lab.start()
    lease = lab.until("measuring")
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "no bundle was written" in err
    assert lab.street.ask(f"/leases/{lease['id']}")["status"] == "cancelled"


def break_down(lab: Lab) -> None:
    """One measures and one waits; the fleet starts anew, then the board goes."""
    first = lab.start()
    lab.until("measuring")
    board = lab.street.children.pid(DEVICE)
    os.kill(board, signal.SIGSTOP)  # it could be done before the second asks
    lab.engines = "native,onnxruntime"  # longer, so that its turn is seen
    second = lab.start()
    queued = lab.until("queued")["id"]
    path = f"/leases/{queued}"

    def told() -> bool | None:
        return "measures for lease" in lab.street.ask(path)["reason"] or None

    wait_for("words", told, lab.street.children, 20.0)
    os.kill(lab.street.children.pid("fleet"), signal.SIGKILL)
    lab.street.children.forget("fleet")
    os.kill(board, signal.SIGCONT)
    port = lab.street.fleet_url.rpartition(":")[2]
    words = ["fleet", "serve", "--root", str(lab.street.root / "fleet"), "--port", port]
    lab.street.children.start("fleet", skerry(*words))

    def its_turn() -> bool | None:
        with contextlib.suppress(httpx.TransportError):  # the fleet is only starting
            return lab.street.ask(path)["status"] == "measuring" or None
        return None

    wait_for("its turn", its_turn, lab.street.children, 120.0)  # not after the first's end: this one could be done, too
    os.kill(board, signal.SIGKILL)
    lab.street.children.forget(DEVICE)
    out, err = first.communicate(timeout=180)
    assert first.returncode == 0, err
    assert json.loads(out)["board"]["device"] == DEVICE
    _, err = second.communicate(timeout=90)
    assert second.returncode == 1 and f"{DEVICE} went silent" in err, err
    assert lab.street.ask(path)["status"] == "failed"


def test_a_day_of_measuring(lab: Lab) -> None:
    measure(lab)
    lab.engines = "onnxruntime"
    refuse(lab)
    stop(lab)
    break_down(lab)
    assert lab.street.fleet("audit", "verify")["broken_at"] is None
