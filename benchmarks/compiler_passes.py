"""What each pass gains on ONNX Runtime with its default optimisations: the graph without and with it, interleaved.

One thread, one process; a ratio above 1 is faster. Generated networks have seeded random weights; facemesh and kws are
the shared models. `same` is the largest difference as a share of the outputs' range.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler.engines import onnxruntime_bytes
from skerry_compiler.passes import base, pipelines
from skerry_compiler.passes.base import Pass
from skerry_compiler.passes.constant_fold import ConstantFold
from skerry_compiler.passes.dead_code import DeadCode
from skerry_compiler.passes.fixed_shapes import FixedShapes, inferred
from skerry_compiler.passes.fold_dequantised import FoldDequantised
from skerry_compiler.passes.fold_norm import FoldNorm
from skerry_compiler.passes.gates import Gates
from skerry_compiler.passes.hard_forms import HardForms
from skerry_compiler.passes.layer_norm import LayerNorm
from skerry_compiler.passes.plain_form import PlainForm
from skerry_compiler.passes.prelu import PReluForms
from skerry_compiler.passes.quantise_dynamic import QuantiseDynamic
from skerry_compiler.passes.redundant import Redundant
from skerry_compiler.passes.single_form import SingleForm
from skerry_targets import host

MODELS = Path(os.environ.get("SKERRY_MODELS", Path(__file__).parents[2] / "shared" / "models"))
ROUNDS, ROUND_S = 15, 0.05


class Net:
    """A chain of nodes with seeded weights; every method returns the name of what it made."""

    def __init__(self, *shape: int) -> None:
        self.random = np.random.default_rng(len(shape))
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.shape = shape

    def put(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def hold(self, content: NDArray[Any] | float) -> str:
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(content, getattr(content, "dtype", np.float32)), name))
        return name

    def weight(self, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return self.hold((self.random.standard_normal(shape) * fan**-0.5).astype(np.float32))

    def conv(self, x: str, inputs: int, outputs: int, size: int = 1, groups: int = 1) -> str:
        border = [size // 2] * 4
        weights = self.weight(outputs, inputs // groups, size, size), self.weight(outputs)
        return self.put("Conv", x, *weights, kernel_shape=[size, size], pads=border, group=groups)

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        return self.put("Add", self.put("MatMul", x, self.weight(inputs, outputs)), self.weight(outputs))

    def norm(self, x: str, channels: int) -> str:
        parts = [1 + 0.1 * self.random.standard_normal(channels) for _ in range(4)]
        names = [self.hold(np.abs(part).astype(np.float32)) for part in parts]
        return self.put("BatchNormalization", x, *names)

    def model(self, y: str, opset: int = 17) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", self.shape), (y, None))]
        graph = helper.make_graph(self.nodes, "net", values[:1], values[1:], self.stored)
        return inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def transposed_norms() -> onnx.ModelProto:
    net, x = Net(1, 32, 24, 24), "x"
    for _ in range(4):
        x = net.put("ConvTranspose", x, net.weight(32, 32, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = net.put("Relu", net.norm(x, 32))
    return net.model(x)


def sloped(channels: int) -> onnx.ModelProto:
    net, x = Net(1, channels, 48, 48), "x"
    for _ in range(6):
        slope = net.hold(net.random.uniform(0, 0.4, (channels, 1, 1)).astype(np.float32))
        x = net.put("PRelu", net.conv(net.conv(x, channels, channels, 3, channels), channels, channels), slope)
    return net.model(x)


def hard_swish() -> onnx.ModelProto:
    net, x = Net(1, 48, 32, 32), "x"
    three, zero, six = (net.hold(each) for each in (3.0, 0.0, 6.0))
    for _ in range(6):
        x = net.conv(x, 48, 48, 3)
        gate = net.put("Clip", net.put("Add", x, three), zero, six)
        x = net.put("Div", net.put("Mul", x, gate), six)
    return net.model(x)


def silu() -> onnx.ModelProto:
    net, x = Net(1, 48, 32, 32), "x"
    for _ in range(6):
        x = net.conv(x, 48, 48, 3)
        x = net.put("Mul", x, net.put("Sigmoid", x))
    return net.model(x)


def encoder(width: int = 256, positions: int = 64) -> onnx.ModelProto:
    """Feed-forward layers whose GELU and LayerNormalization are taken apart, as exporters below opset 17 write them."""
    net, x = Net(1, positions, width), "x"
    two, half, one, epsilon, root = (net.hold(each) for each in (2.0, 0.5, 1.0, 1e-5, 2**0.5))
    for _ in range(4):
        inner = net.dense(x, width, 4 * width)
        gate = net.put("Add", net.put("Erf", net.put("Div", inner, root)), one)
        x = net.put("Add", x, net.dense(net.put("Mul", net.put("Mul", inner, gate), half), 4 * width, width))
        centred = net.put("Sub", x, net.put("ReduceMean", x, axes=[-1]))
        variance = net.put("ReduceMean", net.put("Pow", centred, two), axes=[-1])
        scaled = net.put("Div", centred, net.put("Sqrt", net.put("Add", variance, epsilon)))
        x = net.put("Add", net.put("Mul", scaled, net.weight(width)), net.weight(width))
    return net.model(x)


def turned() -> onnx.ModelProto:
    net, x = Net(1, 32, 40, 40), "x"
    for _ in range(6):
        x = net.put("Relu", net.conv(x, 32, 32, 1))
        x = net.put("Transpose", net.put("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
        x = net.put("Cast", net.put("Cast", x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT)
    return net.model(x)


def stored_bytes() -> onnx.ModelProto:
    net, x = Net(1, 64, 12, 12), "x"
    for _ in range(6):
        weight = net.hold(net.random.integers(-127, 128, (64, 64, 1, 1)).astype(np.int8))
        scale = net.hold(net.random.uniform(5e-4, 2e-3, 64).astype(np.float32))
        real = net.put("DequantizeLinear", weight, scale, net.hold(np.zeros(64, np.int8)), axis=0)
        x = net.put("Relu", net.put("Conv", x, real, kernel_shape=[1, 1]))
    return net.model(x)


def halves() -> onnx.ModelProto:
    """A float16 network with float32 ends, as converters leave it."""
    net, x = Net(1, 32, 32, 32), "x"
    x = net.put("Cast", x, to=TensorProto.FLOAT16)
    for _ in range(4):
        weight = net.hold((net.random.standard_normal((32, 32, 3, 3)) / 17).astype(np.float16))
        x = net.put("Relu", net.put("Conv", x, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    return net.model(net.put("Cast", x, to=TensorProto.FLOAT))


def shared(name: str) -> onnx.ModelProto:
    fixed: list[Pass] = [PlainForm(), FixedShapes({}), ConstantFold(), DeadCode()]
    return base.run_all(onnx.load(MODELS / f"{name}.onnx"), fixed)


Case = tuple[str, Callable[[], onnx.ModelProto], Callable[[], Pass]]
CASES: dict[str, Case] = {
    "fold-norm": ("transposed convolutions", transposed_norms, FoldNorm),
    "prelu-forms": ("48 channels", lambda: sloped(48), PReluForms),
    "prelu-forms, odd": ("20 channels", lambda: sloped(20), PReluForms),
    "prelu-forms, facemesh": ("facemesh", lambda: shared("facemesh"), PReluForms),
    "hard-forms": ("3x3 convolutions", hard_swish, lambda: HardForms(swish=False)),
    "gates, silu": ("3x3 convolutions", silu, lambda: Gates(("QuickGelu",))),
    "gates, gelu": ("encoder", encoder, lambda: Gates(("Gelu",))),
    "layer-norm": ("encoder", encoder, LayerNorm),
    "redundant": ("1x1 convolutions", turned, Redundant),
    "fold-dequantised": ("1x1 convolutions", stored_bytes, FoldDequantised),
    "fold-dequantised, kws": ("kws", lambda: shared("kws"), FoldDequantised),
    "quantise-dynamic": ("encoder", encoder, lambda: QuantiseDynamic(reduce_range=False)),
    "single-form": ("float16 convolutions", halves, SingleForm),
}


def opened(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def best_ms(sessions: list[Any], feeds: Mapping[str, NDArray[Any]]) -> list[float]:
    """Return each session's least processor time of one inference over interleaved rounds."""
    best = [float("inf")] * len(sessions)
    for _ in range(ROUNDS):
        for place, session in enumerate(sessions):
            start, runs = time.process_time(), 0
            while time.process_time() - start < ROUND_S:
                session.run(None, feeds)
                runs += 1
            best[place] = min(best[place], (time.process_time() - start) / runs * 1e3)
    return best


