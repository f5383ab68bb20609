"""The target's engine reads ONNX only up to some opset and file version: bring the model below, where it can be said
in the older words.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto


class OpsetCap:
    """`opset_max` and `ir_max` as in the target's profile; None means no cap.

    A model with operators that are newer than the cap stays as it is, and `beyond` says why: engines then ask for the
    runtime that it was tried with, and a device that has an older one refuses the variant.
    """

    name = "opset-cap"

    def __init__(self, opset_max: int | None, ir_max: int | None) -> None:
        self.opset_max = opset_max
        self.ir_max = ir_max
        self.beyond: str | None = None

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        version = _version(model)
        if self.opset_max is not None and version > self.opset_max:
            try:
                model = onnx.version_converter.convert_version(model, self.opset_max)
            except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
                self.beyond = (
                    f"opset {version} does not go down to {self.opset_max}: {' '.join(str(error).split())[:200]}"
                )
                return model
        if self.ir_max is not None and model.ir_version > self.ir_max:
            model.ir_version = self.ir_max
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Below both caps, or it is said why not."""
        if self.beyond is not None:
            return None
        if self.opset_max is not None and _version(model) > self.opset_max:
            return f"opset {_version(model)}"
        return f"IR {model.ir_version}" if self.ir_max is not None and model.ir_version > self.ir_max else None


def _version(model: ModelProto) -> int:
    return max((each.version for each in model.opset_import if not each.domain), default=0)
