"""The cloud's end as a process: pulls the fleet's feeds into a lake until it is told to stop, or killed.

`python -m skerry_simulators.chaos.puller FOLDER FLEET_URL KEY_FILE`
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

from skerry_cloud.database import Database
from skerry_cloud.errors import FleetError
from skerry_cloud.fleet_client import FleetClient
from skerry_cloud.lake.lake import Lake
from skerry_cloud.sync import pull

EVERY_S = 0.5
DATABASE = "cloud.db"


def run(folder: Path, url: str, key: str) -> None:
    """Pull, again and again."""
    lake = Lake(folder / "lake", Database(folder / DATABASE), writer=True)
    client = FleetClient(url, key)
    while True:
        with contextlib.suppress(FleetError):  # killed, and back in a moment
            pull(client, lake)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        run(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text().strip())
