"""How the daemon answers the local API's questions (see hooks.Hooks): through the core, durably."""

from __future__ import annotations

from typing import Any

from skerry_agent.core import DeviceCore
from skerry_agent.hooks import CaptureOrder, Prediction
from skerry_agent.performer import Performer


class ApiHooks:
    """The part of the daemon that the local API talks to."""

    core: DeviceCore
    performer: Performer

    def next_prediction(self, model: str) -> str:
        """Return the id of the next prediction."""
        return self.core.next_prediction(model)

    def on_prediction(self, prediction: Prediction) -> None:
        """Take note of an answered inference, unless another bundle answered than the one that is watched."""
        watch = self.core.serving.watches.get(prediction.model)
        if watch is None or prediction.bundle in ("", watch.bundle):
            self.performer.decide(self.core.on_prediction, prediction)
            self.performer.shadows.offer(prediction)

    def check_capture(self, name: str) -> None:
        """Check that a capture's id is one, and new. Raises RequestError: 400, 409."""
        self.core.memory.captures.check(name)

    def capture(self, order: CaptureOrder) -> None:
        """Keep a prediction. Raises RequestError: see `DeviceCore.capture`."""
        self.performer.decide(self.core.capture, order)

    def capture_status(self, name: str) -> dict[str, Any] | None:
        """Return what became of a capture; None where none has that id."""
        return self.core.capture_status(name)
