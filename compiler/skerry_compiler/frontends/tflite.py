"""The TFLite front end: the graph as ONNX, so that every engine competes; LiteRT itself takes the file as it is.

Runs inside the sandbox (skerry_compiler.prepare). Quantised graphs keep their own scales.
"""

from __future__ import annotations

from onnx import ModelProto

from skerry_compiler.errors import LimitError, ModelError
from skerry_compiler.frontends import onnx as onnx_frontend
from skerry_compiler.frontends.opening import Opening
from skerry_compiler.tflite import model as tflite
from skerry_compiler.tflite import to_onnx

MAX_FILE_BYTES = 1 << 31


def read(opening: Opening) -> ModelProto:
    """Return a TFLite file's graph as ONNX; inputs and outputs keep their names, order, types and shapes.

    Raises:
        ModelError: not TFLite, or cut short.
        UnsupportedError: operators that have no form in ONNX; all are named.
        LimitError: too large.
    """
    path = opening.path
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size < MAX_FILE_BYTES else b""
    except OSError as error:
        raise ModelError(f"cannot read {path.name}: {error.strerror}") from error
    if size >= MAX_FILE_BYTES:
        raise LimitError(f"{path.name} has {size} bytes; TFLite allows fewer than {MAX_FILE_BYTES}")
    model = to_onnx.convert(tflite.read(content, path.name))
    return onnx_frontend.parse(model.SerializeToString(deterministic=True), path.name)
