"""The native engine: a shared library that the compiler generated from the model. It needs nothing, not even a C
library.

The interface (version 1), in C:

    const uint32_t skerry_abi;              // 1
    const uint64_t skerry_sizes[];          // number of inputs, number of outputs, bytes of each input, bytes of each
    output int32_t skerry_run(const void *const *inputs, void *const *outputs);    // 0, or what went wrong

Scratch memory is static inside the library, so one process runs one inference at a time.
"""

from __future__ import annotations

import ctypes
import os

from skerry_agent.engines.base import Engine, EngineError, addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skerry_agent.engines.base import Job

ABI = 1


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

        return call

    def close(self) -> None:
        """Forget the library. It stays mapped: unmapping code that a caller may still hold is not worth the risk."""
        del self._function
