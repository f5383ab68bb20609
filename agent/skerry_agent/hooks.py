"""What the local API and the workers tell the core: the seam between serving (api, runtime) and deciding (core).

The API asks for an id before an inference and hands over what happened after it; everything that follows (sampling,
sketching, observation of a fresh model) is the core's business and never delays the answer.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from skerry_contracts.sample import Kept
from skerry_contracts.shadow import ShadowAnswer
from skerry_contracts.tensor import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One inference that was answered. `keep` is False where the caller forbade keeping or sketching its input.

    `bundle` is the one that answered: at a swap not always the one the model's name stands for a moment later.
    `wanted` says why somebody asks that it be kept, within its own cap (`Kept.REQUESTED`: a program;
    `Kept.DISAGREEING`: a candidate in the shadow said something else, `shadow`); `capture` is the program's own id for
    it.
    """

    id: str
    model: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    latency_ms: float
    keep: bool = True
    bundle: str = ""
    wanted: Kept | None = None
    capture: str | None = None
    shadow: ShadowAnswer | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CaptureOrder:
    """A program asks that a prediction be kept under its id: one that was made here, or tensors it brings along.

    `time_s` is when the inference was, in seconds since 1970; None: now.
    """

    id: str
    model: str
    prediction: str | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    time_s: float | None = None


class Hooks(Protocol):
    """What the local API calls. All are quick and are called from the event loop."""

    def next_prediction(self, model: str) -> str:
        """Return the id of the next prediction: `<device>/<boot_id>/<counter>`."""

    def on_prediction(self, prediction: Prediction) -> None:
        """Take note of an answered inference."""

    def check_capture(self, name: str) -> None:
        """Check that a capture's id is one, and new. Raises RequestError: 400, 409."""

    def capture(self, order: CaptureOrder) -> None:
        """Keep a prediction. Raises RequestError: 400, 404, 409, 413 too large, 429 beyond the budget."""

    def capture_status(self, name: str) -> dict[str, Any] | None:
        """Return what became of a capture; None where none has that id."""

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows, as plain JSON data."""
