"""Samples through kills and a bad network (benchmarks/agent.py): the long form of `skerry sim chaos`."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.agent_options import Options

KILLS, CUTS, LONGEST_S = 20, 5, 60
LIMIT_S = 3 * 3600


def samples(options: Options) -> dict[str, float]:
    """Return how many samples were stored, lost and stored twice."""
    command = [sys.executable, "-m", "skerry", "sim", "chaos", "--json", "--samples", str(options.samples)]
    command += ["--seed", str(options.seed), "--kills", str(KILLS), "--cuts", str(CUTS), "--longest-s", str(LONGEST_S)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
    if not done.stdout:
        raise RuntimeError(f"skerry sim chaos ended with {done.returncode}")
    found = json.loads(done.stdout)
    for words in found["wrong"]:
        print(f"samples: {words}", file=sys.stderr)
    return {
        "samples": found["stored"],
        "samples_lost": found["lost"],
        "samples_duplicated": found["duplicated"],
        "samples_kills": found["kills"],
        "samples_rate": found["rate"],
        "samples_given_up": found["given_up"],
    }
