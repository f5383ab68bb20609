"""A frame's memory from the agent itself, asked for by packets of a few bytes: the fast channel (fast_words.py)."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
import weakref
from pathlib import Path

from skerry_agent import fast_words, shm, sockets
from skerry_agent.client_memory import Asked, SharedInference
from skerry_agent.errors import RequestError
from skerry_agent.fast_words import Done, FrameError


class Fast:
    """Memory that the agent gave. A connection that broke is made anew with the next inference.

    The agent then gives other memory: the views that the program has stay with the first, and what lies there is copied
    to and fro.
    """

    def __init__(self, path: Path, model: str, inputs: list[int], outputs: list[int], *, timeout_s: float) -> None:
        """Connect; the tensors' sizes are in bytes.

        Raises:
            OSError: there is no such channel, or it is full.
            RequestError: the agent refuses (its status).
        """
        self._path, self._model, self._timeout_s = path, model, timeout_s
        starts, self._size = shm.offsets([*inputs, *outputs])
        self._places = list(zip(starts, [*inputs, *outputs], strict=True))
        self._inputs_end = starts[len(inputs)] if outputs else self._size
        self._tag = 0
        self._socket: socket.socket | None = None
        self._hang_up: weakref.finalize[[], Fast] | None = None
        self.memory = self._theirs = self._connect()

    def infer(self, asked: Asked) -> SharedInference:
        """See client_memory.Way."""
        kept = self._socket is not None
        try:
            return self._exchange(asked)
        except ConnectionError:  # a kept connection may have made room for others, or the agent was started anew
            if not kept:
                raise
            return self._exchange(asked)

    def close(self) -> None:
        """Close the connection; views that are still in use stay valid."""
        if self._hang_up is not None:
            self._hang_up()
        self._socket = self._hang_up = None

    def _exchange(self, asked: Asked) -> SharedInference:
        if self._socket is None:
            self._theirs = self._connect()
        if self._theirs is not self.memory:
            memoryview(self._theirs)[: self._inputs_end] = memoryview(self.memory)[: self._inputs_end]
        connection, self._tag = self._socket, (self._tag + 1) & 0xFFFFFFFF
        assert connection is not None
        try:
            connection.send(fast_words.run(self._tag, keep=asked.sample, capture=asked.capture))
            answer = fast_words.read_answer(_receive(connection))
            if answer.tag != self._tag:
                raise FrameError("an answer to another question")
        except FrameError as error:
            self.close()
            raise ConnectionError(f"the agent is not understood: {error}") from error
        except BlockingIOError as error:
            self.close()
            words = f"no answer from {self._path} within {self._timeout_s:g} s"
            raise RequestError(words, status=503, hint="see: skerry agent status") from error
        except BaseException:  # also Ctrl-C: an answer may be on its way that must not be taken for the next one's
            self.close()
            raise
        if not isinstance(answer, Done):
            if answer.status == 409:
                self.close()  # the memory is no longer the model's
            raise RequestError(answer.text, status=answer.status)
        if self._theirs is not self.memory:
            memoryview(self.memory)[self._inputs_end :] = memoryview(self._theirs)[self._inputs_end :]
        return SharedInference(answer.prediction, answer.version)

    def _connect(self) -> mmap.mmap:
        """Return the memory that comes with a new connection."""
        connection = sockets.connect(self._path, None, socket.SOCK_SEQPACKET)
        try:
            # Kept by the kernel: Python's own timeout would cost a poll(2) with every packet.
            limit = struct.pack("@ll", int(self._timeout_s), int(self._timeout_s % 1 * 1e6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            connection.send(fast_words.model(self._model))
            memory = self._take(connection)
        except BaseException:
            connection.close()
            raise
        self._socket, self._hang_up = connection, weakref.finalize(self, connection.close)
        return memory

    def _take(self, connection: socket.socket) -> mmap.mmap:
        frame, descriptors, _, _ = socket.recv_fds(connection, fast_words.MAX_ANSWER_BYTES, 1)
        try:
            if not frame:
                raise ConnectionResetError("the agent closed the connection")
            if frame[0] == fast_words.FAILED:
                answer = fast_words.read_answer(frame)
                if not isinstance(answer, Done) and answer.status != 503:
                    raise RequestError(answer.text, status=answer.status)
                raise ConnectionRefusedError("the fast channel is full")
            if fast_words.read_memory(frame) != (self._places, self._size) or len(descriptors) != 1:
                raise RequestError(f"{self._model} is another release now, with other tensors", status=409)
            os.posix_fallocate(descriptors[0], 0, self._size)  # now: later it would be a SIGBUS
            return mmap.mmap(descriptors[0], self._size)
        except FrameError as error:
            raise ConnectionError(f"the agent is not understood: {error}") from error
        finally:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _receive(connection: socket.socket) -> bytes:
    frame = connection.recv(fast_words.MAX_ANSWER_BYTES)
    if not frame:
        raise ConnectionResetError("the agent closed the connection")
    return frame
