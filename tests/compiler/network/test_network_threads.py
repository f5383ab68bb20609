"""One inference on several threads: the bits of one thread whoever takes what, whether helpers come or not, and no data
race that the thread sanitizer sees.
"""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from tests.compiler.network.conftest import machine, model, random, reference
from tests.compiler.network.test_network_models import cleaned, rows

from skerry_agent.engines.base import Job, Spec
from skerry_agent.engines.native import NativeEngine
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.form import SHARED
from skerry_compiler.engines.network import threads
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.generate import generate, network_of

Bits = list[NDArray[np.uint32]]
Feed = dict[str, NDArray[np.float32]]
HARNESS = """
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
extern const uint64_t skerry_sizes[];
int32_t skerry_run(const void *const *, void *const *);
void skerry_help(int32_t, uint32_t);
extern uint32_t skerry_ended;
static int ended;
static void *help(void *slot) {
  while (!__atomic_load_n(&ended, __ATOMIC_RELAXED))
    skerry_help((int32_t)(intptr_t)slot, __atomic_load_n(&skerry_ended, __ATOMIC_RELAXED) + 1);
  return 0;
}
int main(void) {
  void *in[8], *out[8];
  for (uint64_t i = 0; i < skerry_sizes[0]; i++) in[i] = calloc(1, skerry_sizes[2 + i] + 64);
  for (uint64_t i = 0; i < skerry_sizes[1]; i++) out[i] = malloc(skerry_sizes[2 + skerry_sizes[0] + i]);
  pthread_t helpers[2];
  for (intptr_t i = 0; i < 2; i++) pthread_create(helpers + i, 0, help, (void *)(i + 1));
  int status = 0;
  for (int i = 0; i < 20; i++) status |= skerry_run((const void *const *)in, out);
  __atomic_store_n(&ended, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < 2; i++) pthread_join(helpers[i], 0);
  return status;
}
"""


