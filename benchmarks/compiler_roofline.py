"""Which share of the machine's arithmetic peak the shipped networks reach.

A network's useful operations are two for every multiply-add of its convolutions and products as the original graph
has them: nothing for padding, for what an instruction computes in vain, or for anything else. They are divided by the
processor time of the shipped variant as `skerry bench` measures it, and by the peak at the variant's precision: what a
loop of independent multiply-adds (float32), products of pairs (bfloat16) or dot products of bytes reaches in registers
on this machine, measured here. `roofline_percent` is the median over the networks. A variant in Winograd's form may
exceed its peak.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_dense, compiler_edge

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine as Processor
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.vectors import prelude
from skerry_targets import host

ROUNDS, STEPS, SUMS = 100, 200_000, 12
PEAK = """
{prelude}
#define PUBLIC __attribute__((visibility("default"), used))
PUBLIC float floats(void) {{
  f32x{n} {floats};
  f32x{n} x = all{n}(0.999f);
  __asm__ volatile("" : "+{register}"(x));
  for (int i = 0; i < {steps}; i++) {{
    {multiply}
    __asm__ volatile("" ::: "memory");
  }}
  return sum{n}({total});
}}
PUBLIC float halves(void) {{
  f32x{n} {floats};
  i32x{n} x = (i32x{n}){{}} + 0x3f003f00;
  __asm__ volatile("" : "+{register}"(x));
  for (int i = 0; i < {steps}; i++) {{
    {pairs}
    __asm__ volatile("" ::: "memory");
  }}
  return sum{n}({total});
}}
PUBLIC int32_t bytes(void) {{
  i32x{n} {bytes};
  i32x{n} x = (i32x{n}){{}} + 0x01020304;
  __asm__ volatile("" : "+{register}"(x));
  for (int i = 0; i < {steps}; i++) {{
    {dot}
    __asm__ volatile("" ::: "memory");
  }}
  return (int32_t)sum{n}(real{n}({total}));
}}
"""


def peaks() -> dict[str, float]:
    """Return operations a second at each precision on one core."""
    profile = host.host_profile()
    machine = machine_of(profile)
    n = machine.lanes
    register = "w" if profile.abi.machine == "aarch64" else "v" if profile.cpu.vector_bits == 512 else "x"
    names = [f"a{i}" for i in range(SUMS)]
    text = PEAK.format(
        prelude=prelude(machine), n=n, steps=STEPS, register=register,
        floats=", ".join(f"{a} = all{n}({i}.f)" for i, a in enumerate(names)),
        bytes=", ".join(f"{a} = (i32x{n}){{}} + {i}" for i, a in enumerate(names)),
        multiply=" ".join(f"{a} = {a} * x + x;" for a in names),
        pairs=" ".join(f"{a} = pairs{n}({a}, x, x);" for a in names),
        dot=" ".join(f"{a} = {machine.dot}{n}({a}, x, x);" for a in names),
        total=" + ".join(names),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        path = Path(folder) / "peak.so"
        path.write_bytes(build.artifact(text, Processor.of(profile), b""))
        functions = ctypes.CDLL(str(path))
        done = STEPS * SUMS * n * 2
        found = {"fp32": done / _least(functions.floats), "int8": 4 * done / _least(functions.bytes)}
        return found | ({"bf16": 2 * done / _least(functions.halves)} if machine.halves else {})


def _least(function: Callable[[], Any]) -> float:
    """Return the least processor time of a call."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def useful(path: Path) -> int:
    """Return the operations of a model's convolutions and products: two for each multiply-add."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    shapes = {each.name: list(each.dims) for each in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        dims = [max(1, each.dim_value) for each in value.type.tensor_type.shape.dim]  # an open batch is one
        shapes.setdefault(value.name, dims)
    count = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight = shapes[node.input[1]]
            count += 2 * int(np.prod(shapes[node.output[0]])) * int(np.prod(weight[1:]))
        elif node.op_type == "ConvTranspose":
            weight = shapes[node.input[1]]
            count += 2 * int(np.prod(shapes[node.input[0]])) * int(np.prod(weight[1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            inside = shapes[node.input[0]]
            turned = any(each.name == "transA" and each.i for each in node.attribute)
            count += 2 * int(np.prod(shapes[node.output[0]])) * inside[-2 if turned else -1]
    return count


def figures(work: Path, say: Callable[[str], None], only: Sequence[str] = ()) -> dict[str, float]:
    """Return the share of each network and their median; bundles that other benchmarks left in `work` are used."""
    peak = peaks()
    say(f"peak of one core: {peak['fp32'] / 1e9:.0f} GFLOP/s in float32, {peak['int8'] / 1e9:.0f} Gop/s in bytes")
    made: dict[str, float] = {}
    known = builders()
    for name in only or known:
        files = known[name](work)
        found = compiler_dense.benched(compiler_dense.compiled(name, files, work), files)["bundle"]
        per_second = useful(files[0]) / (found["cpu_ms"] / 1e3)
        share = 100 * per_second / peak.get(found["precision"], peak["fp32"])
        made[f"{name}_roofline_percent"] = share
        say(f"{name:<12} {found['variant']:<28} {per_second / 1e9:7.0f} Gop/s  {share:5.1f} % of peak")
    made["roofline_percent"] = median(made.values())
    return made


def builders() -> dict[str, Callable[[Path], compiler_dense.Files]]:
    """Return how each network and its rows are written: the real ones that are here, and the dense ones."""
    real = {name: functools.partial(compiler_edge.build, name) for name in compiler_edge.here()}
    return {**real, **compiler_dense.builders()}


if __name__ == "__main__":
    sys.exit(compiler_dense.command(__doc__ or "", figures, list(builders())))
