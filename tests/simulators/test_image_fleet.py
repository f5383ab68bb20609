"""The fleet's image in a real engine: who runs, what may be written, its broker, how it is asked, how it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.simulators.test_image_agent import PLATFORM, ended, python
from tests.simulators.test_image_agent import cache as cache
from tests.simulators.test_image_agent import running as running

from skerry_simulators.errors import SimulatorError
from skerry_simulators.images import archive, engine, recipes
from skerry_simulators.images.archive import Image
from skerry_simulators.images.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.root]
STATE = "/var/lib/skerry"
PYTHON = ["/usr/bin/python3", "-I"]
DEADLINE_S = 300.0


@pytest.fixture(scope="module")
def image(running: Engine, cache: Path) -> Image:
    try:
        built = recipes.build("fleet", PLATFORM, "skerry-fleet:test", cache, lambda _: None)
    except SimulatorError as error:
        pytest.skip(f"no packages or wheels within reach: {error}")
    assert running.load(archive.pack([built])) == [built.id], "the engine counts the same id"
    try:
        with engine.mapped("no container can be started"):
            python(running, built, "pass")
    except SimulatorError as error:
        pytest.skip(f"{error}: this machine lets an engine start, and no container")
    return built


def fleet(running: Engine, image: Image, *words: str, **environment: str) -> Any:
    """Start a fleet as docs/operations.md says, without any network."""
    return running.client.containers.run(
        image.id,
        list(words),
        detach=True,
        read_only=True,
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        volumes={"skerry-fleet-test": {"bind": STATE, "mode": "rw"}},
        environment=environment,
        healthcheck={"interval": 1_000_000_000, "timeout": 60_000_000_000, "retries": 1000},
    )


def eventually(container: Any, condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        container.reload()
        assert container.status != "exited", container.logs().decode()
        assert time.monotonic() < deadline, f"never came true: {what}: {container.logs().decode()}"
        time.sleep(0.2)


def health(container: Any) -> str:
    container.reload()
    return str(container.attrs["State"]["Health"]["Status"])


def command(container: Any, *words: str) -> tuple[int, str]:
    code, said = container.exec_run([*PYTHON, "-m", "skerry", "fleet", *words])
    return int(code), said.decode()


LOOK = """
import json, os, pathlib, shutil
import alembic, apprise, argon2, httpx, obstore, psycopg, uvicorn, zstandard
def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
    except OSError:
        return False
    return True
print(json.dumps({
    "uid": os.getuid(), "root": os.environ["SKERRY_FLEET_ROOT"],
    "writable": [p for p in ("/", "/etc", "/tmp", "/run", "/var/lib/skerry", "/var/lib/skerry-blobs") if writable(p)],
    "tools": [t for t in ("sh", "apt-get", "dpkg", "pip", "openssl", "mosquitto_pub") if shutil.which(t)],
    "broker": os.access("/usr/sbin/mosquitto", os.X_OK),
}))
"""


def test_it_is_nobody_in_particular_and_holds_what_a_fleet_needs(running: Engine, image: Image) -> None:
    config = running.client.images.get(image.id).attrs["Config"]
    assert config["StopSignal"] == "SIGTERM" and list(config["Volumes"]) == [STATE]
    assert set(config["ExposedPorts"]) == {"8707/tcp", "8883/tcp"}
    assert image.size_bytes < 230_000_000
    code, said = python(running, image, LOOK)
    assert code == 0, said
    found = json.loads(said)
    assert found == {
        "uid": 10001,
        "root": f"{STATE}/fleet",
        "writable": [STATE],
        "tools": [],
        "broker": True,
    }


def test_a_fleet_serves_with_its_own_broker_ends_when_asked_and_comes_back(running: Engine, image: Image) -> None:
    container = fleet(running, image, SKERRY_FLEET_BROKER_NAME="fleet.example")
    eventually(container, lambda: health(container) == "healthy", "it is well")
    assert command(container, "ready")[0] == 0
    code, said = command(container, "overview", "--json")
    assert code == 0, said
    assert json.loads(said)["broker"] == {"host": "fleet.example", "port": 8883, "connected": True}
    assert "mosquitto" in container.logs().decode()
    code, said = command(container, "backup", f"{STATE}/copy.skb", "--without-keys", "--json")
    assert code == 0 and json.loads(said)["keys"] is False, said
    container.stop(timeout=60)
    code, said = ended(container)
    assert code == 0 and "Traceback" not in said, said
    again = fleet(running, image)
    eventually(again, lambda: health(again) == "healthy", "it is well again, from its volume")
    assert "shown once" not in again.logs().decode(), "it is the same fleet"
    again.stop(timeout=60)
    assert ended(again)[0] == 0


def test_what_is_wrong_is_said_in_one_line(running: Engine, image: Image) -> None:
    code, said = ended(fleet(running, image, SKERRY_FLEET_DATABASE_URL="postgresql://skerry@127.0.0.1:1/x"))
    assert code == 1 and "cannot open the database" in said and said.count("\n") == 1, said
