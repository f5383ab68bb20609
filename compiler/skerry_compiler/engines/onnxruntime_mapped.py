"""ONNX Runtime's candidates for large models: the weights of the optimised graph in a file of their own, which the
device maps and hands over at every call as inputs: one copy, shared with the page cache, read when it is used.

A session keeps a copy of every initializer beside the file it parsed: three times the weights at its peak. Inputs it
takes where they lie. (The format .ort has a similar mode, but its bytes differ from one writing to the next.) What is
lost is packing ahead of the first call; graphs are optimised before the weights leave them.

What ONNX Runtime lays out for one processor (com.microsoft.nchwc) fails on others; blocks of 16 channels are those of
every processor with AVX-512 and of no other, so that one layout ships, and asks for them.
"""

from __future__ import annotations

import dataclasses
import struct

from onnx import ModelProto, TensorProto, helper, numpy_helper

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.engines.onnxruntime import ENGINE, RUNTIME_BYTES, draft, rewritten
from skerry_compiler.errors import CompileError, UnsupportedError
from skerry_targets import host
from skerry_targets.profile import Profile

MAGIC = b"SKERRYW1"
ALIGNMENT = 64
MIN_TENSOR_BYTES = 4096
MIN_BYTES = 4 << 20  # below, a second file and a slower first call buy nothing
BLOCKS = "avx512f"
ORDER = 13
_WIDTH = 20  # of an offset in the index
_FIXED = struct.Struct("<8sQ")  # magic, bytes of the index


def candidates(model: ModelProto, profile: Profile) -> list[Draft | Failure]:
    """Return the candidates with mapped weights; none for small models.

    Args:
        model: fixed shapes.
        profile: the target.
    """
    if sum(each.ByteSize() for each in model.graph.initializer if _moves(each)) < MIN_BYTES:
        return []
    try:
        if BLOCKS not in profile.cpu.features or not any(node.op_type == "Conv" for node in model.graph.node):
            return [_draft("ort-mapped", rewritten(model), model, profile)]
        if BLOCKS not in host.cpu_info().features:
            words = "its layout is that of AVX-512: compile on a machine that has it"
            failure = Failure("ort-mapped-avx512", ENGINE, "fp32", words)
            return [_draft("ort-mapped", rewritten(model), model, profile), failure]
        blocked = _draft("ort-mapped-avx512", rewritten(model, everything=True), model, profile)
    except CompileError:
        return []  # `ort` says why
    import onnxruntime

    # The layout belongs to a release: older ones may not read it.
    requires = dataclasses.replace(blocked.requires, cpu_features=(BLOCKS,), engine_min=onnxruntime.__version__)
    return [dataclasses.replace(blocked, requires=requires)]


def _draft(name: str, content: bytes, model: ModelProto, profile: Profile) -> Draft:
    graph, weights = split(content)
    # With an arena, large intermediate buffers are not given back to the system and faulted in again at every call.
    made = draft(name, graph, model, profile, ORDER, {"graph": "none", "arena": "1"})
    memory = megabytes(RUNTIME_BYTES + 1.5 * len(weights))
    return dataclasses.replace(made, files={**made.files, "weights": weights}, memory_bytes=memory)


def split(content: bytes) -> tuple[bytes, bytes]:
    """Return a graph without its large float weights, and the file that holds them.

    The file: magic, length of the index, the index (a line for each tensor: name, offset from the file's begin,
    extents, separated by tabs), then the tensors in float32, each at a multiple of 64 bytes.

    Raises:
        UnsupportedError: there is little to gain.
    """
    model = ModelProto.FromString(content)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    large = [each for each in model.graph.initializer if _moves(each) and each.name not in given]
    names = {each.name for each in large}
    raw = [numpy_helper.to_array(each).astype("<f4").tobytes() for each in large]
    if sum(map(len, raw)) < MIN_BYTES:
        raise UnsupportedError(f"less than {MIN_BYTES >> 20} MB of weights in float32")
    kept = [each for each in model.graph.initializer if each.name not in names]
    kept = [TensorProto.FromString(each.SerializeToString()) for each in kept]  # copies: the list is cleared below
    for each in large:
        model.graph.input.append(helper.make_tensor_value_info(each.name, each.data_type, list(each.dims)))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model.SerializeToString(deterministic=True), _file([(each.name, tuple(each.dims)) for each in large], raw)


def _moves(tensor: TensorProto) -> bool:
    elements = 1
    for each in tensor.dims:
        elements *= each
    return tensor.data_type == TensorProto.FLOAT and 4 * elements >= MIN_TENSOR_BYTES and tensor.name.isprintable()


def _file(tensors: list[tuple[str, tuple[int, ...]]], raw: list[bytes]) -> bytes:
    """Return the file; its index has a fixed length, so that offsets do not change it."""
    shown = [",".join(map(str, dims)) for _, dims in tensors]
    index_bytes = sum(
        len(name.encode()) + len(extents) + _WIDTH + 3 for (name, _), extents in zip(tensors, shown, strict=True)
    )
    at = _aligned(_FIXED.size + index_bytes)
    parts, index = [], []
    for (name, _), extents, each in zip(tensors, shown, raw, strict=True):
        index.append(f"{name}\t{at:{_WIDTH}d}\t{extents}\n")
        parts.append(each + bytes(_aligned(len(each)) - len(each)))
        at += len(parts[-1])
    head = _FIXED.pack(MAGIC, index_bytes) + "".join(index).encode()
    return head + bytes(_aligned(len(head)) - len(head)) + b"".join(parts)


def _aligned(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT
