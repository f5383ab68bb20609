"""Where the time of generated C goes: every operation of a network by itself, beside the machine's peak.

    python benchmarks/native_layers.py mobilenetv2 efficientnet --precision int8 --top 12

Without names, only the totals of all networks: those of compiler_dense.py and of other_networks.py. Least times of many
rounds on one core, ONNX Runtime's default beside them; bytes are calibrated once ("p99.99") without any repair.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_dense, compiler_roofline, other_networks

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine as Processor
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.quantise import Precision
from skerry_targets import host

ROUNDS = 30
ROWS = 4
CALL = re.compile(r"^  (op_\d+)\((.*)\);$", re.M)
COUNTER = """
#if defined(__x86_64__)
#define TICKS() __builtin_ia32_rdtsc()
#else
#define TICKS() __builtin_readcyclecounter()
#endif
PUBLIC uint64_t skerry_ticks[{count}];
"""
Feed = dict[str, Any]


def timed(text: str) -> tuple[str, list[str]]:
    """Return the C with the least ticks of each operation kept in skerry_ticks, and the operations' names."""
    head, tail = text.split("PUBLIC int32_t skerry_run", 1)
    names: list[str] = []

    def call(found: re.Match[str]) -> str:
        names.append(found[1])
        slot = f"skerry_ticks[{len(names) - 1}]"
        return (
            f"  {{ const uint64_t t = TICKS(); {found[1]}({found[2]}); const uint64_t d = TICKS() - t; "
            f"if (d < {slot}) {slot} = d; }}"
        )

    tail = CALL.sub(call, tail)
    return head + COUNTER.format(count=len(names)) + "PUBLIC int32_t skerry_run" + tail, names


def load(name: str, work: Path) -> tuple[onnx.ModelProto, list[Feed]]:
    """Return a network and a few inputs."""
    if name in other_networks.NETWORKS:
        given = other_networks.rows(name, ROWS, 1)
        return other_networks.build(name), [{"x": given[i : i + 1]} for i in range(ROWS)]
    path, calibration, _ = builders()[name](work)
    model, stored = onnx.load(path), np.load(calibration)
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in model.graph.input}
    for each in model.graph.input:
        for size in each.type.tensor_type.shape.dim:
            size.dim_value = size.dim_value or 1
    return model, [
        {key: stored[key][i : i + 1] if stored[key].ndim == ranks[key] else stored[key][i] for key in stored}
        for i in range(ROWS)
    ]


def builders() -> dict[str, Callable[[Path], compiler_dense.Files]]:
    """Return how each network that is not in other_networks.py is made."""
    return compiler_roofline.builders()


def runner(
    opened: ctypes.CDLL, inputs: list[Any], shapes: list[tuple[int, ...]]
) -> tuple[Callable[[], Any], list[Any]]:
    """Return a call of the library and where its outputs go."""
    outputs = [np.zeros(shape, np.float32) for shape in shapes]
    given, taken = ((ctypes.c_void_p * len(each))(*(a.ctypes.data for a in each)) for each in (inputs, outputs))
    return lambda: opened.skerry_run(given, taken), outputs


def least(function: Callable[[], Any], rounds: int) -> float:
    """Return the least seconds of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(name: str, precision: str, top: int, work: Path, say: Callable[[str], None]) -> float:
    """Measure a network at a precision and say what was found; returns ONNX Runtime's time over ours."""
    model, feeds = load(name, work)
    profile = host.host_profile()
    network = network_of(model)
    ranges = calibrate(network, model, feeds, "p99.99") if precision == "int8" else None
    source = generate(model, machine_of(profile), ranges=ranges, precision=Precision(), tiles=precision == "fp32")
    text, names = timed(source.c)
    path = work / f"{name}-{precision}.so"
    path.write_bytes(build.artifact(text, Processor.of(profile), source.weights))
    opened = ctypes.CDLL(str(path))
    ticks = (ctypes.c_uint64 * len(names)).in_dll(opened, "skerry_ticks")
    ticks[:] = [1 << 62] * len(names)
    inputs = [np.ascontiguousarray(feeds[0][key]) for key, _ in network.inputs]
    call, outputs = runner(opened, inputs, [shape for _, shape in network.outputs])
    ours = least(call, ROUNDS)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    theirs = least(lambda: session.run(None, feeds[0]), ROUNDS // 2)
    found, wanted = (np.concatenate([o.ravel() for o in each]) for each in (outputs, session.run(None, feeds[0])))
    cosine = float(found @ wanted / np.sqrt((found @ found) * (wanted @ wanted)))
    say(
        f"{name:<13} {precision}  {ours * 1e3:8.3f} ms  {theirs / ours:6.2f}x  cosine {cosine:.5f}  "
        f"arena {source.arena_bytes >> 10} KiB, weights {len(source.weights) >> 10} KiB"
    )
    if top:
        layers(source, names, [t * ours / sum(ticks) for t in ticks], top, say)
    return theirs / ours


def layers(source: Source, names: list[str], seconds: list[float], top: int, say: Callable[[str], None]) -> None:
    """Say which operations take most, by the comments that head their functions."""
    comments = {found[2]: found[1] for found in re.finditer(r"/\* ([^\n]*) \*/\nstatic void (op_\d+)\(", source.c)}
    order = sorted(range(len(names)), key=lambda i: -seconds[i])
    for i in order[:top]:
        say(f"  {seconds[i] * 1e6:9.1f} us  {100 * seconds[i] / sum(seconds):5.1f} %  {comments[names[i]]}")


def main() -> int:
    known = [*builders(), *other_networks.NETWORKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(known))
    parser.add_argument("--precision", nargs="+", choices=["fp32", "int8"], default=["fp32", "int8"])
    parser.add_argument("--top", type=int, help="how many operations to show of each network")
    arguments = parser.parse_args()
    top = arguments.top if arguments.top is not None else 10 if arguments.names else 0
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        for name in arguments.names or known:
            for precision in arguments.precision:
                measure(name, precision, top, Path(work), lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
