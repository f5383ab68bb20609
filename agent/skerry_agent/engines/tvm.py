"""TVM: a library compiled ahead by the compiler, run by the virtual machine of libtvm_runtime through tvm-ffi's C ABI
(tvm/ffi/c_api.h and dlpack.h): neither TVM's Python package nor numpy is imported.

Every value that crosses is a TVMFFIAny of 16 bytes: a type index, padding, and a number or pointer. Objects that come
back are owned by the caller until TVMFFIObjectDecRef.
"""

from __future__ import annotations

import ctypes
import os

from skerry_agent.engines.base import Engine, EngineError, addresses
from skerry_agent.engines.library import find, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skerry_agent.engines.base import Job, Spec

_NOTHING, _INT, _BOOL, _DLTENSOR, _TEXT, _FUNCTION, _TENSOR, _ARRAY = 0, 1, 2, 7, 8, 68, 70, 71
_HEADER_BYTES = 24  # of TVMFFIObject, ahead of what an object holds
_CPU, _POOLED = 1, 2  # kDLCPU; the virtual machine's allocator that keeps its buffers
_ALIGNMENT = 64  # generated code loads whole vectors
_SERIES = (0, 1)  # of the ABI
_CODES = {"BOOL": 6, "UINT8": 1, "UINT16": 1, "UINT32": 1, "UINT64": 1, "FP16": 2, "FP32": 2, "FP64": 2}  # else signed


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_int64), ("pointer", ctypes.c_void_p), ("text", ctypes.c_char_p))


class _Any(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("padding", ctypes.c_uint32), ("value", _Value))


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.c_void_p),
        ("offset", ctypes.c_uint64),
    )


