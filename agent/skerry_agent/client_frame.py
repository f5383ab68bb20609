"""Memory for one model's tensors that a program shares with the agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self

from skerry_agent import fast_words, shm
from skerry_agent.client_fast import Fast
from skerry_agent.client_memory import Asked, SharedInference, Values, Way, buffer, typed
from skerry_agent.client_shared import Registered
from skerry_agent.errors import RequestError
from skerry_contracts.tensor import TensorSpec


class Talker(Protocol):
    """What a frame needs of a client."""

    socket_path: Path | None
    timeout_s: float

    def post(self, path: str, document: Any = None) -> Any:
        """Return the answer to a JSON document."""

    def infer(
        self, model: str, inputs: Mapping[str, Values], *, sample: bool, id: str | None, capture: str | None
    ) -> Any:
        """Return the answer to tensors that are sent."""

    def socket_gid(self) -> int | None:
        """Return the group of the agent's socket."""


class Frame:
    """Memory for one model's inputs and outputs, shared with the agent. Made by `LocalClient.share`.

    `inputs` and `outputs` are views by name, of the tensors' types and shapes; `numpy.asarray` takes them without a
    copy. What is in `outputs` stays until the next `infer`.
    """

    def __init__(
        self, client: Talker, model: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> None:
        self._client, self._model, self._specs = client, model, dict(inputs)
        self._way = _open(client, model, inputs, outputs)
        specs = [*inputs.values(), *outputs.values()]
        starts, _ = shm.offsets([spec.size_bytes for spec in specs])
        whole = memoryview(self._way.memory)
        views = [typed(spec, whole[start : start + spec.size_bytes]) for spec, start in zip(specs, starts, strict=True)]
        self.inputs: Mapping[str, memoryview] = MappingProxyType(dict(zip(inputs, views, strict=False)))
        self.outputs: Mapping[str, memoryview] = MappingProxyType(dict(zip(outputs, views[len(inputs) :], strict=True)))

    @property
    def fast(self) -> bool:
        """Whether this frame has the fast channel."""
        return isinstance(self._way, Fast)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, name: str, values: Values) -> None:
        """Put an input there: bytes, an array of its type, or numbers.

        Raises:
            RequestError: no such input, or values that are not its own.
        """
        if name not in self._specs:
            raise RequestError(f"no input is called {name!r:.80}", hint=f"inputs: {', '.join(self._specs)}")
        spec = self._specs[name]
        data = buffer(spec, values)
        if len(data) != spec.size_bytes:
            raise RequestError(f"input {name!r:.80} takes {spec.size_bytes} bytes, {len(data)} were given")
        if data:
            self.inputs[name].cast("B")[:] = data

    def infer(self, *, sample: bool = True, id: str | None = None, capture: str | None = None) -> SharedInference:
        """Let the model answer what is in `inputs`; the answer is in `outputs` when this returns.

        An agent that was started anew, or has no room left for this way, costs no call: only time.

        Raises:
            RequestError: the agent refuses (its status), or cannot be reached (503).
        """
        try:
            return self._way.infer(Asked(sample, id, capture))
        except OSError:  # this way is closed for now
            answer = self._client.infer(self._model, self.inputs, sample=sample, id=id, capture=capture)
            for name, view in answer.views.items():
                if view.nbytes:
                    self.outputs[name].cast("B")[:] = view.cast("B")
            return SharedInference(answer.prediction_id, answer.model_version)

    def close(self) -> None:
        """Take the memory from the agent; views that are still in use stay valid."""
        self._way.close()


def _open(client: Talker, model: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> Way:
    """Return the fast channel where the agent has one with room for us, else memory that is registered over HTTP."""
    if client.socket_path is not None:
        sizes, more = ([spec.size_bytes for spec in side.values()] for side in (inputs, outputs))
        try:
            return Fast(fast_words.beside(client.socket_path), model, sizes, more, timeout_s=client.timeout_s)
        except OSError:
            pass
    return Registered(client, model, inputs, outputs)
