"""The agent's images in a real engine: who runs, what may be written, how it is asked, what is the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry_simulators import board_report
from skerry_simulators.errors import SimulatorError
from skerry_simulators.images import archive, binfmt, board, engine, recipes
from skerry_simulators.images.archive import Image
from skerry_simulators.images.engine import Engine
from skerry_targets import catalogue

pytestmark = [pytest.mark.docker, pytest.mark.root]
PLATFORM = "linux/amd64"
VOLUME, STATE = "skerry-state", "/var/lib/skerry"


@pytest.fixture(scope="module")
def running() -> Iterator[Engine]:
    """An engine of the tests' own; its folder, mounts and processes end with the module."""
    try:
        with engine.own() as found:
            yield found
    except SimulatorError as error:
        pytest.skip(f"no engine can be started here: {error} ({error.hint})")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.getbasetemp() / "fetched"  # one for all images of a run
    found.mkdir(exist_ok=True)
    return found


@pytest.fixture(scope="module")
def image(running: Engine, cache: Path) -> Image:
    try:
        built = recipes.build("agent", PLATFORM, "skerry-agent:test", cache, lambda _: None)
    except SimulatorError as error:
        pytest.skip(f"no packages or wheels within reach: {error}")
    assert running.load(archive.pack([built])) == [built.id], "the engine counts the same id"
    try:
        with engine.mapped("no container can be started"):
            python(running, built, "pass")
    except SimulatorError as error:
        pytest.skip(f"{error}: this machine lets an engine start, and no container")
    return built


def run(running: Engine, image: Image, *words: str, **options: Any) -> Any:
    """Start a container as docs/docker.md says: nothing may be written but its state."""
    mounts = {VOLUME: {"bind": STATE, "mode": "rw"}}
    usual: dict[str, Any] = {"read_only": True, "network_mode": "none", "volumes": mounts, "cap_drop": ["ALL"]}
    return running.client.containers.run(
        image.id, list(words), detach=True, security_opt=["no-new-privileges"], **{**usual, **options}
    )


def ended(container: Any) -> tuple[int, str]:
    code = int(container.wait(timeout=60)["StatusCode"])
    said = container.logs().decode()
    container.remove(v=True)
    return code, said


def python(running: Engine, image: Image, program: str, **options: Any) -> tuple[int, str]:
    return ended(run(running, image, "-I", "-c", program, entrypoint=["/usr/bin/python3"], **options))


def test_the_same_inputs_give_the_same_image_on_another_day_in_another_place(
    image: Image, cache: Path, tmp_path: Path
) -> None:
    program = "import os, sys; os.umask(0o077); from skerry.__main__ import main; sys.exit(main(sys.argv[1:]))"
    words = ["images", "build", "agent", "--platform", PLATFORM, "--tag", "skerry-agent:test", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--cache", str(cache), "-o", "agent.tar"],
        env={**os.environ, "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7", "LC_ALL": "C", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    again = json.loads(done.stdout)["images"][0]
    assert again["id"] == image.id
    assert (tmp_path / "agent.tar").read_bytes() == archive.pack([image])


def test_an_image_is_small_and_says_what_it_is(running: Engine, image: Image) -> None:
    found = running.client.images.get(image.id)
    assert found.attrs["Size"] < 80_000_000
    assert (found.attrs["Os"], found.attrs["Architecture"]) == ("linux", "amd64")
    config = found.attrs["Config"]
    assert config["Labels"]["org.opencontainers.image.title"] == "Skerry device agent"
    assert len(config["Labels"]["skerry.inputs.sha256"]) == 64
    assert config["StopSignal"] == "SIGTERM" and list(config["Volumes"]) == [STATE]


LOOK = """
import os, pathlib, json, shutil, ssl, sys, tempfile
import cryptography.x509, h11, paho.mqtt.client, sqlite3, tuf.ngclient, zoneinfo, lzma, bz2, decimal, uuid
def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
    except OSError:
        return False
    return True
compiled = [m.__cached__ for m in list(sys.modules.values()) if getattr(m, "__cached__", None)]
print(json.dumps({
    "temporary": tempfile.gettempdir(), "uid": os.getuid(), "groups": os.getgroups(), "path": sys.path,
    "writable": [p for p in ("/", "/usr/lib", "/etc", "/tmp", "/var/lib/skerry") if writable(p)],
    "tools": [t for t in ("sh", "bash", "apt-get", "dpkg", "pip", "curl", "openssl") if shutil.which(t)],
    "authorities": len(ssl.create_default_context().get_ca_certs()), "zone": str(zoneinfo.ZoneInfo("Asia/Tokyo")),
    "uncompiled": [c for c in compiled if not os.path.exists(c)],
}))
"""


def test_nothing_may_be_written_but_the_state_and_nobody_is_root(running: Engine, image: Image) -> None:
    code, said = python(running, image, LOOK)
    assert code == 0, said
    found = json.loads(said)
    assert found["uid"] == 10001 and 0 not in found["groups"]
    assert found["temporary"] == "/dev/shm"
    assert found["writable"] == ["/var/lib/skerry"] and found["tools"] == []
    assert found["authorities"] > 100 and found["zone"] == "Asia/Tokyo"
    assert found["uncompiled"] == [], "every module is compiled ahead"
    assert not [path for path in found["path"] if not path.startswith("/usr/lib")]


def test_a_container_without_identity_says_what_to_do(running: Engine, image: Image) -> None:
    code, said = ended(run(running, image))
    assert code == 1 and "skerry: error:" in said and "enroll" in said
    code, said = ended(run(running, image, "status"))
    assert code == 1 and "no agent answers" in said


@pytest.mark.mosquitto
def test_a_board_lives_its_life_in_a_container(running: Engine, image: Image, cache: Path, tmp_path: Path) -> None:
    """Enrolled, updated, asked, rolled back, refused what is not for it, healthy, and ended by itself when asked."""
    tmp_path.chmod(0o755)
    said: list[str] = []
    report = board.run(catalogue.get("x86-64-v2"), said.append, tmp_path, running.url, cache)
    assert report.held, board_report.table(report)
    names = [each.name for each in report.steps]
    assert {"image", "enrol", "update", "predict", "rollback", "refuse sibling", "health", "stop"} <= set(names)
    assert said and running.client.containers.list(all=True) == [], "nothing is left behind"


@pytest.mark.emulated
def test_the_image_for_arm_runs_through_binfmt(running: Engine, cache: Path) -> None:
    built = recipes.build("agent", "linux/arm64", "skerry-agent:test-arm64", cache, lambda _: None)
    running.load(archive.pack([built]))
    try:
        with binfmt.runnable("linux/arm64"):
            program = (
                "import os, subprocess, sys, cryptography.x509; from skerry_agent.this_device import this_hardware"
            )
            program += "; h = this_hardware()"
            program += "; print(os.uname().machine, h.machine, h.libc, os.getuid(), h.engines['native'], flush=True)"
            program += "; subprocess.run([sys.executable, '-I', '-c', 'print(1 + 1)'], check=True)"
            code, said = python(running, built, program, environment={"QEMU_CPU": "cortex-a72"})
    except SimulatorError as error:
        pytest.skip(f"no programs for ARM can be started here: {error} ({error.hint})")
    assert code == 0 and said.split() == ["aarch64", "aarch64", "glibc", "10001", "1", "2"], said
