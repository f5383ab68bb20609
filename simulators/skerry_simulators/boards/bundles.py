"""The bundles of a board's run, compiled as a user's are: a sound one, an unsound one, and some for other boards.

    python -m skerry_simulators.boards.bundles FOLDER sound=raspberry-pi-4 unsound=raspberry-pi-4 sibling=raspberry-pi-5

All are of one small classifier. The unsound one is right on everything it was tested with; what lies further out it
scales by the square root of a negative number, and answers NaN: only service shows it.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler import compiling, files
from skerry_compiler.request import Request
from skerry_contracts import container
from skerry_targets import catalogue

MODEL, INPUT = "shapes", "x"
PIXELS, HIDDEN, CLASSES = 64, 48, 10
LARGEST, ROOM = 0.4, 40.0  # of a pixel in what it was tested with; the sum at which the unsound one breaks
UNSOUND = "unsound"
TIME_S = 5.0  # for measuring a bundle that runs on this machine


@dataclasses.dataclass(frozen=True, slots=True)
class Vectors:
    """A bundle's golden vectors: inputs f32[n,64], outputs f32[n,10], and how far answers may be off."""

    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    atol: float
    rtol: float

    def right(self, row: int, answer: object) -> bool:
        """Return whether an answer to a row is right, and its best class the same."""
        found, wanted = np.asarray(answer, np.float32).reshape(-1), self.outputs[row]
        near = np.allclose(found, wanted, rtol=self.rtol, atol=self.atol)
        return bool(near and found.argmax() == wanted.argmax())


def odd() -> bytes:
    """Return an input as nobody tested: a picture that is white all over."""
    return np.ones((1, PIXELS), np.float32).tobytes()


def vectors(bundle: Path) -> Vectors:
    """Return the golden vectors of a bundle file."""
    with files.opened(bundle) as opened:
        golden = opened.manifest.golden
        sides = [np.frombuffer(opened.read_blob(each.sha256), np.float32) for each in (golden.inputs, golden.outputs)]
        inputs, outputs = (each.reshape(golden.count, -1) for each in sides)
        return Vectors(inputs, outputs, golden.atol, golden.rtol)


def network(seed: int, *, sound: bool) -> onnx.ModelProto:
    """Return the classifier, with weights by a seed."""
    draw = np.random.default_rng(seed)
    weights = {
        "w1": (draw.standard_normal((PIXELS, HIDDEN)) * 0.2).astype(np.float32),
        "b1": (draw.standard_normal(HIDDEN) * 0.1).astype(np.float32),
        "w2": (draw.standard_normal((HIDDEN, CLASSES)) * 0.2).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", [INPUT, "w1", "b1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
    ]
    if not sound:
        weights |= {"room": np.array([ROOM], np.float32), "axis": np.array([1], np.int64)}
        nodes += [
            helper.make_node("ReduceSum", [INPUT, "axis"], ["sum"], keepdims=1),
            helper.make_node("Sub", ["room", "sum"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["scale"]),
            helper.make_node("Mul", ["c", "scale"], ["scaled"]),
        ]
    nodes.append(helper.make_node("Softmax", ["c" if sound else "scaled"], ["y"]))
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, PIXELS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(each, name) for name, each in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compile_all(folder: Path, wanted: dict[str, str]) -> None:
    """Compile a bundle `NAME.skerry` for each name's target; releases count upward in their order."""
    rows = np.random.default_rng(0).uniform(0, LARGEST, (64, PIXELS)).astype(np.float32)
    np.savez(folder / "rows.npz", x=rows)
    for release, (name, target) in enumerate(wanted.items(), 1):
        source = folder / f"{name}.onnx"
        source.write_bytes(network(release, sound=name != UNSOUND).SerializeToString())
        request = Request(
            source=source,
            profile=catalogue.get(target),
            model=MODEL,
            version=f"{release}.0",
            release=release,
            calibration=folder / "rows.npz",
            engines=("native",),
            like=frozenset({"native"}),
            time_s=TIME_S,
        )
        result = compiling.compile_model(request, 0.0, lambda _: None)
        files.write(folder / f"{name}.skerry", result.manifest_bytes, result.blobs, None)


def bundle_id(bundle: Path) -> str:
    """Return what the fleet calls a bundle file."""
    with bundle.open("rb") as file:
        return container.open_container(file).bundle_id


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:]))
