"""What waits in a slot's queue, and the time each part of its way takes."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.supervision import Counters

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Waiter(Protocol[T_contra]):
    """Who waits for an answer: a future, or something that takes it at once."""

    def done(self) -> bool:
        """Return whether nobody waits any more."""

    def set_result(self, result: T_contra, /) -> Any:
        """Take the answer."""

    def set_exception(self, exception: Any, /) -> Any:
        """Take the reason why there is none."""


class Pending(Generic[T]):
    """One request: its inputs (bytes by the signature), who waits for it, whose it is, when it must have begun (the
    loop's time), and when it came, began and was given.
    """

    __slots__ = ("_asked_ns", "_begun_ns", "_given_ns", "client", "deadline_s", "expires_s", "future", "inputs")

    def __init__(
        self,
        inputs: Sequence[bytes | memoryview],
        deadline_s: float,
        future: Waiter[T],
        client: Hashable = None,
        expires_s: float = math.inf,
    ) -> None:
        self.inputs = inputs
        self.deadline_s = deadline_s
        self.future = future
        self.client = client
        self.expires_s = expires_s
        self._asked_ns = self._begun_ns = self._given_ns = time.perf_counter_ns()

    def begin(self) -> None:
        """Stop counting the wait."""
        self._begun_ns = time.perf_counter_ns()

    def given(self) -> None:
        """Take note that the worker has the inputs."""
        self._given_ns = time.perf_counter_ns()

    def settle(self, answer: T | RequestError | WorkerError) -> None:
        """Tell the caller, unless it went away."""
        if self.future.done():
            return
        if isinstance(answer, (RequestError, WorkerError)):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)

    def count(self, counters: Counters, elapsed_ns: int, behind_ns: int = 0) -> None:
        """Count an answer for which the worker took `elapsed_ns`, after `behind_ns` in which it was at others."""
        counters.predictions += 1
        counters.queue_ns += self._begun_ns - self._asked_ns + behind_ns
        counters.input_ns += self._given_ns - self._begun_ns
        counters.infer_ns += elapsed_ns
        counters.output_ns += max(0, time.perf_counter_ns() - self._given_ns - behind_ns - elapsed_ns)
        counters.last_s = time.time()

    def count_error(self, counters: Counters) -> None:
        """Count a request that got no answer."""
        counters.errors += 1
        counters.errors_ns += time.perf_counter_ns() - self._asked_ns
        counters.last_s = time.time()
