"""The target's engine reads ONNX only up to some opset and file version: bring the model below."""

from __future__ import annotations

import onnx
from onnx import ModelProto

from skerry_compiler.errors import ModelError


class OpsetCap:
    """`opset_max` and `ir_max` as in the target's profile; None means no cap."""

    name = "opset-cap"

    def __init__(self, opset_max: int | None, ir_max: int | None) -> None:
        self.opset_max = opset_max
        self.ir_max = ir_max

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class.

        Raises:
            ModelError: the model cannot be said in the older opset.
        """
        version = _version(model)
        if self.opset_max is not None and version > self.opset_max:
            try:
                model = onnx.version_converter.convert_version(model, self.opset_max)
            except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
                words = " ".join(str(error).split())[:200]
                raise ModelError(
                    f"opset {version} does not go down to {self.opset_max}, the newest this target reads: {words}",
                    hint=f"export the model with opset {self.opset_max}",
                ) from error
        if self.ir_max is not None and model.ir_version > self.ir_max:
            model.ir_version = self.ir_max
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Below both caps."""
        if self.opset_max is not None and _version(model) > self.opset_max:
            return f"opset {_version(model)}"
        return f"IR {model.ir_version}" if self.ir_max is not None and model.ir_version > self.ir_max else None


def _version(model: ModelProto) -> int:
    return max((each.version for each in model.opset_import if not each.domain), default=0)
