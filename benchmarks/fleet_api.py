"""What a stranger finds wrong with the API: schemathesis, unchanged, makes requests from the fleet's own OpenAPI
document and compares every answer with it. The fleet is a real one with its broker, and something of each kind in it.

It looks for server errors, statuses, types and shapes of answers that are not described, wrong input that is taken,
keys that are not needed after all, and objects that live on after their end. See docs/fleet.md.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fleet_options import Options
from tests.fleet.conftest import admin
from tests.fleet.described import furnish, run

from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig

PHASES = ("examples", "coverage", "fuzzing", "stateful")


def api(options: Options) -> dict[str, float]:
    """Return how many requests were made, and what was found."""
    with tempfile.TemporaryDirectory() as folder:
        config = FleetConfig(root=Path(folder) / "fleet", broker="embedded")
        app = create_app(config, time.time, random.Random(1).randbytes)
        with admin(app) as client:
            device = furnish(client)
            until = time.monotonic() + 30
            while client.get("/readyz").status_code != 200 and time.monotonic() < until:
                time.sleep(0.1)
            key = client.headers["authorization"].removeprefix("Bearer ")
            url, here = str(client.base_url), Path(folder)
            rounds = [
                run(url, key, here, options.api_examples, PHASES),
                run(url, device, here, options.api_examples, PHASES, "--include-tag", "device"),
            ]
    for code, said in rounds:
        if code:
            print(said, file=sys.stderr)
    cases = sum(int(found) for _, said in rounds for found in re.findall(r"(\d+) generated", said))
    found = sum(int(found) for _, said in rounds for found in re.findall(r"(\d+) found", said))
    errors = sum(int(found) for _, said in rounds for found in re.findall(r"Server error: (\d+)", said))
    if not cases:
        raise RuntimeError("schemathesis made no request; its words are above")
    return {"api_cases": cases, "api_server_errors": errors, "api_findings": found}
