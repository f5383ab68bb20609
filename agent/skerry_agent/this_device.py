"""Where the agent runs: the machine's facts, and the lock of a root folder. Apart from the daemon, so that a command
which needs no more does not load all of it: on a small board that takes seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
from pathlib import Path

from skerry_agent.engines import catalogue
from skerry_agent.errors import ConfigError
from skerry_contracts.device import Hardware
from skerry_targets import host


def this_hardware() -> Hardware:
    """Return the facts about this machine."""
    version = "unknown"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("skerry")
    return host.hardware(catalogue.available(), version)


def lock(root: Path) -> int:
    """Return a descriptor that keeps a second agent from this root.

    Raises:
        ConfigError: one runs already, or the folder cannot be written.
    """
    try:
        (root / "run").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"an agent already runs in {root}", hint="stop it first, or give another --root") from None
    except OSError as error:
        raise ConfigError(f"{root}: {error.strerror}", hint="give a --root that this user may write") from error
    return descriptor
