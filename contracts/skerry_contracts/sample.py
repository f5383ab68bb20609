"""One prediction worth keeping: what went in, what came out, and why it was kept."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from skerry_contracts import names
from skerry_contracts.errors import MismatchError
from skerry_contracts.sealed import Sealed
from skerry_contracts.shadow import ShadowAnswer
from skerry_contracts.tensor import Tensor


class Kept(StrEnum):
    """Why a sample was kept. Only `RANDOM` ones speak for the whole stream."""

    RANDOM = "random"
    UNCERTAIN = "uncertain"
    NOVEL = "novel"
    DISAGREEING = "disagreeing"
    RARE = "rare"
    REQUESTED = "requested"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A kept prediction. `prediction` is `<device>/<boot_id>/<counter>`; `weight` is how many predictions it speaks
    for. `capture` is the id under which a program on the device asked for it. Where it is `sealed`, inputs and outputs
    are in there, and empty here. `shadow`: what a candidate said instead, where it disagreed.
    """

    boot_id: str
    seq: int
    time_s: float
    prediction: str
    model: str
    version: str
    bundle: str
    variant: str
    kept: Kept
    weight: float
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    confidence: float | None = None
    capture: str | None = None
    sealed: Sealed | None = None
    shadow: ShadowAnswer | None = None

    def __post_init__(self) -> None:
        names.boot_id(self.boot_id)
        names.sha256(self.bundle, "bundle")
        parse_prediction(self.prediction)
        if self.weight < 0:
            raise MismatchError("weight", "not negative")
        beside = self.shadow.outputs if self.shadow is not None else ()
        if self.sealed is not None and (self.inputs or self.outputs or beside):
            raise MismatchError("sealed", "what is sealed stands nowhere else")


def prediction_id(device: str, boot_id: str, counter: int) -> str:
    """Return the id of a device's `counter`-th prediction since that boot."""
    return f"{names.name(device, 'device')}/{names.boot_id(boot_id)}/{counter}"


def parse_prediction(text: str) -> tuple[str, str, int]:
    """Return device, boot id and counter of a prediction's id.

    Raises:
        MismatchError: not a prediction's id.
    """
    parts = text.split("/")
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit() and len(parts[2]) < 19):
        raise MismatchError("prediction", f"{text!r:.120} is not <device>/<boot_id>/<counter>")
    return names.name(parts[0], "prediction"), names.boot_id(parts[1], "prediction"), int(parts[2])
