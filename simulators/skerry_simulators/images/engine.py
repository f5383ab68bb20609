"""A real container engine, through its own library: the one that runs here, or one of our own for as long as a context
lasts. This is the only file that imports the docker library.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import docker
import requests
from docker.errors import DockerException

from skerry_simulators.chaos.mortal import mortal
from skerry_simulators.errors import SimulatorError

USUAL = "unix:///var/run/docker.sock"
_START_S, _STOP_S, _KNOCK_S, _CALL_S = 60.0, 30.0, 10, 120
_SEARCH = os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
# What dockerd says when it cannot start, and what to do.
_REASONS = (
    ("Devices cgroup isn't mounted", "the control groups are not mounted: apt install cgroupfs-mount; cgroupfs-mount"),
    ("cgroup", "a container needs --privileged and control groups it may write (/sys/fs/cgroup)"),
    ("operation not permitted", "a container needs --privileged to run an engine in it"),
    ("permission denied", "a container needs --privileged to run an engine in it"),
    ("iptables", "start one yourself, and name it: --engine unix:///PATH"),
)


class Engine:
    """An engine that answers."""

    def __init__(self, client: Any, url: str, note: str = "") -> None:
        self.client = client
        self.url = url
        version = client.version()
        platform = f"{version.get('Os', '?')}/{version.get('Arch', '?')}"
        self.words = f"Docker {version.get('Version', '?')} ({platform}){note}"

    def load(self, archive: bytes) -> list[str]:
        """Load an archive of images; returns their ids.

        Raises:
            SimulatorError: the engine refuses it.
        """
        with mapped("the engine refuses the image"):
            return [str(each.id) for each in self.client.images.load(archive)]

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


@contextlib.contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn what the library raises into one line."""
    try:
        yield
    except (DockerException, requests.exceptions.RequestException) as error:
        said = getattr(error, "explanation", None) or error
        raise SimulatorError(
            f"{what}: {str(said).strip():.300}", hint="docker info shows how the engine fares"
        ) from error


def connect(url: str) -> Engine:
    """Return the engine at an address (unix:///PATH, tcp://HOST:PORT, ssh://…).

    Raises:
        SimulatorError: nobody answers there, or this user is not allowed to ask.
    """
    _knock(url)
    with mapped(f"no engine answers at {url}"):
        client = cast(Any, docker).DockerClient(base_url=url, timeout=_KNOCK_S)
        try:
            found = Engine(client, url)
            client.api.timeout = _CALL_S
            return found
        except BaseException:
            client.close()
            raise


def _knock(url: str) -> None:
    """Try a socket of this machine first: the kernel's own word tells what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme not in ("unix", "tcp", "ssh", "http", "https", "npipe"):
        raise SimulatorError(f"{url!r:.80} is no engine's address", hint="it looks like unix:///var/run/docker.sock")
    if parts.scheme != "unix":
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(parts.path)
        except FileNotFoundError as error:
            hint = "start one (Debian: apt install docker.io), or name it: --engine unix:///PATH"
            raise SimulatorError(f"no Docker engine at {parts.path}", hint=hint) from error
        except PermissionError as error:
            hint = "join its group and log in again: sudo usermod -aG docker $USER"
            raise SimulatorError(f"this user may not use the Docker engine at {parts.path}", hint=hint) from error
        except OSError as error:
            hint = "start it: systemctl start docker"
            raise SimulatorError(f"nobody answers at {parts.path}: {error.strerror or error}", hint=hint) from error


@contextlib.contextmanager
def opened(url: str | None) -> Iterator[Engine]:
    """Yield an engine: the named one, that of DOCKER_HOST, the usual one; where there is none, and this is root, one of
    our own until the context ends.

    Raises:
        SimulatorError: none answers, and none can be started.
    """
    named = url or os.environ.get("DOCKER_HOST")
    try:
        found = connect(named or USUAL)
    except SimulatorError:
        if named or os.geteuid() != 0 or program() is None:
            raise
    else:
        with contextlib.closing(found):
            yield found
        return
    with own() as found:
        yield found


def program() -> str | None:
    """Return where dockerd is."""
    return shutil.which("dockerd", path=os.environ.get("PATH", os.defpath) + _SEARCH)


@contextlib.contextmanager
def own() -> Iterator[Engine]:
    """Yield an engine of our own: its data, sockets and mounts are gone when the context ends, or this process does.
    Its containers may use this machine's network, or none; it makes no bridge and no firewall rule.

    Raises:
        SimulatorError: not root, not installed, or the kernel does not let it.
    """
    dockerd = program()
    if dockerd is None:
        raise SimulatorError("dockerd is not here", hint="apt install docker.io")
    if os.geteuid() != 0:
        raise SimulatorError("an engine of one's own needs root", hint="use one that runs: --engine unix:///PATH")
    with tempfile.TemporaryDirectory(prefix="skerry-engine-", ignore_cleanup_errors=True) as made:
        root = Path(made)
        url = f"unix://{root / 'docker.sock'}"
        (root / "settings.json").write_text("{}")  # not those of the machine's own engine
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                mortal(["unshare", "--mount", "--propagation", "private", *_words(dockerd, root, url)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": os.environ.get("PATH", os.defpath) + _SEARCH},
                start_new_session=True,
            )
        try:
            engine = _started(process, root, url)
            with contextlib.closing(engine):
                try:
                    yield engine
                finally:
                    _empty(engine)
        finally:
            _end(process)


def _words(dockerd: str, root: Path, url: str) -> list[str]:
    folders = ["--data-root", str(root / "data"), "--exec-root", str(root / "exec"), "--pidfile", str(root / "pid")]
    quiet = ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    return [dockerd, "--host", url, *folders, *quiet, "--config-file", str(root / "settings.json"), "--group", "root"]


def _started(process: subprocess.Popen[bytes], root: Path, url: str) -> Engine:
    """Wait until it answers."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(SimulatorError):
            found = connect(url)
            found.words += ", started for this"
            return found
        time.sleep(0.1)
    said = (root / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise refused(said[-1] if said else "")


def refused(last: str) -> SimulatorError:
    """Return what to tell of dockerd's last words."""
    hint = next((then for words, then in _REASONS if words.lower() in last.lower()), "run dockerd by hand to see why")
    return SimulatorError(f"dockerd does not start: {last[-300:] or 'it said nothing'}", hint=hint)


def _empty(engine: Engine) -> None:
    """Remove every container: an engine that ends does not end them."""
    with contextlib.suppress(DockerException, requests.exceptions.RequestException):
        for each in engine.client.containers.list(all=True):
            each.remove(force=True, v=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it as a service manager would; its containerd ends with it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
