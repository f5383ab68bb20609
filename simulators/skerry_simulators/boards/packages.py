"""Fetch what a userland is made of, by name: Debian packages with apt, wheels with pip.

apt runs on a state of its own in a folder: it knows the board's architecture, reads the machine's own archives, and
neither reads nor changes what is installed. pip asks whichever index it is set up for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import skerry
from skerry_simulators.boards.recipes import PYTHON, SUITE, Recipe
from skerry_simulators.errors import SimulatorError

_SOURCES = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
_SUITES = re.compile(r"[a-z]+")  # bookworm, trixie, stable: not bookworm-security
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_OFFLINE = "is this machine connected, and are its apt sources right? (sudo apt-get update tells)"


class FetchError(SimulatorError):
    """What a userland is made of cannot be fetched: a program is missing, or what it asks is out of reach."""


def debian(recipe: Recipe, folder: Path) -> list[Path]:
    """Fetch a recipe's packages into a folder (what is there already is not fetched again), and return their files.

    Raises:
        FetchError: no apt, no Debian archive among its sources, or it could not fetch.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise FetchError(f"{program} is not here: boards are made of Debian packages", hint="run it on Debian")
    trouble = ""
    for archive in archives():
        trouble = _fetch(archive, recipe, folder)
        files = sorted((folder / "debs").glob("*.deb"))
        if not trouble and len(files) == len(recipe.packages):
            return files
    if not trouble:
        hint = "add a source for Debian's archive to apt (its suite does not matter)"
        raise FetchError("apt has no source of Debian packages", hint=hint)
    raise FetchError(f"apt could not fetch {recipe.architecture} packages: {trouble}", hint=_OFFLINE)


def archives() -> list[str]:
    """Return where this machine's apt gets Debian packages from, without those for security fixes alone."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", _SOURCES, "Created-By: Packages"], capture_output=True, text=True
    )
    return read_archives(asked.stdout)


def read_archives(said: str) -> list[str]:
    """Return the archives in lines of apt's index targets: address, release, component and origin.

    >>> read_archives("http://m/debian/ bookworm main Debian\\nhttp://other/ apt main Other\\n")
    ['http://m/debian/']
    """
    found = []
    for line in said.splitlines():
        address, release, component, origin = (*line.split(), "", "", "", "")[:4]
        # Before the first update apt does not know whose archive it is: then its path must say so.
        is_debian = origin == "Debian" or (origin.startswith("$") and address.rstrip("/").endswith("/debian"))
        if is_debian and component == "main" and _SUITES.fullmatch(release):
            found.append(address)
    return list(dict.fromkeys(found))


def _fetch(archive: str, recipe: Recipe, folder: Path) -> str:
    """Fetch with apt; returns what it complains of, empty where it did what it should."""
    state, debs = folder / "apt", folder / "debs"
    for each in (state / "lists" / "partial", state / "cache" / "archives" / "partial", debs):
        each.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    signed = f"[signed-by={_KEYS}] " if _KEYS.exists() else ""
    (state / "sources.list").write_text(f"deb {signed}{archive} {SUITE} main\n")
    settings = {
        "APT::Architecture": recipe.architecture,
        "APT::Architectures::": recipe.architecture,
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    words = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    for verb in (["update"], ["download", *recipe.packages]):
        done = subprocess.run(["apt-get", "-qq", *words, *verb], cwd=debs, capture_output=True, text=True)
        if done.returncode or re.search(r"^[EW]: Failed", done.stderr, re.MULTILINE):
            complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
            return (complaints or [f"apt-get {verb[0]} ended with {done.returncode}"])[0]
    return ""


def pins(recipe: Recipe) -> list[str]:
    """Return what a device needs from wheels, as lines for pip: each in the version that runs here, and with its hashes
    where a checkout's lock (requirements/device.txt) names them.
    """
    wanted = {name: metadata.version(name) for name in _needed("skerry")}
    locked = _locked()
    return [
        " ".join([f"{name}=={version}", *(f"--hash={each}" for each in locked.get((name, version), ()))])
        for name, version in sorted(wanted.items())
        if name not in recipe.not_wheels
    ]


def _needed(distribution: str) -> set[str]:
    """Return what a distribution needs, and what that needs, without extras, by normal names."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            name, _, marker = line.partition(";")
            plain = re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", name.strip())[0]).lower()
            if "extra" in marker or "python_full_version" in marker or "python_version" in marker or plain in found:
                continue
            found.add(plain)
            waiting.append(plain)
    return found


def _locked() -> dict[tuple[str, str], list[str]]:
    lock = Path(skerry.__file__).parents[2] / "requirements" / "device.txt"
    found: dict[tuple[str, str], list[str]] = {}
    if lock.is_file():
        for entry in lock.read_text().replace("\\\n", " ").splitlines():
            named = re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry)
            if named:
                found[named[1], named[2]] = re.findall(r"--hash=(\S+)", entry)
    return found


def wheels(recipe: Recipe, folder: Path, *, afresh: bool) -> list[Path]:
    """Fetch the wheels that a device needs into a folder, and return their files.

    Raises:
        FetchError: no pip, or it could not fetch.
    """
    to = folder / "wheels"
    to.mkdir(parents=True, exist_ok=True)
    lines = pins(recipe)
    (folder / "wheels.txt").write_text("\n".join(lines) + "\n")
    compact = PYTHON.replace(".", "")
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--dest", str(to), "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    words += ["--abi", f"cp{compact}", "--abi", "abi3", "--abi", "none"]
    words += [word for each in recipe.platforms for word in ("--platform", each)]
    words += ["--require-hashes"] if all("--hash=" in line for line in lines) else []
    words += ["--no-cache-dir"] if afresh else []
    done = subprocess.run([*words, "-r", str(folder / "wheels.txt")], capture_output=True, text=True, env=_plain())
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        what = (complaints or ["no words"])[-1].removeprefix("ERROR: ")
        hint = "python -m ensurepip" if "No module named pip" in what else "is its package index within reach?"
        raise FetchError(f"pip could not fetch wheels for {recipe.architecture}: {what:.300}", hint=hint)
    return sorted(to.glob("*.whl"))


def _plain() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
