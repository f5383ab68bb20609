"""LiteRT through its C interface (libLiteRt.so, 2.2 and later): no numpy, no Python binding, the model's bytes mapped.

What the library hands out is passed back as it came: handles are opaque, and the type of a tensor is copied whole, so
that no layout of a C structure is written down here. Tensors have the file's order; signatures may have another.
"""

from __future__ import annotations

import ctypes
import os

from skerry_agent.engines.base import Engine, EngineError, addresses
from skerry_agent.engines.library import find, mapped, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skerry_agent.engines.base import Job, Spec

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_TYPE_BYTES = 1024  # room for a LiteRtRankedTensorType of any version; the present one has 72 bytes
_PROCESSOR = 1  # kLiteRtHwAcceleratorCpu, of litert_common.h
_SINCE = "LiteRtBuilderBuildOp"  # from 2.2 on; before, models were made without an environment
_STATUS = {1: "invalid argument", 2: "out of memory", 3: "it failed", 500: "no such file", 504: "damaged model"}
_NO_DELETER = ctypes.CFUNCTYPE(None, _POINTER)(lambda address: None)


class _Api:
    """The library: `call` calls a function of it and raises what its status says."""

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            getattr(self._library, _SINCE)
        except OSError as error:
            raise EngineError(f"LiteRT does not load: {str(error)[:300]}") from error
        except AttributeError as error:
            raise EngineError(
                f"{path} is no LiteRT of 2.2 or later", hint="pip install 'ai-edge-litert>=2.2'"
            ) from error

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise EngineError(f"LiteRT: {name}: {_STATUS.get(status, f'status {status}')}")

    def make(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """Return what a function writes behind its last argument."""
        made = _POINTER()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def number(self, name: str, *arguments: object) -> int:
        found = _SIZE()
        self.call(name, *arguments, ctypes.byref(found))
        return found.value

    def run(self) -> Callable[..., int]:
        """Return the function that runs a model."""
        function = self._library.LiteRtRunCompiledModel
        function.argtypes = (_POINTER, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER)
        function.restype = ctypes.c_int
        found: Callable[..., int] = function
        return found

    def free(self, name: str, handle: ctypes.c_void_p) -> None:
        getattr(self._library, name)(handle)


class LiteRtEngine(Engine):
    """A compiled model on XNNPACK. Delegates for neural processors are not loaded: no such board has been tried."""

    def __init__(self, job: Job) -> None:
        """Map the model and compile it for this processor.

        Raises:
            EngineError: no library here, LiteRT refuses the model, or it has other inputs or outputs.
        """
        super().__init__(job)
        library = find("litert")
        if library is None:
            hint = f"pip install skerry[litert], or set {variable('litert')}"
            raise EngineError("LiteRT is not installed here", hint=hint)
        api = self._api = _Api(library.path)
        self._content = mapped(job.path("model"))
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._content))
        self._environment = api.make("LiteRtCreateEnvironment", 0, None)
        self._model = api.make(
            "LiteRtCreateModelFromBuffer", self._environment, _POINTER(address), _SIZE(len(self._content))
        )
        options = self._options(job.threads)
        self._compiled = api.make("LiteRtCreateCompiledModel", self._environment, self._model, options)
        api.free("LiteRtDestroyOptions", options)
        self._signature = api.make("LiteRtGetModelSignature", self._model, _SIZE(0))
        self._graph = api.make("LiteRtGetModelSubgraph", self._model, _SIZE(0))
        self._orders = (self._order("Input", job.inputs), self._order("Output", job.outputs))

    def _options(self, threads: int) -> ctypes.c_void_p:
        options = self._api.make("LiteRtCreateOptions")
        self._api.call("LiteRtSetOptionsHardwareAccelerators", options, _PROCESSOR)
        if threads > 1:
            # Options of the processor are TOML under the name xnnpack (litert_cpu_options.cc); the default is 1 thread.
            self._threads = ctypes.create_string_buffer(b"num_threads = %d\n" % threads)
            opaque = self._api.make("LiteRtCreateOpaqueOptions", b"xnnpack", self._threads, _NO_DELETER)
            self._api.call("LiteRtAddOpaqueOptions", options, opaque)
        return options

    def _order(self, side: str, specs: Sequence[Spec]) -> list[int]:
        """Return, for each tensor of the signature that the library runs, which of ours it is."""
        api = self._api
        count = api.number(f"LiteRtGetNumSignature{side}s", self._signature)
        if count != len(specs) or count != api.number(f"LiteRtGetNumSubgraph{side}s", self._graph):
            raise EngineError(f"the model has {count} {side.lower()}s, {len(specs)} expected")
        ours = [self._index(api.make(f"LiteRtGetSubgraph{side}", self._graph, _SIZE(each))) for each in range(count)]
        order = []
        for place in range(count):
            index = self._index(self._tensor(side, place))
            if index not in ours:
                raise EngineError(f"{side.lower()} {place} of the model's signature is none of its graph's")
            order.append(ours.index(index))
        return order

    def _tensor(self, side: str, place: int) -> ctypes.c_void_p:
        return self._api.make(f"LiteRtGetSignature{side}TensorByIndex", self._signature, _SIZE(place))

    def _index(self, tensor: ctypes.c_void_p) -> int:
        found = ctypes.c_uint32()
        self._api.call("LiteRtGetTensorIndex", tensor, ctypes.byref(found))
        return found.value

    def bind(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> Callable[[], None]:
        """See Engine."""
        sources, keep_in = addresses(self.inputs, inputs, writable=False)
        targets, keep_out = addresses(self.outputs, outputs, writable=True)
        made = [self._buffers("Input", self.inputs, sources, 0), self._buffers("Output", self.outputs, targets, 1)]
        return _Bound(self._api, self._compiled, made, (keep_in, keep_out))

    def _buffers(self, side: str, specs: Sequence[Spec], places: list[int], order: int) -> list[_Buffer]:
        return [self._buffer(side, place, specs[ours], places[ours]) for place, ours in enumerate(self._orders[order])]

    def _buffer(self, side: str, place: int, spec: Spec, address: int) -> _Buffer:
        """Return one of the library's own buffers beside the caller's memory (its alignment is the library's)."""
        api = self._api
        kind = ctypes.create_string_buffer(_TYPE_BYTES)
        api.call("LiteRtGetRankedTensorType", self._tensor(side, place), kind)
        wants = api.make(f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, _SIZE(0), _SIZE(place))
        handle = api.make("LiteRtCreateManagedTensorBufferFromRequirements", self._environment, kind, wants)
        size = api.number("LiteRtGetTensorBufferPackedSize", handle)
        if size != spec.size_bytes:
            raise EngineError(f"{spec.name!r}: the model has {size} bytes, {spec.size_bytes} expected")
        host = api.make("LiteRtGetTensorBufferHostMemory", handle)
        return _Buffer(handle, host.value or 0, address, size)

    def close(self) -> None:
        """Release the compiled model and what it was made from."""
        for name in ("CompiledModel", "Model", "Environment"):
            handle = getattr(self, f"_{'compiled' if name == 'CompiledModel' else name.lower()}")
            if handle.value:
                self._api.free(f"LiteRtDestroy{name}", handle)
                handle.value = None


class _Buffer:
    """A buffer of the library, where its memory lies, and the caller's memory of the same size."""

    __slots__ = ("address", "handle", "host", "size_bytes")

    def __init__(self, handle: ctypes.c_void_p, host: int, address: int, size_bytes: int) -> None:
        self.handle, self.host, self.address, self.size_bytes = handle, host, address, size_bytes


class _Bound:
    """One bound call: copy in, run, copy out. Gives its buffers back when it is dropped."""

    def __init__(self, api: _Api, compiled: ctypes.c_void_p, sides: list[list[_Buffer]], keep: object) -> None:
        self._api, self._sides, self._keep = api, sides, keep
        self._lists = [(_POINTER * len(side))(*(each.handle.value for each in side)) for side in sides]
        ins, outs = self._lists
        self._arguments = (compiled, 0, len(sides[0]), ctypes.addressof(ins), len(sides[1]), ctypes.addressof(outs))
        self._copies_in = [(each.host, each.address, each.size_bytes) for each in sides[0]]
        self._copies_out = [(each.address, each.host, each.size_bytes) for each in sides[1]]
        self._run = api.run()

    def __call__(self) -> None:
        for copy in self._copies_in:
            ctypes.memmove(*copy)
        status = self._run(*self._arguments)
        if status:
            raise EngineError(f"LiteRT: the model failed: {_STATUS.get(status, f'status {status}')}")
        for copy in self._copies_out:
            ctypes.memmove(*copy)

    def __del__(self) -> None:
        for side in self._sides:
            for each in side:
                self._api.free("LiteRtDestroyTensorBuffer", each.handle)
