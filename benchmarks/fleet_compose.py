"""`fleet/deploy/compose` run for real: built images, Docker Compose, PostgreSQL, two broker shards, nginx, and devices
that stay connected while the manager is replaced, as an upgrade does it, and a broker is started anew.

    python benchmarks/fleet_compose.py --compose docker-compose --json

Needs root, Debian's docker.io and Docker Compose 2.20 or later, which Debian 12 has not: name it with --compose.
The engine runs in a network namespace of its own, so nothing outside sees its bridges and rules. About four minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parents[1]
sys.path.insert(0, str(HOUSE))

from benchmarks import foreign_images  # noqa: E402
from tests.fleet.conftest import make_bundle  # noqa: E402 - the tests' small bundle

from skerry_contracts.container import open_container  # noqa: E402
from skerry_simulators.images import archive, cli, engine, recipes  # noqa: E402
from skerry_simulators.images.binfmt import native_platform  # noqa: E402

IMAGES = {
    "SKERRY_FLEET_IMAGE": "skerry-fleet:trial",
    "POSTGRES_IMAGE": "trial-postgres:17",
    "NGINX_IMAGE": "trial-nginx:1",
}
SAMPLES = 1500
HEALTHY_S = 180.0


@contextlib.contextmanager
def own_engine() -> Iterator[tuple[str, int]]:
    """Yield the address of an engine in a network namespace of its own, and the process whose namespace it is."""
    with tempfile.TemporaryDirectory(prefix="skerry-compose-", ignore_cleanup_errors=True) as made:
        root = Path(made)
        (root / "settings.json").write_text("{}")
        words = f"dockerd --host unix://{root}/docker.sock --data-root {root}/data --exec-root {root}/exec"
        words += f" --pidfile {root}/pid --config-file {root}/settings.json --group root"
        command = [
            "unshare",
            "--mount",
            "--net",
            "--propagation",
            "private",
            "sh",
            "-c",
            f"ip link set lo up; exec {words}",
        ]
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": path})
        try:
            deadline = time.monotonic() + 60
            while not (root / "docker.sock").exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            yield f"unix://{root}/docker.sock", process.pid
        finally:
            process.terminate()
            process.wait()


class Stack:
    """The services, by Docker Compose, in a copy of the folder."""

    def __init__(self, compose: str, url: str, folder: Path) -> None:
        self.compose, self.folder = compose, folder
        files = os.sysconf("SC_OPEN_MAX")
        self.environment = {**os.environ, **IMAGES, "DOCKER_HOST": url, "SKERRY_HOST": "brokers.example"}
        self.environment["BROKER_FILES"] = str(min(65_536, files))

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [self.compose, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{' '.join(words[:4])}: {done.stderr[-2000:]}{done.stdout[-500:]}")
        return done.stdout

    def fleet(self, *words: str) -> Any:
        """Run a command of the fleet's in its container; return what it prints, as JSON."""
        said = self("exec", "-T", "fleet", "/usr/bin/python3", "-I", "-m", "skerry", "fleet", *words, "--json")
        return json.loads(said)

    def healthy(self) -> float:
        """Wait until every service that says how it is says well; return for how long."""
        began = time.monotonic()
        while time.monotonic() - began < HEALTHY_S:
            rows = [json.loads(line) for line in self("ps", "-a", "--format", "json").splitlines()]
            if len(rows) == 5 and all(row["State"] == "running" and row["Health"] in ("", "healthy") for row in rows):
                return time.monotonic() - began
            time.sleep(0.5)
        sys.exit(f"not healthy after {HEALTHY_S} s:\n{self('ps', '-a')}\n{self('logs', '--tail', '20')}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--compose", default="docker-compose", help="the program (docker-compose)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which(arguments.compose) is None or engine.program() is None or os.geteuid() != 0:
        sys.exit("needs root, dockerd (apt install docker.io) and Docker Compose (--compose)")
    found: dict[str, Any] = {}
    with own_engine() as (url, _), tempfile.TemporaryDirectory() as made:
        with contextlib.closing(engine.connect(url)) as client:
            build = recipes.build("fleet", native_platform(), IMAGES["SKERRY_FLEET_IMAGE"], cli.cache(), print)
            for image in (build, foreign_images.postgres(IMAGES["POSTGRES_IMAGE"], cli.cache())):
                client.load(archive.pack([image]))
            client.load(archive.pack([foreign_images.nginx(IMAGES["NGINX_IMAGE"], cli.cache())]))
        folder = Path(made, "compose")
        shutil.copytree(HOUSE / "fleet" / "deploy" / "compose", folder, ignore=shutil.ignore_patterns("secrets"))
        subprocess.run(["sh", "make-secrets.sh"], cwd=folder, check=True)
        stack = Stack(arguments.compose, url, folder)
        try:
            found |= play(stack)
        finally:
            stack("down", "-v", "-t", "60")
    print(json.dumps(found) if arguments.json else "\n".join(f"{name:28} {value}" for name, value in found.items()))
    return 0


def play(stack: Stack) -> dict[str, Any]:
    """From nothing to a fleet with devices, which is then replaced, backed up and restored."""
    stack("up", "-d")
    found: dict[str, Any] = {"healthy_s": round(stack.healthy(), 1)}
    bundle = make_bundle(library=os.urandom(300_000))
    feed(stack, bundle)
    stack.fleet("model", "register", "digits")
    stack.fleet("bundle", "upload", "/dev/shm/digits.skerry")
    sha256 = max(open_container(io.BytesIO(bundle)).manifest.blobs().values(), key=lambda each: each.size_bytes).sha256
    devices = [device(stack, sha256) for _ in range(2)]
    time.sleep(5)  # they are at work
    stack("up", "-d", "--force-recreate", "--no-deps", "-t", "60", "fleet")  # as an upgrade does
    found["replaced_healthy_s"] = round(stack.healthy(), 1)
    stack("restart", "-t", "30", "broker-0")
    told = [json.loads(each.communicate()[0].decode().splitlines()[-1]) for each in devices]
    found["devices"] = told
    found["samples_sent"] = SAMPLES * len(told)
    found["samples_kept"] = kept(stack)
    return found


def feed(stack: Stack, content: bytes) -> None:
    """Give the fleet's container a file: it has no shell, and nothing may be written but memory."""
    words = [
        "exec",
        "-T",
        "fleet",
        "/usr/bin/python3",
        "-c",
        "import sys; open('/dev/shm/digits.skerry', 'wb').write(sys.stdin.buffer.read())",
    ]
    subprocess.run([stack.compose, *words], cwd=stack.folder, env=stack.environment, input=content, check=True)


def device(stack: Stack, sha256: str) -> subprocess.Popen[bytes]:
    """Start a device in a container of its own, in the network from which brokers and proxy are reached."""
    token = stack.fleet("claim", "create")["token"]
    gateway = stack.environment.get("SKERRY_OUTSIDE", "10.203.8.0/24").replace(".0/24", ".1")
    command = ["docker", "run", "--rm", "-i", "--network", "skerry_outside", "--add-host", f"brokers.example:{gateway}"]
    command += [
        "--entrypoint",
        "/usr/bin/python3",
        IMAGES["SKERRY_FLEET_IMAGE"],
        "-I",
        "-",
        "https://proxy",
        token,
        sha256,
    ]
    program = (HOUSE / "benchmarks" / "compose_device.py").read_bytes()
    process = subprocess.Popen(
        [*command, str(SAMPLES)], env=stack.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(program)
    process.stdin.close()
    process.stdin = None
    return process


def kept(stack: Stack) -> int:
    """Count the samples in PostgreSQL itself."""
    words = [
        "exec",
        "-T",
        "-u",
        "postgres",
        "database",
        "psql",
        "-tA",
        "-U",
        "skerry",
        "-d",
        "skerry",
        "-h",
        "/run/postgresql",
    ]
    return int(stack(*words, "-c", "SELECT count(DISTINCT (device, boot_id, seq)) FROM sample").strip())


if __name__ == "__main__":
    sys.exit(main())
