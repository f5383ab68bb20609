"""An update and what it came to, with no network between device and fleet: through trial to the receipt, by hand."""

from __future__ import annotations

import io
import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agent.serving_parts import bundle, compiled
from tests.journeys import test_site_without_network as without_network
from tests.journeys.test_site_without_network import Site

from skerry_agent import carried
from skerry_agent.client import LocalClient
from skerry_agent.config import AgentConfig
from skerry_agent.disk import RealDisk
from skerry_agent.errors import AgentError, StorageError
from skerry_agent.ledger import SqliteLedger
from skerry_agent.memory import Memory
from skerry_agent.spool import Spool
from skerry_contracts import codec, container
from skerry_contracts.assignment import Assignment
from skerry_contracts.carried_update import CarriedUpdate, head

site = without_network.site  # the same fleet
SETTINGS = "observe_s = 0.2\nobserve_predictions = 3\nheartbeat_s = 1.0\nflush_s = 0.1\n"


def offered(site: Site, capsys: pytest.CaptureFixture[str], release: int = 1) -> Path:
    """Start a rollout, and hand out the device's update."""
    folder = site.root / f"bundle-{release}"
    folder.mkdir()
    parts = bundle(folder, compiled(folder), version=str(release))
    manifest = codec.encode(parts.manifest).replace(b'"release":1', b'"release":%d' % release)
    file = io.BytesIO()
    blobs = [(digest, (folder / digest).read_bytes()) for digest in parts.manifest.blobs()]
    container.write_container(file, manifest, blobs, None)
    (folder / "toy.skerry").write_bytes(file.getvalue())
    if release == 1:
        assert site.fleet("model", "register", "toy") == 0
    assert site.fleet("bundle", "upload", str(folder / "toy.skerry")) == 0
    words = ("--model", "toy", "--bundle", codec.digest(manifest), "--supersede")
    assert site.fleet("rollout", "start", *words) == 0
    update = site.root / f"update-{release}"
    assert site.fleet("device", "carry-out", "d1", "-o", str(update)) == 0
    capsys.readouterr()
    return update


def alone(site: Site) -> Path:
    """Take the network away: the fleet's address leads nowhere from now on."""
    root = site.root / "d1"
    (root / "config.toml").write_text(SETTINGS)
    path = root / "identity" / "enrolment.json"
    path.write_text(path.read_text().replace(site.url, "http://127.0.0.1:1"))
    return root


