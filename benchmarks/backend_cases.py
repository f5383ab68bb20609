"""The ONNX backend node tests: ONNX Runtime in Python, and compile -> bundle -> the device's own runtime."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from skerry_compiler import baseline, building, compiling, data, golden, pack, prepare, sandbox
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.request import Request
from skerry_contracts import codec
from skerry_contracts.bundle import Signature
from skerry_contracts.container import open_container, write_container
from skerry_targets import host
from skerry_targets.profile import Profile

SUFFIX = ".shape"
# The device's side: nothing but the agent's own modules, many bundles in one process.
_DEVICE = """
import json, sys
sys.path[:0] = [{agent!r}]; sys.path += {rest!r}
from skerry_agent.engines.base import EngineError
from skerry_agent.probe import Bench, load
assert "numpy" not in sys.modules
for line in sys.stdin:
    folder, variant = json.loads(line)
    try:
        job, engine = load(folder, variant)
        bench = Bench(job, engine, folder + "/rows")
        bench.write_outputs(folder + "/" + variant + ".answers")
        del bench
        engine.close()
        said = None
    except (EngineError, OSError, ValueError, KeyError) as error:
        said = str(error)
    print(json.dumps(said), flush=True)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One node test: a model, inputs and expected outputs, tolerances."""

    name: str
    model: onnx.ModelProto
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float


def cases() -> Iterator[Case]:
    """Yield every node test of the installed onnx package."""
    for each in load_model_tests(kind="node"):
        assert each.model is not None
        for inputs, outputs in each.data_sets or ():
            yield Case(each.name, each.model, [_plain(one) for one in inputs], list(outputs), each.rtol, each.atol)


def _plain(content: Any) -> Any:
    if isinstance(content, onnx.TensorProto):
        return numpy_helper.to_array(content)
    return np.asarray(content) if isinstance(content, np.generic) else content


def same(case: Case, outputs: list[Any]) -> str | None:
    """Return how outputs differ from the expected ones, by the suite's own rules; None where they do not."""
    if len(outputs) != len(case.outputs):
        return f"{len(outputs)} outputs, {len(case.outputs)} expected"
    for place, (known, found) in enumerate(zip(case.outputs, outputs, strict=True)):
        said = _differs(_plain(known), found, case)
        if said:
            return f"output {place}: {said}"
    return None


def _differs(known: Any, found: Any, case: Case) -> str | None:
    if isinstance(known, (list, tuple)) or known is None or found is None or isinstance(found, (list, tuple)):
        if not isinstance(known, (list, tuple)) or not isinstance(found, (list, tuple)) or len(known) != len(found):
            return None if known is None and found is None else "another structure"
        return next((said for pair in zip(known, found, strict=True) if (said := _differs(*pair, case))), None)
    known, found = np.asarray(known), np.asarray(found)
    if (known.dtype, known.shape) != (found.dtype, found.shape):
        return f"{found.dtype}{list(found.shape)}, {known.dtype}{list(known.shape)} expected"
    if known.dtype.kind not in "fiub":
        return None if bool(np.all(known == found)) else "other text"
    close = np.allclose(found, known, case.rtol, case.atol, equal_nan=True)
    return None if close else f"off by {np.max(np.abs(found.astype(float) - known.astype(float))):.3g}"


def reference(case: Case) -> str | None:
    """Return why ONNX Runtime in Python fails a case, or None."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        content = case.model.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in case.model.graph.input]
        return same(case, session.run(None, dict(zip(names, case.inputs, strict=True))))
    except Exception as error:  # noqa: BLE001  whatever it is, the reference does not run this case
        return f"{type(error).__name__}: {str(error)[:200]}"


def profile() -> Profile:
    """Return this machine's profile with ONNX Runtime in single precision alone: the engine that runs everything."""
    found = host.host_profile()
    only = dataclasses.replace(found.engines["onnxruntime"], precisions=("fp32",))
    return dataclasses.replace(found, engines={"onnxruntime": only})


