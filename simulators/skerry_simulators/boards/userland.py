"""A board's userland: Debian packages and wheels, unpacked into a folder of the user's cache. Nothing of it is
installed on this machine, no maintainer script runs, and root is not needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from skerry_simulators.boards import packages
from skerry_simulators.boards.recipes import LAYOUT, PYTHON, SUITE, Recipe
from skerry_simulators.errors import SimulatorError

MADE = "made.json"
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
INTERPRETER = f"usr/bin/python{PYTHON}"
_UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Userland:
    """A folder that holds `usr`; `parts` are the SHA-256 digests of the packages and wheels it was made from."""

    folder: Path
    parts: dict[str, str]
    was_there: bool


def cache() -> Path:
    """Return the folder in which userlands are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skerry" / "boards"


def key(recipe: Recipe) -> str:
    """Return what a userland is known by: everything that decides what is in it, before anything is fetched."""
    said = [LAYOUT, SUITE, PYTHON, dataclasses.asdict(recipe), packages.pins(recipe)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def ready(recipe: Recipe, root: Path, say: Say, *, afresh: bool = False) -> Userland:
    """Return the userland of a recipe, from the cache folder `root`, made where it is not there.

    `afresh` fetches everything again, whatever pip has in its own cache.

    Raises:
        SimulatorError: it cannot be fetched, or the folder cannot be written.
    """
    folder = root / f"{recipe.architecture}-{key(recipe)}"
    try:
        return Userland(folder, json.loads((folder / MADE).read_text()), True)
    except (OSError, ValueError):
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{recipe.architecture}-", dir=root) as made:
            parts = _make(recipe, Path(made), say, afresh=afresh)
            shutil.rmtree(folder, ignore_errors=True)  # one without its last file: whoever made it was interrupted
            (Path(made) / "root").rename(folder)
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder that can be written"
        raise SimulatorError(f"no userland can be made in {root}: {error.strerror or error}", hint=hint) from error
    return Userland(folder, parts, False)


def _make(recipe: Recipe, work: Path, say: Say, *, afresh: bool) -> dict[str, str]:
    say("fetching packages and wheels")
    with ThreadPoolExecutor(max_workers=2) as pool:
        fetched = pool.submit(packages.wheels, recipe, work, afresh=afresh)
        debs = packages.debian(recipe, work)
        wheels = fetched.result()
        say("unpacking")
        root = work / "root"
        root.mkdir()
        list(pool.map(lambda deb: _unpack(deb, root), debs))
    site = root / SITE
    site.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    for each in _UNREAD:
        shutil.rmtree(root / each, ignore_errors=True)
    if not (root / INTERPRETER).exists():
        raise SimulatorError(f"the packages hold no {INTERPRETER}", hint="has Debian changed? please report it")
    parts = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in (*debs, *wheels)}
    (root / MADE).write_text(json.dumps(parts, indent=1, sort_keys=True) + "\n")
    return parts


def _unpack(deb: Path, root: Path) -> None:
    done = subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], capture_output=True, text=True)
    if done.returncode:
        raise SimulatorError(f"{deb.name} cannot be unpacked: {done.stderr.strip():.200}", hint="is the disk full?")
