"""One program's connection of the fast channel (fast.py): first which model, then one inference after the other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

from skerry_agent import fast_words, shm
from skerry_agent.dispatch import Dispatch, Served
from skerry_agent.errors import AgentError, RequestError
from skerry_agent.fast_words import FrameError, Run
from skerry_agent.hooks import Hooks, Prediction
from skerry_agent.peers import Peer
from skerry_agent.pending import Pending
from skerry_agent.runtime import Runtime, result_of
from skerry_agent.slot import Slot
from skerry_contracts.sample import Kept
from skerry_contracts.tensor import Tensor


class Channel(Protocol):
    """What a connection needs of its channel (fast.FastChannel)."""

    runtime: Runtime
    hooks: Hooks

    def slot(self, model: str) -> Slot:
        """Return the slot that serves a model now. Raises RequestError: 404."""

    def memory(self, inputs: list[int], outputs: list[int]) -> shm.Region:
        """Return new memory for tensors of these sizes in bytes. Raises RequestError: 503."""

    def forget(self, lane: Lane) -> None:
        """Forget a connection that has ended."""


class Lane:
    """A connection; who waits for the slot's answer (pending.Waiter). It must say which model within `open_s`."""

    def __init__(self, channel: Channel, connection: socket.socket, open_s: float) -> None:
        self._channel, self._socket = channel, connection
        self._client = Peer(connection).client()
        self._loop = asyncio.get_running_loop()
        self._model = ""
        self._slot: Dispatch | None = None
        self._region: shm.Region | None = None
        self._asked: Run | None = None
        self._inputs: Sequence[bytes] = ()
        self._request: Pending[Served] | None = None
        self._closed = False
        self._recalling: asyncio.Task[None] | None = None
        self.used_s = self._loop.time()
        self._opening = self._loop.call_later(open_s, self.close)
        self._loop.add_reader(connection, self._readable)

    @property
    def size_bytes(self) -> int:
        """How much memory the program has of ours."""
        return self._region.size_bytes if self._region is not None else 0

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._asked is None

    def close(self) -> None:
        """End the connection; an answer under way is given up."""
        if self._closed:
            return
        self._closed = True
        self._channel.forget(self)
        self._opening.cancel()
        if self._recalling is not None:
            self._recalling.cancel()
        if self._asked is not None and self._slot is not None and self._request is not None:
            self._slot.withdraw(self._request)
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if self._region is not None:
            self._region.close()
            self._region = None

    def done(self) -> bool:
        """See Waiter."""
        return self._closed

    def set_result(self, result: Served) -> None:
        """See Waiter: put the outputs into the shared memory and say so."""
        asked, inputs, region = self._asked, self._inputs, self._region
        assert asked is not None and region is not None
        if result.slot is not self._slot:
            try:
                self._fit(result.slot)
            except RequestError as error:
                self._refuse(error)
                return
        for view, data in zip(region.outputs, result.answer.outputs, strict=True):
            view[:] = data
        manifest = result.slot.manifest
        prediction = self._channel.hooks.next_prediction(self._model)
        self._asked, self._inputs = None, ()
        self._loop.call_soon(self._note, asked, inputs, result, prediction)
        version, elapsed_ns = manifest.version.encode(), result.answer.elapsed_ns
        self._send(fast_words.done(asked.tag, elapsed_ns, version, prediction.encode()))

    def set_exception(self, exception: AgentError) -> None:
        """See Waiter."""
        self._refuse(exception)

    def _readable(self) -> None:
        try:
            frame = self._socket.recv(fast_words.MAX_ASKED_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            frame = b""
        if not frame:
            self.close()
            return
        try:
            if self._asked is not None:
                raise FrameError("the last frame is not answered yet: one at a time")
            if self._region is None:
                self._open(fast_words.read_model(frame))
            else:
                self._asked = fast_words.read_run(frame)
                self._run(self._asked)
        except FrameError as error:
            self._asked = None
            self._refuse(RequestError(str(error)))
            self.close()
        except RequestError as error:
            self._refuse(error)
            if self._region is None:
                self.close()

    def _open(self, model: str) -> None:
        """Hand the memory out.

        Raises:
            RequestError: no such model, or no memory.
            FrameError: the model has too many tensors.
        """
        slot = self._channel.slot(model)
        signature = slot.manifest.signature
        inputs, outputs = ([spec.size_bytes for spec in side] for side in (signature.inputs, signature.outputs))
        starts, total = shm.offsets([*inputs, *outputs])
        frame = fast_words.memory(len(inputs), list(zip(starts, [*inputs, *outputs], strict=True)), total)
        self._model, self._slot, self._region = model, slot, self._channel.memory(inputs, outputs)
        self._opening.cancel()
        try:
            socket.send_fds(self._socket, [frame], [self._region.fd])
        except OSError:
            self.close()

    def _run(self, asked: Run) -> None:
        """Let the model answer what is in the memory.

        Raises:
            RequestError: it cannot, or not now.
        """
        assert self._slot is not None and self._region is not None
        slot = self._slot
        if self._channel.runtime.slot(self._model) is not slot:
            slot = self._channel.slot(self._model)
            self._fit(slot)
        if asked.capture is not None:
            if not asked.keep:
                raise RequestError("a capture's id asks to keep this input, the flag NO_SAMPLE forbids it")
            self._channel.hooks.check_capture(asked.capture)
        self.used_s = self._loop.time()
        if slot.evicted:
            self._inputs = [bytes(view) for view in self._region.inputs]
            self._recalling = self._loop.create_task(self._recall(self._model))
        else:
            views = self._region.inputs
            self._request = slot.ask(views, self, client=self._client)
            # Copied for samples and sketches while the worker is at it: on a slow machine that takes as long as all the
            # rest. A program that writes meanwhile, against the rules, spoils its own.
            if not self._closed:
                copied = [bytes(view) for view in views]
                self._inputs, self._request.inputs = copied, copied

    async def _recall(self, model: str) -> None:
        """Ask a model that had left to make room for others."""
        try:
            await self._channel.runtime.recall(model)
            slot = self._channel.slot(model)
            self._fit(slot)
            self._request = slot.ask(self._inputs, self, client=self._client)
        except RequestError as error:
            self._refuse(error)
        finally:
            self._recalling = None

    def _fit(self, slot: Dispatch) -> None:
        """Take another slot for this model's, if its tensors are the same.

        Raises:
            RequestError: 409, they are not.
        """
        assert self._slot is not None
        now, before = slot.manifest.signature, self._slot.manifest.signature
        if (now.inputs, now.outputs) != (before.inputs, before.outputs):
            words = f"{slot.manifest.model} is another release now, with other tensors"
            raise RequestError(words, status=409, hint="connect again")
        self._slot = slot

    def _note(self, asked: Run, inputs: Sequence[bytes], served: Served, prediction: str) -> None:
        """Tell the hooks, once the answer has gone out."""
        result, specs = result_of(served), served.slot.manifest.signature.inputs
        self._channel.hooks.on_prediction(
            Prediction(
                id=prediction,
                model=self._model,
                inputs=tuple(
                    Tensor(spec.name, spec.dtype, spec.shape, data) for spec, data in zip(specs, inputs, strict=True)
                ),
                outputs=result.outputs,
                latency_ms=result.latency_ms,
                keep=asked.keep,
                bundle=result.bundle,
                wanted=Kept.REQUESTED if asked.capture is not None else None,
                capture=asked.capture,
            )
        )

    def _refuse(self, error: AgentError) -> None:
        asked, self._asked, self._inputs = self._asked, None, ()
        words = f"{error} ({error.hint})" if error.hint else str(error)
        status = 500
        if isinstance(error, RequestError):
            status = error.status
        else:
            words = f"{self._model}: {error}"
        self._send(fast_words.failed(asked.tag if asked is not None else 0, status, words))

    def _send(self, frame: bytes) -> None:
        """Send an answer; a program that does not read its answers loses the connection."""
        try:
            self._socket.send(frame)
        except OSError:
            self.close()