@pytest.fixture(autouse=True)
def _everything_is_shared(monkeypatch: Any) -> None:
    """However small, operations are worth sharing, and there are cores for all."""
    monkeypatch.setattr(threads, "LEAST_CYCLES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))


def mixed(h: int = 14, w: int = 13, c: int = 32, stride: int = 1) -> tuple[onnx.ModelProto, Feed]:
    """Return a network of every kind of operation that threads share."""
    constants: dict[str, Any] = {
        "a": random(c, 16, 3, 3, seed=1) / 8, "d": random(c, 1, 3, 3, seed=2), "g": random(c, c // 4, 3, 3, seed=3) / 8,
        "p": random(2 * c, c, 1, 1, seed=4) / 8, "s": random(1, c, 1, 1, seed=5), "t": random(c, c, 3, 3, seed=6) / 16,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["v1"], pads=[1, 1, 1, 1], strides=[stride, stride]),
        helper.make_node("Relu", ["v1"], ["v2"]),
        helper.make_node("Conv", ["v2", "d"], ["v3"], pads=[1, 1, 1, 1], group=c),
        helper.make_node("Conv", ["v3", "g"], ["v4"], pads=[1, 1, 1, 1], group=4),
        helper.make_node("Conv", ["v4", "t"], ["v5"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["v5"], ["v6"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["v6", "s"], ["v7"]),
        helper.make_node("Sigmoid", ["v7"], ["v8"]),
        helper.make_node("Conv", ["v8", "p"], ["v9"]),
        helper.make_node("Softmax", ["v9"], ["v10"], axis=1),
        helper.make_node("Transpose", ["v9"], ["v11"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["v10", "v11"], ["y"]),
    ]
    x = random(1, 16, h, w)
    return model(nodes, {"x": x.shape}, constants), {"x": x}


def engine(source: Source, folder: Path, name: str, signature: tuple[list[Spec], list[Spec]]) -> NativeEngine:
    path = folder / f"{name}.so"
    path.write_bytes(build.artifact(source.c, machine()[1], source.weights))
    return NativeEngine(Job("native", {"library": str(path)}, *signature, {"threads": str(source.threads)}))


def bits(native: NativeEngine, feed: Feed, times: int = 1) -> Iterator[Bits]:
    """Yield the answers of some inferences as bit patterns."""
    outputs = [np.zeros(spec.shape, np.float32) for spec in native.outputs]
    call = native.bind([np.ascontiguousarray(each).data for each in feed.values()], [o.data for o in outputs])
    for _ in range(times):
        for each in outputs:
            each[:] = np.nan
        call()
        yield [each.view(np.uint32).copy() for each in outputs]


def agree(proto: onnx.ModelProto, feed: Feed, counts: list[int], folder: Path, **kind: Any) -> None:
    """The bits of every number of threads are those of one; more parts than threads, late helpers and all."""
    signature = (
        [Spec(name, "FP32", each.shape) for name, each in feed.items()],
        [Spec(str(at), "FP32", each.shape) for at, each in enumerate(reference(proto, feed))],
    )
    chosen = dataclasses.replace(machine()[0], halves=kind.get("pairs", False))
    alone = engine(generate(proto, chosen, **kind), folder, "1", signature)
    (expected,) = bits(alone, feed)
    for count in counts:
        source = generate(proto, dataclasses.replace(chosen, threads=count), **kind)
        assert source.threads == count and source.c.count("  share(") > 0
        native = engine(source, folder, str(count), signature)
        for found in bits(native, feed, 20):
            for one, two in zip(expected, found, strict=True):
                np.testing.assert_array_equal(one, two)
        native.close()


@pytest.mark.parametrize("kind", ["fp32", "int8", "winograd", "bf16"])
def test_every_number_of_threads_gives_the_bits_of_one(kind: str, tmp_path: Path) -> None:
    proto, feed = mixed()
    if kind == "bf16" and "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor does not multiply pairs of bfloat16")
    more: dict[str, Any] = {"tiles": kind == "winograd", "pairs": kind == "bf16"}
    if kind == "int8":
        more["ranges"] = calibrate(network_of(proto), proto, [feed], "minmax")
    agree(proto, feed, [2, 3, 4], tmp_path, **more)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([8, 20, 48, 64]),
    st.integers(1, 2),
    st.sampled_from([2, 3, 7]),
)
def test_any_shape(tmp_path_factory: pytest.TempPathFactory, h: int, w: int, c: int, stride: int, count: int) -> None:
    proto, feed = mixed(h, w, c, stride)
    agree(proto, feed, [count], tmp_path_factory.mktemp("shape"))


@pytest.mark.models
@pytest.mark.slow
@pytest.mark.parametrize("name", ["kws", "vww", "resnet8", "facemesh"])
def test_shared_models(name: str, models: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(threads, "LEAST_CYCLES", 4000)
    agree(cleaned(models / f"{name}.onnx"), rows(models, name, "evaluation")[0], [2, 3, 4], tmp_path)


def test_one_thread_is_generated_as_ever_and_small_networks_have_nothing_to_share(monkeypatch: Any) -> None:
    proto, _ = mixed()
    chosen = machine()[0]
    plain = generate(proto, chosen)
    assert "ticket" not in plain.c and "skerry_help" not in plain.c and plain.threads == 1
    several = dataclasses.replace(chosen, threads=4)
    assert generate(proto, several) == generate(proto, several)
    monkeypatch.setattr(threads, "LEAST_CYCLES", 1e12)
    assert generate(proto, several) == plain


def test_helpers_that_never_come_or_come_at_the_wrong_time_hold_nothing_up(tmp_path: Path) -> None:
    proto, feed = mixed()
    source = generate(proto, dataclasses.replace(machine()[0], threads=3))
    path = tmp_path / "model.so"
    path.write_bytes(build.artifact(source.c, machine()[1], source.weights))
    opened = ctypes.CDLL(str(path))
    opened.skerry_help.restype = None
    assert opened.skerry_threads(None) == 3
    for slot in (-1, 0, 1, 2, 3, 1 << 20):
        opened.skerry_help(slot, 0)  # that one is over
        opened.skerry_help(slot, 1)  # nothing begins
    x, expected = feed["x"], reference(proto, feed)[0]
    y = np.zeros(expected.shape, np.float32)
    sources, targets = (ctypes.c_void_p * 1)(x.ctypes.data), (ctypes.c_void_p * 1)(y.ctypes.data)
    assert opened.skerry_run(sources, targets) == 0  # nobody helps
    alone = y.view(np.uint32).copy()
    np.testing.assert_allclose(y, expected, atol=1e-4 * np.abs(expected).max())
    ended, over = threading.Event(), ctypes.c_uint32.in_dll(opened, "skerry_ended")

    def meddle(slot: int) -> None:  # two claim the same slot, one has none, and none of them waits for its turn
        while not ended.is_set():
            opened.skerry_help(slot, over.value + 1)
            time.sleep(0.0003)

    meddlers = [threading.Thread(target=meddle, args=(slot,)) for slot in (1, 1, 2, 9)]
    for each in meddlers:
        each.start()
    try:
        for _ in range(50):
            y[:] = np.nan
            assert opened.skerry_run(sources, targets) == 0
            np.testing.assert_array_equal(y.view(np.uint32), alone)
    finally:
        ended.set()
        for each in meddlers:
            each.join()


def test_the_thread_sanitizer_sees_no_race(tmp_path: Path) -> None:
    proto, _ = mixed(9, 8)
    source = generate(proto, dataclasses.replace(machine()[0], threads=3), tiles=True)
    (tmp_path / "model.c").write_text(source.c)
    (tmp_path / "main.c").write_text(HARNESS)
    (tmp_path / "weights.bin").write_bytes(source.weights)
    (tmp_path / "weights.S").write_text(SHARED.assembly(0))
    command = [sys.executable, "-m", "ziglang", "cc", "-O1", "-mcpu=native", "-fsanitize=thread", "-ffreestanding"]
    command += ["-o", "program", "model.c", "main.c", "weights.S"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[:3000]
