"""What the outputs mean: which holds one score a class, which the chosen class, and what the classes are called."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto

from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec

MAX_UNNAMED_CLASSES = 4096
_PASSES_ON = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")


def signature(
    model: ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], labels: tuple[str, ...]
) -> Signature:
    """Return the signature with the roles that can be read off the graph.

    Args:
        model: after the passes.
        inputs: and
        outputs: of the model, with fixed shapes.
        labels: the classes' names where the graph held them; else a softmax at the end makes classes "0", "1", ...
    """
    floats = (DType.FP32, DType.FP64)
    if labels:
        scores = [spec for spec in outputs if spec.dtype in floats and spec.shape and spec.shape[-1] == len(labels)]
    else:
        scores = [spec for spec in outputs if spec.dtype in floats and _is_softmax(model, spec)]
        labels = tuple(map(str, range(scores[0].shape[-1]))) if len(scores) == 1 else ()
    chosen = [spec for spec in outputs if spec.dtype in (DType.INT64, DType.INT32) and spec.elements == 1]
    single = len(scores) == 1 and scores[0].elements == len(labels)
    return Signature(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        labels=labels if single or (labels and chosen) else (),
        label_output=chosen[0].name if labels and len(chosen) == 1 else None,
        score_output=scores[0].name if single else None,
    )


def _is_softmax(model: ModelProto, spec: TensorSpec) -> bool:
    """Return whether an output is a softmax over one row."""
    if not spec.shape or spec.elements != spec.shape[-1] or not 2 <= spec.elements <= MAX_UNNAMED_CLASSES:
        return False
    made = {name: node for node in model.graph.node for name in node.output}
    node = made.get(spec.name)
    while node is not None and node.op_type in _PASSES_ON:
        node = made.get(node.input[0])
    return node is not None and node.op_type == "Softmax"