class Device:
    """One process of the device's runtime, started anew if a model kills it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def run(self, folder: Path, variant: str) -> str | None:
        """Run a variant of an opened bundle on `rows`; return what went wrong, None where its answers were written."""
        if self._child is None or self._child.poll() is not None:
            found = util.find_spec("skerry_agent")
            assert found is not None and found.submodule_search_locations
            agent = str(Path(next(iter(found.submodule_search_locations))).parent)
            rest = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} - {agent})
            command = [sys.executable, "-S", "-E", "-c", _DEVICE.format(agent=agent, rest=rest)]
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps([str(folder), variant]) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            return f"the device's runtime died ({self._child.wait()})"
        said: str | None = json.loads(line)
        return said

    def close(self) -> None:
        """End the process."""
        if self._child is not None and self._child.stdin is not None:
            self._child.communicate()


def ours(case: Case, board: Profile, device: Device, work: Path) -> str | None:
    """Compile a case, pack it, open the bundle, run each of its variants on the device's runtime.

    Returns:
        What is wrong with the answers, or None.

    Raises:
        CompileError: the compiler refuses the model.
    """
    source, calibration = work / "model.onnx", work / "rows.npz"
    source.write_bytes(case.model.SerializeToString())
    names = [value.name for value in case.model.graph.input]
    given = zip(names, case.inputs, strict=True)
    arrays = {name: one[None] for name, one in given if isinstance(one, np.ndarray) and one.dtype.kind in "fiub"}
    shapes = {name: one.shape[1:] for name, one in arrays.items()}
    np.savez(calibration, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for options
    request = Request(source, board, "case", "1", 1, calibration=calibration if arrays else None, shapes=shapes)
    with one_process():
        prepared = compiling.prepare(request, work)
    signature = prepared.signature
    rows = data.Rows(tuple(arrays[spec.name] for spec in signature.inputs))
    try:
        original = baseline.Original(str(prepared.original), codec.to_plain(signature), rows.to_bytes())
        expected = data.outputs_of(original.outputs(0), signature.outputs, 1)
    except baseline.failures() as error:
        return f"the original: {' '.join(str(error).split())[:200]}"
    if prepared.failures:
        return f"{prepared.failures[0].id}: {prepared.failures[0].reason}"
    machine = Machine.of(board)
    built = [building.finish(draft, machine) for draft in prepared.drafts]
    vectors = golden.choose(signature, rows, expected, int8=False)
    manifest = pack.manifest(request, pack.Parts(signature, prepared.form, vectors.golden, (), None), built)
    blobs = [vectors.inputs, vectors.outputs, *(content for each in built for content in each.blobs.values())]
    with (work / "case.skerry").open("wb") as file:
        write_container(file, codec.encode(manifest), [(codec.digest(each), each) for each in blobs])
    with (work / "case.skerry").open("rb") as file:
        bundle = open_container(file)
        (work / "manifest.json").write_bytes(bundle.manifest_bytes)
        for variant in bundle.manifest.variants:
            for blob in variant.blobs.values():
                (work / blob.sha256).write_bytes(bundle.read_blob(blob.sha256))
    (work / "rows").write_bytes(rows.to_bytes())
    for variant in bundle.manifest.variants:
        said = device.run(work, variant.id)
        if said is None:
            answers = (work / f"{variant.id}.answers").read_bytes()
            said = same(case, unpadded(signature, data.outputs_of(answers, signature.outputs, 1)))
        if said is not None:
            return f"{variant.id}: {said}"
    return None


def _here(
    module: str,
    job: dict[str, Any],
    folder: Path,
    limits: sandbox.Limits,
    step: str,
    say: sandbox.Say = lambda words: None,
) -> Any:
    return prepare.work(json.loads(json.dumps(job)), folder)


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """Do in this process what the sandboxed child does: hundreds of small models share one start."""
    call = sandbox.call
    sandbox.call = _here
    try:
        yield
    finally:
        sandbox.call = call


def unpadded(signature: Signature, outputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Return the outputs as the model has them: what a capacity fills up is cut off again."""
    found = {spec.name: content[0] for spec, content in zip(signature.outputs, outputs, strict=True)}
    shapes = {name.removesuffix(SUFFIX): content for name, content in found.items() if name.endswith(SUFFIX)}
    return [
        content[tuple(slice(0, extent) for extent in shapes[name])] if name in shapes else content
        for name, content in found.items()
        if not (name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in found)
    ]
