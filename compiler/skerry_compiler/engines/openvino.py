"""OpenVINO's candidates: in float32, in bfloat16 where the processor computes in it, and in 8 bits.

The device's library reads ONNX from memory, so nothing is converted here and its version leaves no trace in the bytes.
Twice the memory of ONNX Runtime, mostly the library's own (measured): it competes only where it is asked for.
"""

from __future__ import annotations

from onnx import ModelProto

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.engines.pairs import Pairs
from skerry_compiler.errors import CompileError
from skerry_contracts.bundle import Predicates
from skerry_targets.profile import Profile

ENGINE = "openvino"
RUNTIME_BYTES = 85 << 20  # measured: a C-interface process against one that runs generated code
_BFLOAT16 = ("avx512_bf16", "bf16")
_ORDER = 30  # after all that is smaller
_PAIRS = ("QuantizeLinear", "DequantizeLinear")


def candidates(model: ModelProto, profile: Profile, pairs: Pairs) -> list[Draft | Failure]:
    """Return the candidates on OpenVINO.

    Args:
        model: fixed shapes; float, or with 8-bit pairs of its own.
        profile: the target.
        pairs: the model in 8 bits.
    """
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx", "com.microsoft"})
    if foreign:
        return [Failure(ENGINE, ENGINE, "fp32", f"OpenVINO reads no operators of {foreign[0]}")]
    content = model.SerializeToString(deterministic=True)
    precisions = profile.engines[ENGINE].precisions
    if any(node.op_type in _PAIRS for node in model.graph.node):
        # It computes in the model's own bytes, whose rounding is not the original runtime's.
        return [_draft("openvino-int8", "int8", content, profile, pairs.features())]
    made: list[Draft | Failure] = [_draft("openvino", "fp32", content, profile)]
    wide = tuple(each for each in _BFLOAT16 if each in profile.cpu.features)
    if "bf16" in precisions and wide and pairs.possible:
        made.append(_draft("openvino-bf16", "bf16", content, profile, wide))
    if "int8" in precisions and pairs.possible:
        try:
            quantised = pairs.model().SerializeToString(deterministic=True)
            made.append(_draft("openvino-int8", "int8", quantised, profile, pairs.features()))
        except CompileError as error:
            made.append(Failure("openvino-int8", ENGINE, "int8", str(error)))
    return made


def _draft(name: str, precision: str, content: bytes, profile: Profile, features: tuple[str, ...] = ()) -> Draft:
    abi, least = profile.abi, profile.engines[ENGINE].version_min
    requires = Predicates(abi.os, abi.machine, features, abi.libc, abi.libc_min, least)
    options = {"precision": "bf16" if precision == "bf16" else "f32"}
    memory = megabytes(RUNTIME_BYTES + 3 * len(content))
    return Draft(name, ENGINE, precision, requires, memory, _ORDER, {"model": content}, options)
