"""The device's engines, on real libraries: one compiled here from C, and ONNX Runtime's own through its C interface."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from skerry_agent import probe
from skerry_agent.engines import base, catalogue
from skerry_agent.engines.base import EngineError, Job
from skerry_contracts import codec, tensor
from skerry_contracts.bundle import Blob, Predicates, Signature, Variant
from skerry_contracts.tensor import DType, TensorSpec

ROOT = Path(__file__).resolve().parents[2]
SIGNATURE = Signature((TensorSpec("x", DType.FP32, (1, 4)),), (TensorSpec("y", DType.FP32, (1, 4)),))
SOURCE = """
#include <stdint.h>
#define API __attribute__((visibility("default")))
API const uint32_t skerry_abi = %d;
API const uint64_t skerry_sizes[] = {1, 1, 16, 16};
API int32_t skerry_run(const void *const *in, void *const *out) {
    const float *x = in[0];
    float *y = out[0];
    for (int i = 0; i < 4; i++) y[i] = 2 * x[i] + 1;
    return x[0] < -1000 ? 7 : 0;
}
"""


def library(folder: Path, abi: int = 1) -> Path:
    """Return a native library that doubles and adds one."""
    source = folder / f"model{abi}.c"
    source.write_text(SOURCE % abi)
    built = folder / f"model{abi}.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-o", str(built), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return built


def network(folder: Path) -> Path:
    """Return an ONNX file that doubles and adds one."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(nodes, "double", value[:1], value[1:], [one])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def variant(engine: str, role: str, path: Path, options: dict[str, str] | None = None) -> Variant:
    content = path.read_bytes()
    blob = Blob(codec.digest(content), len(content))
    return Variant(f"{engine}-1", engine, "fp32", {role: blob}, Predicates("linux", "any"), 0, options or {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module", params=["native", "onnxruntime", "onnxruntime-arena"])
def engine(request: pytest.FixtureRequest, folder: Path) -> base.Engine:
    if request.param == "native":
        path = library(folder)
        return catalogue.load(variant("native", "library", path), {"library": path}, SIGNATURE)
    path = network(folder)
    options = {"arena": "1", "graph": "extended", "prepack": "0"} if request.param == "onnxruntime-arena" else {}
    return catalogue.load(variant("onnxruntime", "model", path, options), {"model": path}, SIGNATURE)


def test_runs_in_place(engine: base.Engine) -> None:
    source, target = bytearray(struct.pack("<4f", 1, 2, 3, 4)), bytearray(16)
    call = engine.bind([memoryview(source)], [memoryview(target)])
    call()
    assert struct.unpack("<4f", target) == (3, 5, 7, 9)
    source[:] = struct.pack("<4f", 0, 0, 0, 10)
    call()
    assert struct.unpack("<4f", target) == (1, 1, 1, 21)


def test_reads_read_only_and_shaped_memory(engine: base.Engine) -> None:
    target = np.zeros((1, 4), np.float32)
    engine.run([memoryview(struct.pack("<4f", 1, 2, 3, 4))], [target.data])
    assert target.tolist() == [[3, 5, 7, 9]]


def test_refuses_wrong_buffers(engine: base.Engine) -> None:
    good, short = memoryview(bytearray(16)), memoryview(bytearray(12))
    for inputs, outputs in ([[short], [good]], [[good], [short]], [[], [good]], [[good], [memoryview(bytes(16))]]):
        with pytest.raises(EngineError):
            engine.run(inputs, outputs)


def test_native_reports_what_the_library_returns(folder: Path) -> None:
    path = library(folder)
    loaded = catalogue.load(variant("native", "library", path), {"library": path}, SIGNATURE)
    with pytest.raises(EngineError, match="returned 7"):
        loaded.run([memoryview(struct.pack("<4f", -2000, 0, 0, 0))], [memoryview(bytearray(16))])


def test_native_refuses_other_interfaces_and_shapes(folder: Path) -> None:
    path = library(folder, abi=2)
    with pytest.raises(EngineError, match="interface 2"):
        catalogue.load(variant("native", "library", path), {"library": path}, SIGNATURE)
    other = Signature((TensorSpec("x", DType.FP32, (1, 5)),), SIGNATURE.outputs)
    path = library(folder)
    with pytest.raises(EngineError, match="other tensors"):
        catalogue.load(variant("native", "library", path), {"library": path}, other)


@pytest.mark.parametrize("engine_name, role", [("native", "library"), ("onnxruntime", "model")])
def test_noise_does_not_load(folder: Path, engine_name: str, role: str) -> None:
    path = folder / "noise"
    for content in (b"", b"noise" * 100):
        path.write_bytes(content)
        with pytest.raises(EngineError) as caught:
            catalogue.load(variant(engine_name, role, path), {role: path}, SIGNATURE)
        assert "\n" not in str(caught.value)


def test_unknown_engine_and_missing_blob(folder: Path) -> None:
    path = network(folder)
    with pytest.raises(EngineError, match="no engine 'abacus'"):
        catalogue.load(variant("abacus", "beads", path), {"beads": path}, SIGNATURE)
    with pytest.raises(EngineError, match="no blob"):
        catalogue.load(variant("native", "model", path), {"model": path}, SIGNATURE)
    with pytest.raises(EngineError, match="none of none, basic"):
        catalogue.load(variant("onnxruntime", "model", path, {"graph": "x"}), {"model": path}, SIGNATURE)


def test_item_sizes_are_those_of_the_contracts() -> None:
    assert {each.value: size for each, size in tensor.ITEM_BYTES.items()} == base.ITEM_BYTES


def test_available_names_versions() -> None:
    found = catalogue.available()
    assert found["native"] == "1"
    assert found["onnxruntime"].count(".") == 2


def test_job_from_plain_is_job_of_records(folder: Path) -> None:
    path = library(folder)
    record = variant("native", "library", path, {"a": "b"})
    one = Job.of(record, {"library": path}, SIGNATURE)
    two = Job.from_plain(codec.to_plain(record), {"library": str(path)}, codec.to_plain(SIGNATURE))
    for name in ("engine", "paths", "options", "threads"):
        assert getattr(one, name) == getattr(two, name)
    assert [(each.name, each.dtype, each.shape, each.size_bytes) for each in one.inputs + one.outputs] == [
        (each.name, each.dtype, each.shape, each.size_bytes) for each in two.inputs + two.outputs
    ]


def test_engines_import_nothing_heavy() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'agent')!r})\n"
        "import skerry_agent.probe, skerry_agent.engines.native, skerry_agent.engines.onnxruntime\n"
        "print(*sorted(m for m in sys.modules if m in "
        "('numpy', 'onnxruntime', 'hashlib', 'dataclasses', 'typing', 'asyncio', 'pathlib', 'skerry_contracts')))"
    )
    done = subprocess.run([sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_probe_measures_and_writes_every_row(folder: Path) -> None:
    path = library(folder)
    record = variant("native", "library", path)
    (folder / record.blobs["library"].sha256).write_bytes(path.read_bytes())
    plain = {"variants": [codec.to_plain(record)], "signature": codec.to_plain(SIGNATURE)}
    (folder / "manifest.json").write_text(json.dumps(plain))
    (folder / "rows").write_bytes(struct.pack("<8f", *range(8)))
    command = [sys.executable, "-m", "skerry_agent.probe", str(folder), "--variant", "native-1"]
    command += ["--inputs", str(folder / "rows"), "--outputs", str(folder / "results")]
    done = subprocess.run(command, input="3\n5\n", capture_output=True, text=True, check=True)
    ready, first, second, end = map(json.loads, done.stdout.splitlines())
    assert ready["rows"] == 2
    assert (first["runs"], second["runs"]) == (3, 5)
    assert first["cpu_ns"] > 0 and 0 < first["p50_ns"] <= first["p95_ns"]
    assert end["peak_rss_bytes"] > 1 << 20
    assert struct.unpack("<8f", (folder / "results").read_bytes()) == (1, 3, 5, 7, 9, 11, 13, 15)


@pytest.mark.parametrize("rows, chosen", [(b"", "native-1"), (b"123", "native-1"), (bytes(16), "nobody")])
def test_probe_says_what_is_wrong(folder: Path, rows: bytes, chosen: str) -> None:
    test_probe_measures_and_writes_every_row(folder)
    (folder / "rows").write_bytes(rows)
    command = [
        sys.executable,
        "-m",
        "skerry_agent.probe",
        str(folder),
        "--variant",
        chosen,
        "--inputs",
        str(folder / "rows"),
    ]
    done = subprocess.run(command, input="", capture_output=True, text=True)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]


def test_the_probe_writes_json_without_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    answer: dict[str, object] = {"ready": True, "no": False, "ms": 0.25, "big": 1 << 60, "said": 'a "quote"\n\u20ac'}
    probe.say(answer)
    assert json.loads(capsys.readouterr().out) == answer