def measure(build: Callable[[], onnx.ModelProto], chosen: Pass) -> dict[str, float]:
    before = build()
    copy = onnx.ModelProto()
    copy.CopyFrom(before)
    after = inferred(base.run_all(copy, [chosen, DeadCode()]))
    value = before.graph.input[0]
    shape = [each.dim_value for each in value.type.tensor_type.shape.dim]
    feeds = {value.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    sessions = [opened(before), opened(after)]
    one, two = (session.run(None, feeds) for session in sessions)
    off = max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-9)) for a, b in zip(one, two, strict=True))
    plain, passed = best_ms(sessions, feeds)
    return {"without_ms": round(plain, 4), "with_ms": round(passed, 4), "gain": round(plain / passed, 3), "same": off}


def skips(name: str) -> dict[str, dict[str, float]]:
    """Return speed against float and worst held-out cosine by the number of first layers that stay in float."""
    model = pipelines.rewritten(shared(name), pipelines.bytes_on_onnxruntime())
    value = model.graph.input[0]
    shape = [each.dim_value for each in value.type.tensor_type.shape.dim]
    stored = np.load(MODELS / f"{name}.calibration.npz")
    rows = {value.name: stored[stored.files[0]].astype(np.float32).reshape(-1, *shape[1:])}
    tried = onnxruntime_bytes.trials(model, host.host_profile(), rows, 600.0)
    plain = onnxruntime_bytes.seconds(opened(model), None, {value.name: rows[value.name][:1]})
    return {f"skip {each.skip}": {"gain": plain / each.seconds, "cosine": each.cosine} for each in tried}


def main() -> None:
    """Measure the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--skips", metavar="MODEL", help="a shared model in 8 bits, its first layers in float")
    chosen = parser.parse_args()
    if chosen.skips:
        print(json.dumps(skips(chosen.skips), indent=1))
        return
    found = {}
    for name in chosen.case or CASES:
        what, build, made = CASES[name]
        if what in ("facemesh", "kws") and not (MODELS / f"{what}.onnx").exists():
            continue
        found[name] = {"network": what, **measure(build, made())}
        if not chosen.json:
            print(f"{name:24} {what:26} {found[name]['gain']:6.2f}x  off {found[name]['same']:.1g}", flush=True)
    if chosen.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
