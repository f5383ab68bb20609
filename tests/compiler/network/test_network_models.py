"""Whole networks: agreement of the shared models, the same bytes twice, and no fault that the sanitizers see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from tests.compiler.network.conftest import call, machine, model, random, reference

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.form import SHARED
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import AVX2, NEON, PLAIN, SSE, SSE2, WASM
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.quantise import Precision
from skerry_compiler.errors import UnsupportedError

NAMES = ["kws", "vww", "resnet8", "ad", "facemesh", "ultraface"]
HARNESS = """
#include <stdint.h>
#include <stdlib.h>
extern const uint64_t skerry_sizes[];
int32_t skerry_run(const void *const *, void *const *);
int main(void) {
  void *in[8], *out[8];
  for (uint64_t i = 0; i < skerry_sizes[0]; i++) in[i] = calloc(1, skerry_sizes[2 + i]);
  for (uint64_t i = 0; i < skerry_sizes[1]; i++) out[i] = malloc(skerry_sizes[2 + skerry_sizes[0] + i]);
  return skerry_run((const void *const *)in, out);
}
"""


def cleaned(path: Path) -> onnx.ModelProto:
    """Return a model whose initializers are constants, as every compile begins."""
    proto = onnx.load(str(path))
    known = {i.name for i in proto.graph.initializer}
    kept = [i for i in proto.graph.input if i.name not in known]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return proto


def rows(folder: Path, name: str, which: str) -> list[dict[str, NDArray[np.float32]]]:
    content = np.load(folder / f"{name}.{which}.npz")
    (key,) = content.files
    return [{key: each[None].astype(np.float32)} for each in content[key]]


def worst_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))).min())


@pytest.mark.models
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_bytes", [False, True])
def test_shared_models_agree(name: Any, in_bytes: Any, models: Any, tmp_path: Any) -> None:
    proto = cleaned(models / f"{name}.onnx")
    feeds = rows(models, name, "evaluation")[:8]
    network = network_of(proto)
    chosen, processor = machine()
    kwargs: dict[str, Any] = {}
    if in_bytes:
        method = "minmax" if name == "ultraface" else "p99.999"
        kwargs["ranges"] = calibrate(network, proto, rows(models, name, "calibration"), method)
    source = generate(proto, chosen, **kwargs)
    path = tmp_path / "model.so"
    path.write_bytes(build.artifact(source.c, processor, source.weights))
    expected, actual = [], []
    for feed in feeds:
        answers = reference(proto, feed)
        expected.append(np.concatenate([a.ravel() for a in answers]))
        shapes = [a.shape for a in answers]
        actual.append(np.concatenate([a.ravel() for a in call(path, list(feed.values()), shapes)]))
    a, e = np.array(actual), np.array(expected)
    if in_bytes:
        assert worst_cosine(a, e) > (0.97 if name == "resnet8" else 0.99)
    else:
        assert np.abs(a - e).max() <= 1e-4 * np.abs(e).max()


def small() -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    constants = {"w": random(24, 3, 3, 3, seed=1), "d": random(24, 1, 3, 3, seed=2), "p": random(10, 24, 1, 1, seed=3),
                 "s": random(10, 1, 1, seed=4)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "d"], ["c"], pads=[1, 1, 1, 1], group=24),
        helper.make_node("Conv", ["c", "p"], ["e"]),
        helper.make_node("PRelu", ["e", "s"], ["f"]),
        helper.make_node("MaxPool", ["f"], ["y"], kernel_shape=[2, 2]),
    ]
    x = random(1, 3, 15, 22)
    return model(nodes, {"x": x.shape}, constants), {"x": x}


@pytest.mark.parametrize("in_bytes", [False, True])
def test_the_same_bytes_twice(in_bytes: Any) -> None:
    proto, feed = small()
    chosen, processor = machine()
    made = []
    for _ in range(2):
        ranges = calibrate(network_of(proto), proto, [feed], "mse") if in_bytes else None
        source = generate(proto, chosen, ranges=ranges, precision=Precision())
        made.append((source, build.artifact(source.c, processor, source.weights)))
    assert made[0] == made[1]


@pytest.mark.parametrize("on", [SSE2, SSE, AVX2, NEON, WASM, PLAIN], ids=lambda m: m.name)
@pytest.mark.parametrize("in_bytes", [False, True])
def test_other_machines_compute_the_same(on: Any, in_bytes: Any, tmp_path: Any) -> None:
    """The plain form of every helper stands in for instructions that this processor lacks."""
    proto, feed = small()
    ranges = calibrate(network_of(proto), proto, [feed], "minmax") if in_bytes else None
    source = generate(proto, on, ranges=ranges)
    path = tmp_path / "model.so"
    path.write_bytes(build.artifact(source.c, machine()[1], source.weights))
    expected = reference(proto, feed)[0]
    (actual,) = call(path, [feed["x"]], [expected.shape])
    np.testing.assert_allclose(actual, expected, atol=(0.03 if in_bytes else 1e-6) * np.abs(expected).max())


def test_undefined_behaviour_is_trapped_and_absent(tmp_path: Any) -> None:
    """Built with the undefined-behaviour sanitizer, which ends the process at the first fault."""
    proto, feed = small()
    for ranges in (None, calibrate(network_of(proto), proto, [feed], "minmax")):
        source = generate(proto, machine()[0], ranges=ranges)
        (tmp_path / "model.c").write_text(source.c)
        (tmp_path / "main.c").write_text(HARNESS)
        (tmp_path / "weights.bin").write_bytes(source.weights)
        (tmp_path / "weights.S").write_text(SHARED.assembly(0))
        command = [sys.executable, "-m", "ziglang", "cc", "-O1", "-mcpu=native", "-fsanitize=undefined"]
        command += ["-fsanitize-trap=undefined", "-fno-sanitize=function", "-ffreestanding"]
        command += ["-o", "program", "model.c", "main.c", "weights.S"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        subprocess.run([tmp_path / "program"], check=True)


def test_what_cannot_be_generated_is_named() -> None:
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], name="memory", hidden_size=3, clip=2.0)
    proto = model([node], {"x": (5, 1, 4)}, {"w": random(1, 9, 4), "r": random(1, 9, 3)})
    with pytest.raises(UnsupportedError, match=r"GRU \(opset 17\) at node 'memory': the attribute clip"):
        generate(proto, machine()[0])
