"""A text encoder as exporters write it, compiled for this machine, beside ONNX Runtime's default.

Six layers of 384 with twelve heads, a feed-forward part of 1536 and 128 positions, post-norm, exact GELU: the size of
the small sentence encoders. Weights are random with a fixed seed, so speed is real and agreement is that of random
weights. Each layer is MatMul + Add, Reshape and Transpose around the heads, Div, Softmax, LayerNormalization, and GELU
by Erf, none of it fused in advance.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LAYERS, WIDTH, HEADS, INNER, POSITIONS = 6, 384, 12, 1536, 128
CALIBRATION_ROWS, EVALUATION_ROWS, SEED = 16, 8, 7


class Graph:
    """Collects nodes and seeded weights."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(SEED)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        """Add a random weight, by default of variance 1 / inputs; returns its name."""
        values = self.random.standard_normal(shape) * (shape[0] ** -0.5 if scale is None else scale)
        return self.constant(name, values.astype(np.float32))

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node of one output; returns the output's name."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def dense(self, x: str, name: str, inputs: int, outputs: int) -> str:
        """Add x W + b."""
        product = self.node("MatMul", [x, self.weight(f"{name}_w", inputs, outputs)], f"{name}_product")
        return self.node("Add", [product, self.weight(f"{name}_b", outputs, scale=0.02)], name)

    def norm(self, x: str, name: str) -> str:
        """Add a layer normalisation whose scales are as uneven as trained ones."""
        gain = self.constant(f"{name}_g", (1 + 0.3 * self.random.standard_normal(WIDTH)).astype(np.float32))
        return self.node("LayerNormalization", [x, gain, self.weight(f"{name}_o", WIDTH, scale=0.1)], name, axis=-1)

    def heads(self, x: str, name: str, perm: list[int]) -> str:
        """Add the split into heads."""
        shaped = self.node("Reshape", [x, "split"], f"{name}_split")
        return self.node("Transpose", [shaped], f"{name}_heads", perm=perm)


def layer(graph: Graph, x: str, at: str) -> str:
    """Add one encoder layer; returns its output."""
    q, k, v = (graph.dense(x, f"{at}_{part}", WIDTH, WIDTH) for part in "qkv")
    q, v = (graph.heads(each, each, [0, 2, 1, 3]) for each in (q, v))
    scores = graph.node("MatMul", [q, graph.heads(k, k, [0, 2, 3, 1])], f"{at}_scores")
    shares = graph.node("Softmax", [graph.node("Div", [scores, "root"], f"{at}_scaled")], f"{at}_shares", axis=-1)
    mixed = graph.node("MatMul", [shares, v], f"{at}_mixed")
    mixed = graph.node("Transpose", [mixed], f"{at}_mixed_back", perm=[0, 2, 1, 3])
    mixed = graph.node("Reshape", [mixed, "joined"], f"{at}_joined")
    summed = graph.node("Add", [x, graph.dense(mixed, f"{at}_out", WIDTH, WIDTH)], f"{at}_residual")
    x = graph.norm(summed, f"{at}_norm1")
    inner = graph.dense(x, f"{at}_up", WIDTH, INNER)
    bent = graph.node("Erf", [graph.node("Div", [inner, "root2"], f"{at}_e")], f"{at}_erf")
    bent = graph.node("Mul", [inner, graph.node("Add", [bent, "one"], f"{at}_plus")], f"{at}_gate")
    bent = graph.node("Mul", [bent, "half"], f"{at}_gelu")
    summed = graph.node("Add", [graph.dense(bent, f"{at}_down", INNER, WIDTH), x], f"{at}_residual2")
    return graph.norm(summed, f"{at}_norm2")


def model() -> onnx.ModelProto:
    """Return the encoder: f32[1, 128, 384] to f32[1, 128, 384]."""
    graph = Graph()
    graph.constant("split", np.array([1, POSITIONS, HEADS, WIDTH // HEADS]))
    graph.constant("joined", np.array([1, POSITIONS, WIDTH]))
    for name, value in (("root", (WIDTH / HEADS) ** 0.5), ("root2", 2**0.5), ("one", 1.0), ("half", 0.5)):
        graph.constant(name, np.array(value, np.float32))
    x = graph.node("Add", ["x", graph.weight("positions", 1, POSITIONS, WIDTH, scale=0.3)], "embedded")
    x = graph.norm(x, "norm0")
    for i in range(LAYERS):
        x = layer(graph, x, f"layer{i}")
    shape = [1, POSITIONS, WIDTH]
    made = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        graph.constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rows(count: int, seed: int) -> NDArray[np.float32]:
    """Return embedded texts f32[count, 128, 384]: words of a small vocabulary, some of them frequent."""
    vocabulary = np.random.default_rng(SEED + 1).standard_normal((1000, WIDTH)).astype(np.float32)
    random = np.random.default_rng(seed)
    words = np.minimum(random.zipf(1.3, (count, POSITIONS)), 1000) - 1
    chosen: NDArray[np.float32] = vocabulary[words]
    return chosen


def build(work: Path) -> tuple[Path, Path, Path]:
    """Write the encoder and its data; returns (model, calibration rows, evaluation rows)."""
    paths = work / "encoder.onnx", work / "encoder.calibration.npz", work / "encoder.evaluation.npz"
    onnx.save(model(), paths[0])
    np.savez(paths[1], x=rows(CALIBRATION_ROWS, SEED + 2))
    np.savez(paths[2], x=rows(EVALUATION_ROWS, SEED + 3))
    return paths


def figures(work: Path) -> dict[str, Any]:
    """Return what `skerry bench` says of the encoder's bundle."""
    path, calibration, evaluation = build(work)
    skerry = [sys.executable, "-m", "skerry"]
    words = ["--target", "host", "--model", "encoder", "--version", "1", "--release", "1", "--budget", "60"]
    words += ["--calibration", str(calibration), "--evaluation", str(evaluation), "-o", str(work / "encoder.skerry")]
    subprocess.run([*skerry, "compile", str(path), *words], check=True, stdout=subprocess.DEVNULL)
    words = ["bench", str(work / "encoder.skerry"), "--against", str(path), "--evaluation", str(evaluation), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run([*skerry, *words], check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> int:
    """Print the figures of the encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        found = figures(Path(work))
    if not arguments.json:
        print(f"{found['bundle']['variant']}: {found['ratio']['latency']:.2f}x, {found['agreement']}")
    ratio = {f"encoder_{key}": round(found["ratio"][name], 4) for key, name in
             (("speedup", "latency"), ("memory", "memory"))}  # fmt: skip
    print(json.dumps({"figures": {**ratio, "encoder_cosine": found["agreement"]["cosine"]}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
