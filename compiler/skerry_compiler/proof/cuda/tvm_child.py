"""The child that runs TVM for a graphics processor. It reads the model in the current folder.

`python -m skerry_compiler.proof.cuda.tvm_child source ARCH TRIPLE` leaves the CUDA source of its kernels; with `run` in
place of `source` it answers the rows there (rows x the input without the batch) on the device.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from skerry_compiler.engines.tvm import MODEL, REASON
from skerry_compiler.engines.tvm_child import REFUSALS
from skerry_compiler.proof.cuda import nvcc

SOURCE, ROWS, ANSWERS = "model.cu", "rows.npy", "answers.npy"
# Of every device since compute capability 5.0 (CUDA C++ Programming Guide, technical specifications); asked for
# out loud, because without a device TVM cannot look.
LIMITS = {"max_threads_per_block": 1024, "max_shared_memory_per_block": 49152, "thread_warp_size": 32}


def main(argv: Sequence[str]) -> int:
    """Compile, and run where that is asked; see the module's text."""
    verb, arch, triple = argv
    try:
        made, tvm = _compiled(arch, triple)
        if verb == "source":
            Path(SOURCE).write_text(_source(made.mod))
        else:
            np.save(ANSWERS, _answers(made, tvm, np.load(ROWS)))
    except REFUSALS as error:
        Path(REASON).write_text(" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return 0


def _compiled(arch: str, triple: str) -> tuple[Any, Any]:
    _preload()
    import onnx
    import tvm
    import tvm_ffi
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.s_tir import dlight

    # TVM's own would ask NVRTC, with fast mathematics: these are the bytes that were looked at.
    tvm_ffi.register_global_func("tvm_callback_cuda_compile", lambda code: nvcc.cubin(code, arch), override=True)
    target = tvm.target.Target({"kind": "cuda", "arch": arch, **LIMITS}, host={"kind": "llvm", "mtriple": triple})
    rules = [getattr(dlight.gpu, each)() for each in ("Matmul", "GEMV", "Reduction", "GeneralReduction", "Fallback")]
    passes = ("LegalizeOps", "AnnotateTIROpPattern", "FoldConstant", "FuseOps", "FuseTIR")
    with target:
        module = from_onnx(onnx.load(MODEL))
        module = tvm.transform.Sequential([getattr(relax.transform, each)() for each in passes])(module)
        module = dlight.ApplyDefaultSchedule(*rules)(module)
    return tvm.compile(module, target=target), tvm


def _preload() -> None:
    """Load CUDA's runtime from its wheel, where it is, so that TVM's part for devices finds it."""
    try:
        files = metadata.files("nvidia-cuda-runtime") or []
    except metadata.PackageNotFoundError:
        return
    for each in files:
        if each.name.startswith("libcudart.so"):
            ctypes.CDLL(str(each.locate()), ctypes.RTLD_GLOBAL)


def _source(module: Any) -> str:
    """Return the source of the CUDA module among those that a module imports.

    Raises:
        ValueError: nothing of the model runs on the device.
    """
    waiting = [module]
    while waiting:
        each = waiting.pop()
        if each.kind == "cuda":
            text: str = each.inspect_source()
            return text
        waiting += list(each.imports)
    raise ValueError("nothing of the model runs on the graphics processor")


def _answers(made: Any, tvm: Any, rows: Any) -> Any:
    device = tvm.cuda(0)
    if not device.exist:
        raise RuntimeError("TVM finds no CUDA device; its part for devices needs libcudart.so.13 and the driver")
    machine = tvm.relax.VirtualMachine(made, device)
    found = []
    for row in rows:
        answer = machine["main"](tvm.runtime.tensor(row[None], device))
        first = answer if hasattr(answer, "numpy") else answer[0]
        found.append(first.numpy())
    return np.concatenate(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