def eventually(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (AgentError, OSError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def lived(root: Path, done: Callable[[LocalClient], Any]) -> None:
    """Run the agent until something is so."""
    with (root / "log").open("ab") as log:
        command = [sys.executable, "-m", "skerry", "agent", "run", "--root", str(root)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with LocalClient(root / "run" / "api.sock") as client:
                eventually(lambda: done(client), (root / "log").read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (root / "log").read_text()


def committed(client: LocalClient) -> bool:
    image = struct.pack("<4f", 0, 1, 2, 3)
    client.infer("toy", {"x": image})
    return bool(client.get("/skerry/status")["models"]["toy"]["stage"] == "idle")


def test_an_update_goes_in_and_its_receipt_comes_out(
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    update, root = offered(site, capsys), alone(site)
    assert site.agent("d1", "carry-in", str(update)) == 0
    assert "toy 1" in capsys.readouterr().out
    lived(root, committed)
    out, answer = str(tmp_path / "out"), str(tmp_path / "answer")
    assert site.agent("d1", "carry-out", out) == 0
    assert site.fleet("device", "carry-in", out, "-o", answer) == 0
    assert site.agent("d1", "carry-in", answer) == 0 and site.waiting("d1") == 0
    capsys.readouterr()
    assert site.fleet("device", "events", "d1", "--json") == 0
    phases = [each["phase"] for each in json.loads(capsys.readouterr().out)]
    assert phases[::-1] == ["offered", "downloading", "verified", "trial", "committed"]
    assert site.agent("d1", "carry-in", str(update)) == 0  # replayed: the same assignment, nothing to do
    lived(root, committed)
    assert not (root / "carried.update").exists(), "what is installed takes up no space"
    newer = offered(site, capsys, 2)
    assert site.agent("d1", "carry-in", str(newer)) == 0
    lived(root, lambda client: client.get("/skerry/status")["models"]["toy"]["active"]["version"] == "2")
    assert site.agent("d1", "carry-in", str(update)) == 1  # older than what is adopted
    assert "is adopted" in capsys.readouterr().err


def repacked(site: Site, data: bytes, assignment: Assignment | None = None, **files: Any) -> bytes:
    """Return an update file with another assignment (well signed), or with other bytes under some paths."""
    update = CarriedUpdate(io.BytesIO(data))
    signed = update.assignment
    if assignment is not None:
        signed = site.bench.fleet.office.director.sign_assignment(assignment)
    contents = {path: b"".join(update.read(path)) for path in update.paths()}
    contents |= files.get("contents", {})
    for path in files.get("without", ()):
        del contents[path]
    return head(signed, [(path, len(each)) for path, each in contents.items()]) + b"".join(contents.values())


def test_a_bad_update_is_refused_and_changes_nothing(
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    update, root = offered(site, capsys), alone(site)
    good = update.read_bytes()
    blob = next(path for path in CarriedUpdate(io.BytesIO(good)).paths() if path.startswith("/blobs/"))
    line = good[: good.index(b"\n") + 1]
    bad = {
        "cut short": (good[:-1], "cut short"),
        "cut in the first line": (good[:100], "cut short"),
        "more bytes": (good + b"x", "belong to nothing"),
        "a damaged blob": (good[:-1] + bytes([good[-1] ^ 1]), "damaged"),
        "another's": (repacked(site, good, Assignment("default", "d2", 9, 1, 1 << 40, ())), "d2"),
        "expired": (repacked(site, good, Assignment("default", "d1", 9, 1, 2, ())), "expired"),
        "unsigned": (repacked(site, good).replace(b'{"assignment":"e', b'{"assignment":"f'), ""),
        "a path out of the folder": (line.replace(blob.encode(), b"/../" + blob.encode()[4:]), "nothing that a device"),
        "a path twice": (head_twice(line, blob), "twice"),
    }
    for kind, (data, said) in bad.items():
        update.write_bytes(data)
        capsys.readouterr()
        assert site.agent("d1", "carry-in", str(update)) == 1, kind
        errors = capsys.readouterr().err
        assert errors.startswith("skerry: error: ") and errors.count("\n") == 1 and said in errors, (kind, errors)
        assert not list(root.glob("carried*")), kind


def head_twice(line: bytes, blob: str) -> bytes:
    plain = json.loads(line)
    plain["files"] += [each for each in plain["files"] if each["path"] == blob]
    return codec.canonical_json(plain) + b"\n"


def test_a_file_that_the_update_repository_does_not_bear_out_installs_nothing(
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Signed by the director, whole by every digest, and yet not listed: its key alone installs nothing."""
    update, root = offered(site, capsys), alone(site)
    good = update.read_bytes()
    paths = CarriedUpdate(io.BytesIO(good)).paths()
    timestamp = "/tuf/metadata/timestamp.json"
    stamp = b"".join(CarriedUpdate(io.BytesIO(good)).read(timestamp))
    assert timestamp in paths
    forged = json.loads(stamp)
    forged["signed"]["version"] += 90
    update.write_bytes(repacked(site, good, contents={timestamp: json.dumps(forged).encode()}))
    assert site.agent("d1", "carry-in", str(update)) == 0  # only the running agent judges metadata
    lived(root, lambda client: client.get("/skerry/status")["models"].get("toy", {}).get("trouble"))
    assert not list((root / "store" / "bundles").iterdir())


def test_a_disk_that_removes_nothing_does_not_keep_the_agent_from_starting(tmp_path: Path) -> None:
    class Stuck(RealDisk):
        def unlink(self, path: str) -> None:
            raise StorageError(f"{path}: read-only file system")

    config = AgentConfig(root=tmp_path)
    ledger = SqliteLedger(Path(":memory:"))
    memory = Memory(ledger, Spool(ledger, quota_bytes=1, in_flight=1, redeliver_s=1.0), config)
    for content in (b"", b"no update", head(b"no envelope", [])):
        (tmp_path / carried.UPDATE).write_bytes(content)
        assert carried.assignment(tmp_path, Stuck(tmp_path), memory) is None
    ledger.close()
