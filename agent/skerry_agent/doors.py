"""Who comes to the local API's socket: the agent's group passes through the folders that lead there, and sees no more.

A socket that the group may use is of no use in a folder that it may not enter. What else lies in the agent's folder
stays the owner's alone, whatever the umask was when it was written.
"""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

PASS = stat.S_IXGRP


def open_to_group(root: Path, run: Path) -> None:
    """Let the group pass through `root` into `run`, after everything else in `root` was closed to it.

    A folder of somebody else's is left as it is: he has said who may enter.
    """
    with contextlib.suppress(OSError):
        for entry in root.iterdir():
            mode = entry.lstat().st_mode
            if entry != run and mode & 0o077 and not stat.S_ISLNK(mode):
                with contextlib.suppress(OSError):
                    entry.chmod(stat.S_IMODE(mode) & 0o700)
        for folder in (run, root):
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & PASS:
                folder.chmod(mode | PASS)
