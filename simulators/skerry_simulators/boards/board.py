"""One emulated board: a userland that many share, a processor's identity of its own, and the agent as it is here.

The board's Python is a script of this machine that calls QEMU, so that the agent starts its workers and helpers as on
any device, without binfmt_misc and without root. Landlock, seccomp and limits of address space are not QEMU's to give:
the agent finds them missing, and says so.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from importlib import metadata, util
from pathlib import Path

from skerry_simulators.boards import identity, recipes
from skerry_simulators.boards.recipes import PYTHON
from skerry_simulators.boards.userland import INTERPRETER, SITE, Userland
from skerry_simulators.errors import SimulatorError
from skerry_targets.profile import Profile

PACKAGES = ("skerry", "skerry_contracts", "skerry_targets", "skerry_agent")  # of the wheel, what a device loads
_SCRIPT = """\
#!/bin/sh
QEMU_LD_PREFIX='{root}' QEMU_CPU='{cpu}' exec '{emulator}' -0 "$0" '{interpreter}' "$@"
"""


class Board:
    """A folder in which a board's programs find everything where they look for it."""

    def __init__(self, profile: Profile, userland: Userland, agent: Path, folder: Path) -> None:
        """Lay the folder out.

        Raises:
            SimulatorError: no emulator here.
        """
        self.profile, self.folder = profile, folder
        recipe = recipes.of(profile)
        emulator = shutil.which(recipe.emulator)
        if emulator is None:
            raise SimulatorError(f"{recipe.emulator} is not here", hint="apt install qemu-user-static")
        self.python = folder / "bin" / f"python{PYTHON}"
        self.python.parent.mkdir(parents=True)
        root = userland.folder
        for name, to in {"usr": root / "usr", "lib": root / "usr" / "lib"}.items():
            (folder / name).symlink_to(to)
        site = folder / SITE.removeprefix("usr/")
        site.mkdir(parents=True)
        for each in (*(root / SITE).iterdir(), *agent.iterdir()):
            (site / each.name).symlink_to(each)
        identity.write(profile, folder)
        words = {
            "root": folder,
            "cpu": profile.cpu.qemu_cpu or "max",
            "emulator": emulator,
            "interpreter": root / INTERPRETER,
        }
        self.python.write_text(_SCRIPT.format(**{key: _quoted(value) for key, value in words.items()}))
        self.python.chmod(0o755)

    def skerry(self, *words: str) -> list[str]:
        """Return the command line of a `skerry` command on the board."""
        return [str(self.python), "-m", "skerry", *words]


# Python's own switches of this machine are none of the board's; its caches are in folders that may be written.
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": "", "PYTHONHOME": "", "LC_ALL": "C.UTF-8"}


def agent(root: Path) -> Path:
    """Return a folder that holds the agent as it is here, as its wheel lays it into a device's packages; made in the
    cache folder `root` where it is not there.
    """
    files = {path: content for name in PACKAGES for path, content in _files(name)}
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(f"{path} {len(content)} ".encode() + content)
    folder = root / f"agent-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agent-", dir=root) as made:
        to = Path(made) / "site"
        information = f"skerry-{metadata.version('skerry')}.dist-info/METADATA"
        files[information] = (metadata.distribution("skerry").read_text("METADATA") or "").encode()
        for path, content in files.items():
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (to / path).write_bytes(content)
        try:
            to.rename(folder)
        except OSError:  # another made it meanwhile
            if not folder.is_dir():
                raise
    return folder


def _files(package: str) -> list[tuple[str, bytes]]:
    found = util.find_spec(package)
    if found is None or found.origin is None:
        raise SimulatorError(f"the package {package} is not here", hint="pip install skerry[simulators]")
    top = Path(found.origin).parent
    return [
        (path.relative_to(top.parent).as_posix(), path.read_bytes())
        for path in sorted(top.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def _quoted(value: object) -> str:
    return str(value).replace("'", "'\\''")
