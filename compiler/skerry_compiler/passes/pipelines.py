"""Which passes which engine wants, as plain lists. Generated code fuses by itself (engines/network/fuse.py)."""

from __future__ import annotations

from onnx import ModelProto

from skerry_compiler.passes import base
from skerry_compiler.passes.base import Pass
from skerry_compiler.passes.dead_code import DeadCode
from skerry_compiler.passes.fixed_shapes import inferred
from skerry_compiler.passes.fold_dequantised import FoldDequantised
from skerry_compiler.passes.fold_norm import FoldNorm
from skerry_compiler.passes.gates import Gates
from skerry_compiler.passes.hard_forms import HardForms
from skerry_compiler.passes.layer_norm import LayerNorm
from skerry_compiler.passes.opset_lift import OpsetLift
from skerry_compiler.passes.prelu import PReluForms
from skerry_compiler.passes.redundant import Redundant
from skerry_compiler.passes.single_form import SingleForm

OPSET = 17  # LayerNormalization; every ONNX Runtime that a target may have reads it


def onnxruntime() -> list[Pass]:
    """Return the passes ahead of ONNX Runtime's own optimiser: what it does not find, or finds only in float."""
    return [*bytes_on_onnxruntime()[:-1], PReluForms(), DeadCode()]


def bytes_on_onnxruntime() -> list[Pass]:
    """Return those ahead of quantisation, which would round the convolutions that a PRelu becomes."""
    return [
        OpsetLift(OPSET),
        SingleForm(),
        Redundant(),
        FoldDequantised(),
        FoldNorm(),
        HardForms(swish=False),
        Gates(("QuickGelu", "Gelu", "FastGelu")),
        LayerNorm(),
        DeadCode(),
    ]


def litert() -> list[Pass]:
    """Return the passes ahead of TFLite, which has PRelu, HardSwish and GELU of its own."""
    return [
        OpsetLift(OPSET),
        SingleForm(),
        Redundant(),
        FoldDequantised(),
        FoldNorm(),
        HardForms(swish=True),
        Gates(("Gelu", "FastGelu")),
        DeadCode(),
    ]


def rewritten(model: ModelProto, passes: list[Pass]) -> ModelProto:
    """Return a copy of a model after passes; the model itself stays.

    Raises:
        CompileError: see the passes.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    return inferred(base.run_all(copy, passes))
