"""What graphics processors are proven with: the reference models in float, their kernels by TVM, and half precision."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from skerry_compiler.engines import tvm
from skerry_compiler.errors import ToolError
from skerry_compiler.proof.cuda import nvcc, tvm_child
from skerry_compiler.proof.references import Reference, references
from skerry_targets.profile import Profile

CHILD = "skerry_compiler.proof.cuda.tvm_child"
MISSING = "pip install skerry[cuda]"


def floats() -> tuple[Reference, ...]:
    """Return the reference models that are not in bytes: TVM makes kernels of the model as it is."""
    return tuple(each for each in references() if not each.in_bytes)


def require_tools() -> None:
    """Refuse to go on without what makes cubins.

    Raises:
        ToolError: TVM or nvcc is not installed.
    """
    if importlib.util.find_spec("tvm") is None:
        raise ToolError("TVM is not installed here, which makes its kernels", hint=MISSING)
    nvcc.version()


def arch_of(profile: Profile) -> str:
    """Return the compute capability of a board's graphics processor.

    Raises:
        ToolError: it has none that CUDA reaches.
    """
    if profile.gpu is None:
        raise ToolError(f"{profile.id} has no NVIDIA graphics processor", hint="skerry targets list --family cuda")
    return profile.gpu.arch


def cubin(model: onnx.ModelProto, profile: Profile, arch: str) -> bytes:
    """Return a model's kernels as machine code for a compute capability.

    Raises:
        ToolError, LimitError, UnsupportedError: TVM or nvcc does not make it.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / tvm.MODEL).write_bytes(model.SerializeToString(deterministic=True))
        tvm.child(folder, CHILD, ["source", arch, profile.toolchain.triple])
        return nvcc.cubin((folder / tvm_child.SOURCE).read_text(), arch)


def answers(model: onnx.ModelProto, profile: Profile, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return TVM's answers to rows on this machine's graphics processor.

    Raises:
        ToolError, LimitError, UnsupportedError: TVM does not compile or run it.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / tvm.MODEL).write_bytes(model.SerializeToString(deterministic=True))
        np.save(folder / tvm_child.ROWS, rows)
        tvm.child(folder, CHILD, ["run", arch_of(profile), profile.toolchain.triple], _devices())
        found: NDArray[np.float32] = np.load(folder / tvm_child.ANSWERS)
        return found


def _devices() -> dict[str, str]:
    """Return what of the environment chooses the device and finds its libraries and compilers."""
    kept = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", nvcc.VARIABLE)
    return {name: os.environ[name] for name in kept if name in os.environ}


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose numbers are all in half precision (IEEE 754 binary16), inputs and outputs included."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    kept = [_halved(each) for each in found.graph.initializer]
    del found.graph.initializer[:]
    found.graph.initializer.extend(kept)
    for value in (*found.graph.input, *found.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del found.graph.value_info[:]
    return found


def _halved(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != TensorProto.FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
