"""Times generated libraries on this machine, in a process of its own: `python -m skerry_compiler.repair.clock SECONDS
LIB...` prints the least processor time of one inference of each in ns, as JSON.

Rough on purpose: it only says which ways of placing bytes cannot win. What ships is measured beside the original, in
the device's own runtime. Inputs are zeros, since dense kernels take as long whatever they are given. The time is the
thread's: below a limit of processor time (the sandbox has one) Linux counts that of the process in ticks only.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROUNDS = 8
ROUND_S = 0.01


def main(arguments: Sequence[str]) -> int:
    """Time libraries in interleaved rounds; returns the exit code."""
    runs = [_runner(Path(path)) for path in arguments[1:]]
    deadline = time.monotonic() + float(arguments[0])
    best = [float("inf")] * len(runs)
    counts = [1] * len(runs)
    for step in range(ROUNDS):
        if step > 1 and time.monotonic() > deadline:
            break
        for i, run in enumerate(runs):
            begun = time.thread_time_ns()
            for _ in range(counts[i]):
                run()
            each = (time.thread_time_ns() - begun) / counts[i]
            best[i] = min(best[i], each)
            counts[i] = max(1, min(1000, int(ROUND_S * 1e9 / max(1.0, each))))
    print(json.dumps(best))
    return 0


def _runner(path: Path) -> Callable[[], None]:
    library = ctypes.CDLL(str(path))
    heads = (ctypes.c_uint64 * 2).in_dll(library, "skerry_sizes")
    inputs, outputs = int(heads[0]), int(heads[1])
    sizes = list((ctypes.c_uint64 * (2 + inputs + outputs)).in_dll(library, "skerry_sizes"))[2:]
    buffers = [ctypes.create_string_buffer(size + 64) for size in sizes]
    places = [ctypes.addressof(each) + -ctypes.addressof(each) % 64 for each in buffers]
    given = (ctypes.c_void_p * max(1, inputs))(*places[:inputs])
    taken = (ctypes.c_void_p * max(1, outputs))(*places[inputs:])

    def run() -> None:
        if library.skerry_run(given, taken):
            raise SystemExit(f"{path.name}: the library refused its input")

    run.buffers = buffers  # type: ignore[attr-defined]  # they live as long as the function
    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
