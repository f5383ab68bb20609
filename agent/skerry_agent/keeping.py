"""The core's part in keeping predictions: those the sampler chose, and those a program on the device asks for."""

from __future__ import annotations

import dataclasses
from typing import Any

from skerry_agent.captures import State
from skerry_agent.deciding import Decider
from skerry_agent.effects import Effect
from skerry_agent.errors import RequestError
from skerry_agent.hooks import CaptureOrder, Prediction
from skerry_agent.sampler import Choice
from skerry_agent.watch import Seen, Watch
from skerry_agent.work import Work
from skerry_contracts.sample import Kept

FUTURE_S = 60.0  # clocks of one device agree to within this


class Keeper(Decider):
    """Buffers samples; every kept one becomes durable with the next transaction."""

    def capture(self, order: CaptureOrder) -> list[Effect]:
        """A program asks that a prediction be kept, whatever the policy says, within the budget of such requests.

        Raises:
            RequestError: 400 the future or answers that are no numbers, 404 no such prediction or no such model in
                service, 409 the id was used, 413 too large for any broker, 429 the hour's budget is spent,
                503 samples must be sealed and cannot be.
        """
        self.memory.captures.check(order.id)
        now_s, wall_s = self.clock.monotonic_s(), self.clock.wall_s()
        watch = self.serving.watches.get(order.model)
        if watch is None:
            raise RequestError(f"{order.model} serves nothing that the fleet knows", status=404)
        if order.time_s is not None and order.time_s > wall_s + FUTURE_S:
            raise RequestError("'time_s' lies in the future")
        if order.prediction is not None:
            found = self.memory.captures.recent.find(order.prediction)
            if found.model != order.model or found.bundle not in ("", watch.bundle):
                raise RequestError(f"{order.prediction} is no prediction of {order.model} as it serves now", status=404)
            # Kept by the policy a moment ago: one sample with both reasons. What was written already is told of again,
            # and becomes one in the lake.
            if (key := self.memory.amend(found.id, order.id, self.outbox.sample)) is not None:
                self.memory.captures.begin(order.id, found, key)
                return []
        else:
            name = self.serving.next_prediction(self.device, self.outbox.boot_id)
            found = Prediction(name, order.model, order.inputs, order.outputs, 0.0)
        if watch.muted:
            raise RequestError(watch.muted, status=503, hint="see skerry agent status")
        prediction = dataclasses.replace(found, capture=order.id, wanted=Kept.REQUESTED)
        trial = watch.sample(
            prediction, Seen(True), Choice(Kept.REQUESTED, 1.0), boot_id=self.outbox.boot_id, seq=0, time_s=0
        )
        if trial is not None and self.outbox.sample(trial) is None:
            raise RequestError("the tensors are too large to be sent in one message", status=413)
        seen = watch.request(prediction, now_s)
        if not seen.sane:
            raise RequestError("the scores hold what is no number")
        if seen.choice is None:
            raise RequestError(
                f"this hour's budget for captures of {order.model} is spent",
                status=429,
                hint="it frees up by the minute",
            )
        return self._sample(watch, prediction, seen, order.time_s if order.time_s is not None else wall_s)

    def capture_status(self, name: str) -> dict[str, Any] | None:
        """Return what became of a capture; None where none has that id (any more)."""
        found = self.memory.captures.get(name)
        if found is None:
            return None
        sent = found.state is State.KEPT and self.spool.sent((found.boot_id, found.seq))
        state = "sent" if sent else found.state.value
        said = {"id": name, "model": found.model, "prediction": found.prediction, "state": state}
        return {**said, "reason": found.reason} if found.reason else said

    def _sample(self, watch: Watch, prediction: Prediction, seen: Seen, time_s: float) -> list[Effect]:
        """Buffer the sample of a prediction that was chosen, or take note that a capture comes to nothing."""
        now_s, boot_id, captures = self.clock.monotonic_s(), self.outbox.boot_id, self.memory.captures
        if prediction.capture is not None and captures.get(prediction.capture) is not None:
            prediction = dataclasses.replace(prediction, capture=None)  # two asked at once: the first has the id
        if seen.choice is None:
            if prediction.capture is not None:
                why = "this hour's budget for captures is spent" if seen.sane else "the scores hold what is no number"
                captures.drop(prediction.capture, prediction, boot_id, watch.muted or why)
                self.memory.soon(now_s)
            return []
        seq = self.outbox.next_seq()
        sample = watch.sample(prediction, seen, seen.choice, boot_id=boot_id, seq=seq, time_s=time_s)
        row = self.outbox.sample(sample) if sample is not None else None
        if prediction.capture is not None and row is not None:
            captures.begin(prediction.capture, prediction, row.key)
        elif prediction.capture is not None:
            why = "too large to be sent in one message" if sample is not None else "it cannot be sealed"
            captures.drop(prediction.capture, prediction, boot_id, why)
        self.memory.buffer(row, now_s)
        return self._finish(Work()) if self._flush(len(self.memory.buffered)) else []
