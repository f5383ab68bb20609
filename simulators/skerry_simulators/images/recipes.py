"""What the images are: layers, who runs, what is kept, how it is asked whether it is well, and how it is stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_agent.config import AgentConfig
from skerry_simulators.debian import wheels
from skerry_simulators.debian.packages import ARCHITECTURES
from skerry_simulators.debian.tree import Tree
from skerry_simulators.errors import SimulatorError
from skerry_simulators.images import base
from skerry_simulators.images.archive import Image, Layer

Say = Callable[[str], None]
PLATFORMS = ("linux/amd64", "linux/arm64")
# Layers and images count as made when this version was: a time that a device may believe, and the same for everybody.
CREATED_S = AgentConfig().clock_floor_s
_SECOND_NS = 1_000_000_000
_PYTHON = "/usr/bin/python3"


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """An image's own part: the locked requirements, our packages, further packages of Debian's and which programs of
    theirs stay, the folder that is kept, others that may be, and how it runs.
    """

    title: str
    lock: str
    ours: tuple[str, ...]
    debian: tuple[str, ...]
    state: str
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    health: tuple[str, ...]
    environment: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    folders: tuple[str, ...] = ()


RECIPES = {
    "agent": Recipe(
        title="Skerry device agent",
        lock="device",
        ours=("skerry", "skerry_contracts", "skerry_targets", "skerry_agent"),
        debian=(),
        state="var/lib/skerry",
        command=("-m", "skerry", "agent"),
        arguments=("run",),
        health=("-m", "skerry", "agent", "status", "--json"),
    ),
    "fleet": Recipe(
        title="Skerry fleet manager",
        lock="fleet",
        ours=("skerry", "skerry_contracts", "skerry_targets", "skerry_fleet"),
        # mosquitto and the libraries that it is linked with; the rest of what apt would bring makes users and services.
        debian=(
            "mosquitto",
            "libcap2",
            "libcjson1",
            "libdlt2",
            "libmosquitto1",
            "libsystemd0",
            "libwebsockets19t64",
            "libwrap0",
        ),
        state="var/lib/skerry",
        command=("-m", "skerry", "fleet"),
        arguments=("serve",),
        health=("-m", "skerry", "fleet", "ready"),
        environment=(
            "SKERRY_FLEET_ROOT=/var/lib/skerry/fleet",
            "SKERRY_FLEET_HOST=0.0.0.0",
            "SKERRY_FLEET_BROKER_PORT=8883",
        ),
        programs=("usr/sbin/mosquitto",),
        ports=(8707, 8883),
        folders=("var/lib/skerry-blobs",),
    ),
}


def build(name: str, platform: str, tag: str, cache: Path, say: Say, suite: str = base.SUITE) -> Image:
    """Return an image, built from Debian's packages, locked wheels and the sources that run here.

    Raises:
        SimulatorError: an unknown image or platform, no apt or pip, or no way to their mirrors.
    """
    check_platform(platform)
    recipe = RECIPES[name]
    say(f"{name} {platform}: Debian {suite}")
    ground = base.make(platform, suite, cache, recipe.debian, recipe.programs)
    say(f"{name} {platform}: wheels")
    machine = wheels.MACHINES[ARCHITECTURES[platform]]
    folder = cache / "wheels" / f"{recipe.lock}-{machine}-{ground.python[0]}.{ground.python[1]}"
    found = wheels.fetch(wheels.locked(recipe.lock), machine, ground.python, ground.glibc, folder)
    libraries = Tree()
    for each in found:
        libraries.merge(wheels.unpack(each, ground.site))
    libraries.remove(lambda path: path.endswith("/tests"))
    own = _ours(recipe, ground.site)
    say(f"{name} {platform}: byte code")
    with base.native(suite, cache, ground, platform) as compiler:
        compiler.compile(ground.tree, f"usr/lib/python{ground.python[0]}.{ground.python[1]}")
        compiler.compile(libraries, ground.site)
        compiler.compile(own, ground.site)
    say(f"{name} {platform}: image")
    layers = (
        Layer(
            ground.tree.tar(CREATED_S), f"Debian {suite}: {' '.join(f'{p.name}={p.version}' for p in ground.packages)}"
        ),
        Layer(libraries.tar(CREATED_S), " ".join(each.name for each in found)),
        Layer(own.tar(CREATED_S), f"skerry {_version()}"),
    )
    inputs = [f"{p.name} {p.version} {p.sha256}" for p in ground.packages]
    inputs += [f"{each.name} {hashlib.sha256(each.read_bytes()).hexdigest()}" for each in found]
    return Image(platform, tag, layers, _run(recipe, suite, inputs), CREATED_S)


def _ours(recipe: Recipe, site: str) -> Tree:
    """Return our packages as they are imported here, without what only other machines need; and the folder to keep."""
    tree = Tree()
    for package in recipe.ours:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SimulatorError(f"no package {package} here", hint="pip install 'skerry[all]'")
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                tree.file(f"{site}/{package}/{path.relative_to(root).as_posix()}", path.read_bytes())
    lines = ("Metadata-Version: 2.1", "Name: skerry", f"Version: {_version()}", "License: Apache-2.0", "")
    tree.file(f"{site}/skerry-{_version()}.dist-info/METADATA", "\n".join(lines).encode())
    tree.directory(recipe.state, 0o750, owner=base.USER_ID)
    for folder in recipe.folders:  # a new volume there takes over owner and mode
        tree.directory(folder, 0o755, owner=base.USER_ID)
    return tree


def _run(recipe: Recipe, suite: str, inputs: list[str]) -> dict[str, Any]:
    labels = {
        "org.opencontainers.image.title": recipe.title,
        "org.opencontainers.image.version": _version(),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.base.name": f"debian:{suite}",
        "skerry.inputs.sha256": hashlib.sha256("\n".join(inputs).encode()).hexdigest(),
    }
    return {
        "User": f"{base.USER_ID}:{base.USER_ID}",
        # Every engine gives a container memory at /dev/shm, also where nothing else may be written.
        "Env": ["PATH=/usr/bin", "LC_ALL=C.UTF-8", "TMPDIR=/dev/shm", "PYTHONDONTWRITEBYTECODE=1", *recipe.environment],
        # Python looks nowhere else than in the image: no variable, no home and no current folder adds to it.
        "Entrypoint": [_PYTHON, "-I", *recipe.command],
        "Cmd": list(recipe.arguments),
        "WorkingDir": "/",
        "Volumes": {f"/{recipe.state}": {}},
        **({"ExposedPorts": {f"{port}/tcp": {} for port in recipe.ports}} if recipe.ports else {}),
        "StopSignal": "SIGTERM",
        "Healthcheck": {
            "Test": ["CMD", _PYTHON, "-I", *recipe.health],
            "Interval": 30 * _SECOND_NS,
            "Timeout": 20 * _SECOND_NS,
            "StartPeriod": 60 * _SECOND_NS,
            "Retries": 3,
        },
        "Labels": labels,
    }


def _version() -> str:
    return importlib.metadata.version("skerry")


def tag_of(name: str, platform: str) -> str:
    """Return the name of an image where none is given.

    >>> tag_of("agent", "linux/arm/v7")
    'skerry-agent:0.1.0-armv7'
    """
    return f"skerry-{name}:{_version()}-{re.sub('^linux', '', platform).replace('/', '')}"


def check_platform(platform: str) -> None:
    """Refuse what there are no images for.

    Raises:
        SimulatorError: it is none of `PLATFORMS`.
    """
    if platform not in PLATFORMS:
        raise SimulatorError(f"no images for {platform!r:.40}", hint=f"--platform is one of {', '.join(PLATFORMS)}")


def check_tag(tag: str) -> None:
    """Refuse what no engine takes as an image's name.

    Raises:
        SimulatorError: it is none.
    """
    part = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    if not re.fullmatch(rf"{part}(?:/{part})*:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}", tag):
        raise SimulatorError(f"{tag!r:.80} is no image name", hint="it looks like skerry-agent:1.0, in small letters")
