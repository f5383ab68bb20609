"""The model in 8 bits as pairs of QuantizeLinear and DequantizeLinear, for every engine that reads such pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from skerry_compiler.errors import CompileError
from skerry_compiler.passes import base
from skerry_compiler.passes.quantise import OPERATORS, QuantiseU8S8
from skerry_targets.profile import Profile

# Without these instructions 8-bit products of x86-64 may saturate, or are slower than floats.
VNNI = {"x86_64": ("avx512_vnni",), "aarch64": ()}


def features(profile: Profile) -> tuple[str, ...]:
    """Return what a processor of a profile must have for products of bytes, by Linux's names."""
    return tuple(each for each in VNNI.get(profile.abi.machine, ()) if each in profile.cpu.features)


def saturates(profile: Profile) -> bool:
    """Whether sums of products of bytes saturate on a profile's processors, so that weights need smaller bytes."""
    return profile.abi.machine == "x86_64" and "avx512_vnni" not in profile.cpu.features


class Pairs:
    """Made when it is first asked for, once for all engines: calibration runs every row through the model."""

    def __init__(self, model: ModelProto, profile: Profile, rows: Mapping[str, NDArray[Any]]) -> None:
        """`rows` are calibration rows by input name; empty where there are none."""
        self._model, self._profile, self._rows = model, profile, rows
        self._made: ModelProto | CompileError | None = None

    @property
    def possible(self) -> bool:
        """Whether the model has layers that 8 bits can speed up."""
        return any(node.op_type in OPERATORS for node in self._model.graph.node)

    def features(self) -> tuple[str, ...]:
        """Return what a processor of the profile must have for them, by Linux's names."""
        return features(self._profile)

    def model(self) -> ModelProto:
        """Return the quantised model; the caller leaves it as it is.

        Raises:
            CompileError: it cannot be quantised, or there is no data to do it with.
        """
        if self._made is None:
            copy = ModelProto()
            copy.CopyFrom(self._model)
            try:
                self._made = base.run_all(copy, [QuantiseU8S8(self._rows, reduce_range=saturates(self._profile))])
            except CompileError as error:
                self._made = error
        if isinstance(self._made, CompileError):
            raise self._made
        return self._made
