"""One `skerry agent` command in a container, as a process: what it prints is printed here, what ends this ends it.

    python -m skerry_simulators.images.runner PLAN.json agent run --root FOLDER

The folder becomes the container's /var/lib/skerry and the `--root` goes, so that the container is used as
docs/docker.md says. It stays when it has ended; whoever made the plan removes it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry_simulators.errors import SimulatorError
from skerry_simulators.images import base, engine

STATE = "/var/lib/skerry"
STOP_S = 30
_SECOND_NS = 1_000_000_000


def options(plan: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return how the container of a command is made.

    Raises:
        SimulatorError: no command of the agent in a folder.
    """
    if list(words[:1]) != ["agent"] or "--root" not in words[:-1]:
        raise SimulatorError("no command of the agent in a folder", hint="agent run --root FOLDER")
    at = list(words).index("--root")
    folder = Path(words[at + 1]).absolute()
    user = base.USER_ID if os.geteuid() == 0 else os.geteuid()
    mounts = {str(folder): {"bind": STATE, "mode": "rw"}}
    mounts |= {source: {"bind": place, "mode": "ro"} for place, source in plan["files"].items()}
    return {
        "image": plan["image"],
        "command": [*words[1:at], *words[at + 2 :]],
        "user": f"{user}:{user if user == base.USER_ID else os.getegid()}",
        "volumes": mounts,
        "environment": plan["environment"],
        "labels": {**plan["labels"], "skerry.folder": folder.name},
        "network_mode": "host",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "healthcheck": {"interval": plan["health_s"] * _SECOND_NS, "timeout": 60 * _SECOND_NS, "retries": 3},
    }


def give(folder: Path) -> None:
    """Let the image's user own a folder with all in it, where this is root."""
    if os.geteuid() != 0:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, base.USER_ID, base.USER_ID, follow_symlinks=False)


def run(plan: dict[str, Any], words: Sequence[str]) -> int:
    """Run a command in a container of its own; returns its exit code.

    Raises:
        SimulatorError: no engine, no image, or the engine refuses.
    """
    wanted = options(plan, words)
    give(Path(next(iter(wanted["volumes"]))))
    found = engine.connect(plan["engine"])
    with engine.mapped("the container cannot be run"):
        container = found.client.containers.create(**wanted)

        def stop(*_: object) -> None:  # in a thread: the library is in the middle of something else
            threading.Thread(target=container.stop, kwargs={"timeout": STOP_S}, daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        lines = container.attach(stream=True, logs=True, demux=True)
        container.start()
        for out, err in lines:
            for said, to in ((out, sys.stdout), (err, sys.stderr)):
                if said:
                    to.buffer.write(said)
                    to.buffer.flush()
        code = int(container.wait()["StatusCode"])
    found.close()
    return code


if __name__ == "__main__":
    try:
        sys.exit(run(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2:]))
    except SimulatorError as error:
        sys.exit(f"skerry: error: {error} ({error.hint})")