class _Api:
    """The two libraries: `call` calls a function object and raises what it raised."""

    def __init__(self, runtime: str) -> None:
        folder = os.path.dirname(os.path.abspath(runtime))  # noqa: PTH100, PTH120 pathlib costs a megabyte
        places = (f"{folder}/libtvm_ffi.so", f"{folder}/../../tvm_ffi/lib/libtvm_ffi.so")
        beside = next((each for each in places if os.path.isfile(each)), "libtvm_ffi.so")  # noqa: PTH113
        try:
            self.ffi = ctypes.CDLL(beside, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
            self._runtime = ctypes.CDLL(runtime, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
            version = (ctypes.c_uint32 * 3)()
            self.ffi.TVMFFIGetVersion(version)
        except OSError as error:
            raise EngineError(f"TVM does not load: {str(error)[:300]}", hint="pip install skerry[tvm]") from error
        except AttributeError as error:
            raise EngineError(f"{beside} is no tvm-ffi", hint="pip install skerry[tvm]") from error
        if tuple(version[:2]) != _SERIES:
            raise EngineError(f"tvm-ffi {version[0]}.{version[1]} is here, 0.1 expected", hint="update the agent")

    def check(self, status: int) -> None:
        if not status:
            return
        raised = ctypes.c_void_p()
        self.ffi.TVMFFIErrorMoveFromRaised(ctypes.byref(raised))
        words = "no reason given"
        if raised.value:
            message = _Bytes.from_address(raised.value + _HEADER_BYTES + ctypes.sizeof(_Bytes))
            words = ctypes.string_at(message.data or 0, message.size).decode("utf-8", "replace")
            self.ffi.TVMFFIObjectDecRef(raised)
        raise EngineError(f"TVM: {' '.join(words.split())[-400:]}")

    def function(self, name: bytes) -> ctypes.c_void_p:
        """Return a global function."""
        text = ctypes.create_string_buffer(name)
        found = ctypes.c_void_p()
        named = _Bytes(ctypes.addressof(text), len(name))
        self.check(self.ffi.TVMFFIFunctionGetGlobal(ctypes.byref(named), ctypes.byref(found)))
        if not found.value:
            raise EngineError(f"this TVM has no {name.decode()}", hint="pip install skerry[tvm]")
        return found

    def call(self, function: ctypes.c_void_p, *arguments: _Any) -> _Any:
        given = (_Any * max(1, len(arguments)))(*arguments)
        result = _Any()
        self.check(self.ffi.TVMFFIFunctionCall(function, given, len(arguments), ctypes.byref(result)))
        return result

    def method(self, module: _Any, name: bytes) -> ctypes.c_void_p:
        """Return a module's function."""
        found = self.call(self.function(b"ffi.ModuleGetFunction"), module, text(name), number(0, _BOOL))
        if found.kind != _FUNCTION:
            raise EngineError(f"the library has no {name.decode()}: it is none of the compiler's")
        return ctypes.c_void_p(found.value.pointer)

    def drop(self, held: _Any) -> None:
        if held.kind >= 64:  # kTVMFFIStaticObjectBegin: an object
            self.ffi.TVMFFIObjectDecRef(ctypes.c_void_p(held.value.pointer))


def text(content: bytes) -> _Any:
    """Return a text as an argument; the bytes must live on."""
    made = _Any(_TEXT, 0)
    made.value.text = content
    return made


def number(value: int, kind: int = _INT) -> _Any:
    """Return a number as an argument."""
    made = _Any(kind, 0)
    made.value.number = value
    return made


class TvmEngine(Engine):
    """A compiled library under TVM's virtual machine, on one thread."""

    def __init__(self, job: Job) -> None:
        """Load the library and start its machine.

        Raises:
            EngineError: no TVM here, or it refuses the library.
        """
        super().__init__(job)
        library = find("tvm")
        if library is None:
            raise EngineError("TVM is not installed here", hint=f"pip install skerry[tvm], or set {variable('tvm')}")
        api = self._api = _Api(library.path)
        path = os.fsencode(os.path.abspath(job.path("library")))  # noqa: PTH100 pathlib costs a megabyte
        # Asked by its format: a blob's name has no ending to tell it.
        self._module = api.call(api.function(b"ffi.Module.load_from_file.so"), text(path), text(b"so"))
        self._machine = api.call(api.method(self._module, b"vm_load_executable"))
        start = api.method(self._machine, b"vm_initialization")
        api.drop(api.call(start, number(_CPU), number(0), number(_POOLED)))
        self._main = api.method(self._machine, b"main")

    def bind(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> Callable[[], None]:
        """See Engine."""
        sources, keep_in = addresses(self.inputs, inputs, writable=False)
        targets, keep_out = addresses(self.outputs, outputs, writable=True)
        pairs = (list(zip(self.inputs, sources, strict=True)), list(zip(self.outputs, targets, strict=True)))
        return _Bound(self._api, self._main, pairs, (keep_in, keep_out))

    def close(self) -> None:
        """Give the machine and the library back."""
        for each in (self._machine, self._module):
            self._api.drop(each)
            each.kind = _NOTHING


class _Bound:
    """One bound call: copy in (aligned), run, copy out what the machine allocated."""

    def __init__(
        self,
        api: _Api,
        main: ctypes.c_void_p,
        pairs: tuple[list[tuple[Spec, int]], list[tuple[Spec, int]]],
        keep: object,
    ) -> None:
        self._api, self._main, self._keep = api, main, [keep]
        self._outputs = pairs[1]
        self._copies, self._arguments = [], []
        for spec, address in pairs[0]:
            room = ctypes.create_string_buffer(spec.size_bytes + _ALIGNMENT)
            at = -(-ctypes.addressof(room) // _ALIGNMENT) * _ALIGNMENT
            shape = (ctypes.c_int64 * max(1, len(spec.shape)))(*spec.shape)
            code, bits = _CODES.get(spec.dtype, 0), 8 * spec.size_bytes // max(1, _elements(spec))
            tensor = _DLTensor(at, _CPU, 0, len(spec.shape), code, bits, 1, shape, None, 0)
            argument = _Any(_DLTENSOR, 0)
            argument.value.pointer = ctypes.addressof(tensor)
            self._copies.append((at, address, spec.size_bytes))
            self._arguments.append(argument)
            self._keep += [room, shape, tensor]

    def __call__(self) -> None:
        for copy in self._copies:
            ctypes.memmove(*copy)
        api = self._api
        result = api.call(self._main, *self._arguments)
        try:
            if result.kind == _TENSOR and len(self._outputs) == 1:
                self._take(result, *self._outputs[0])
            elif result.kind == _ARRAY:
                item = api.function(b"ffi.ArrayGetItem")
                for place, (spec, address) in enumerate(self._outputs):
                    each = api.call(item, result, number(place))
                    try:
                        self._take(each, spec, address)
                    finally:
                        api.drop(each)
            else:
                raise EngineError(f"TVM: the model answers with a value of kind {result.kind}")
        finally:
            api.drop(result)

    def _take(self, held: _Any, spec: Spec, address: int) -> None:
        tensor = _DLTensor.from_address((held.value.pointer or 0) + _HEADER_BYTES)
        size = tensor.bits // 8
        for place in range(tensor.ndim):
            size *= tensor.shape[place]
        if size != spec.size_bytes:
            raise EngineError(f"{spec.name!r}: the model has {size} bytes, {spec.size_bytes} expected")
        ctypes.memmove(address, (tensor.data or 0) + tensor.offset, size)


def _elements(spec: Spec) -> int:
    count = 1
    for each in spec.shape:
        count *= each
    return count
