"""Python sources compiled ahead, so that a device with a read-only file system starts fast, and to the same bytes.

The compiler is the Python of the image's own suite, in its build for this machine: byte code is the same on every
machine of one word size and byte order. It is called through its own dynamic loader, so that nothing is installed. The
files are checked by nobody (PEP 552, "unchecked-hash"): an image's sources do not change.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from skerry_simulators.debian.tree import Tree
from skerry_simulators.errors import SimulatorError

_PROGRAM = """\
import compileall, sys
from py_compile import PycInvalidationMode
root, *folders = sys.argv[1:]
bad = [each for each in folders if not compileall.compile_dir(f"{root}/{each}", quiet=1, stripdir=root, prependdir="/",
       invalidation_mode=PycInvalidationMode.UNCHECKED_HASH, workers=1)]
sys.exit(bool(bad))
"""


class Compiler:
    """The Python of a tree that runs on this machine; a context."""

    def __init__(self, tree: Tree) -> None:
        self._made = tempfile.TemporaryDirectory(prefix="skerry-python-")
        self._root = Path(self._made.name)
        tree.write(self._root)

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._made.cleanup()

    def compile(self, tree: Tree, *folders: str) -> None:
        """Add the byte code of every source below these folders of a tree to it.

        Raises:
            SimulatorError: the Python does not run here.
        """
        loader = next(iter(sorted(self._root.glob("usr/lib*/**/ld-linux*.so.*"))), None)
        python = next(iter(sorted(self._root.glob("usr/bin/python3.*[0-9]"))), None)
        if loader is None or python is None:
            raise SimulatorError("the tree has no Python", hint="name a suite of Debian that has one")
        libraries = ":".join(str(each) for each in sorted(self._root.glob("usr/lib/*-linux-gnu*")))
        with tempfile.TemporaryDirectory(prefix="skerry-sources-") as made:
            root = Path(made)
            for path, node in tree:
                if node.kind == "file" and path.endswith(".py") and path.startswith(tuple(folders)):
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(node.data)
            words = [
                str(loader),
                "--library-path",
                libraries,
                str(python),
                "-P",
                "-s",
                "-S",
                "-c",
                _PROGRAM,
                made,
                *folders,
            ]
            # Sets of text in constants are written in the order of their hashes.
            environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
            done = subprocess.run(words, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
            if done.returncode:
                last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
                raise SimulatorError(f"byte code: {last:.300}", hint="the sources and the Python must be of one suite")
            for made_file in sorted(root.rglob("*.pyc")):
                tree.file(made_file.relative_to(root).as_posix(), made_file.read_bytes())
