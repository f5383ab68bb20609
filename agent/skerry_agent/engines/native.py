"""The native engine: a shared library that the compiler generated from the model. It needs nothing, not even a C
library.

The interface (version 1), in C:

    const uint32_t skerry_abi;              // 1
    const uint64_t skerry_sizes[];          // number of inputs, number of outputs, bytes of each input, bytes of each
    output int32_t skerry_run(const void *const *inputs, void *const *outputs);    // 0, or what went wrong

A library made for several threads has two more functions:

    int32_t skerry_threads(int32_t (*give)(void));  // how many may share an inference; those that wait call `give`
    uint32_t skerry_ended;                          // how many inferences are over
    void skerry_help(int32_t slot, uint32_t turn);  // a helper's share until `turn` are over; slots from 1

Scratch memory is static inside the library, so one process runs one inference at a time.
"""

from __future__ import annotations

import _thread  # threading costs memory in every worker
import ctypes
import os

from skerry_agent.engines.base import Engine, EngineError, addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skerry_agent.engines.base import Job

ABI = 1
STACK_BYTES = 256 << 10  # of a helper: kernels keep a few kilobytes there


class Crew:
    """Threads that help with inferences and sleep in between. One that comes late, or never, holds nothing up: whoever
    runs the inference does what nobody else has taken.
    """

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        """Start the helpers of an opened library; as many as the machine gives, up to `threads` with the caller."""
        self._over = ctypes.c_uint32()
        count = min(threads, self._most(library))
        self._gates = []
        self._dismissed = False
        self._turn = 0
        before = _thread.stack_size(STACK_BYTES)
        try:
            for slot in range(1, count):
                gate = _thread.allocate_lock()
                gate.acquire()
                _thread.start_new_thread(self._help, (library.skerry_help, gate, slot))
                self._gates.append(gate)
        except RuntimeError:  # no more threads here: those that there are go on
            pass
        finally:
            _thread.stack_size(before)

    def _most(self, library: ctypes.CDLL) -> int:
        """Return how many threads a library takes, and tell it how to give way to others."""
        try:
            join, library.skerry_help.restype = library.skerry_threads, None
            self._over = ctypes.c_uint32.in_dll(library, "skerry_ended")
        except (AttributeError, ValueError):
            return 1
        return int(join(ctypes.CDLL(None).sched_yield))

    def __len__(self) -> int:
        return len(self._gates)

    def call(self) -> None:
        """Wake the helpers for an inference that begins now."""
        self._turn = self._over.value + 1
        for gate in self._gates:
            if gate.locked():
                gate.release()

    def dismiss(self) -> None:
        """Let the helpers end."""
        self._dismissed = True
        self.call()
        self._gates.clear()

    def _help(self, help_with: Any, gate: Any, slot: int) -> None:
        while True:
            gate.acquire()
            if self._dismissed:
                return
            help_with(slot, self._turn)


class NativeEngine(Engine):
    """A generated library, opened with dlopen."""

    def __init__(self, job: Job) -> None:
        """Open the library and check that it was made for this signature.

        Raises:
            EngineError: it cannot be opened here, speaks another interface version, or has other inputs or outputs.
        """
        super().__init__(job)
        path = os.path.abspath(job.path("library"))  # noqa: PTH100 pathlib costs a megabyte in every worker
        try:
            self._library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            abi = ctypes.c_uint32.in_dll(self._library, "skerry_abi").value
            function = self._library.skerry_run
        except (OSError, ValueError, AttributeError) as error:
            hint = "was it compiled for this machine? see: skerry targets show host"
            raise EngineError(f"the native library does not load: {str(error)[:300]}", hint=hint) from error
        if abi != ABI:
            raise EngineError(f"the native library speaks interface {abi}, this agent {ABI}", hint="update the agent")
        expected = [len(job.inputs), len(job.outputs), *(each.size_bytes for each in job.inputs + job.outputs)]
        found = list((ctypes.c_uint64 * len(expected)).in_dll(self._library, "skerry_sizes"))
        if found != expected:
            raise EngineError(f"the native library was made for other tensors: {found} bytes, not {expected}")
        function.restype = ctypes.c_int32
        self._function = function
        self._crew = Crew(self._library, job.threads) if job.threads > 1 else None

    def bind(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> Callable[[], None]:
        """See Engine."""
        sources, keep_in = addresses(self.inputs, inputs, writable=False)
        targets, keep_out = addresses(self.outputs, outputs, writable=True)
        source_list = (ctypes.c_void_p * len(sources))(*sources)
        target_list = (ctypes.c_void_p * len(targets))(*targets)
        keep = (keep_in, keep_out)

        # References made once and looked up as defaults: small models take less time than converting arguments would.
        def call(
            function: Any = self._function,
            at: object = ctypes.byref(source_list),
            to: object = ctypes.byref(target_list),
            _keep: object = keep,
        ) -> None:
            status = function(at, to)
            if status:
                raise EngineError(f"the native library returned {status}")

        crew = self._crew
        if not crew:
            return call

        def call_all(call: Callable[[], None] = call, wake: Callable[[], None] = crew.call) -> None:
            wake()
            call()

        return call_all

    def close(self) -> None:
        """Forget the library. It stays mapped: unmapping code that a caller may still hold is not worth the risk."""
        if self._crew:
            self._crew.dismiss()
        del self._function
