"""ONNX Runtime through its C interface: no numpy, no Python binding, large weights mapped and shared with the page
cache where the variant holds them in a file of their own.

The interface is a table of function pointers that only ever grows, so an index means the same in every later version
(onnxruntime_c_api.h: "new functions are added at the end"). Indices are those of that header.
"""

from __future__ import annotations

import ctypes
import os

from skerry_agent.engines.base import Engine, EngineError, Spec, addresses
from skerry_agent.engines.library import VARIABLE, find, mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skerry_agent.engines.base import Job

API_VERSION = 18  # the oldest that has every function below; 1.18 and later offer it
_TEXT, _POINTER, _INT, _SIZE = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[int, Any, tuple[Any, ...]]] = {
    "GetErrorMessage": (2, _TEXT, (_POINTER,)),
    "CreateEnv": (3, _POINTER, (_INT, _TEXT, _POINTER)),
    "CreateSession": (7, _POINTER, (_POINTER, _TEXT, _POINTER, _POINTER)),
    "Run": (9, _POINTER, (_POINTER, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER)),
    "CreateSessionOptions": (10, _POINTER, (_POINTER,)),
    "DisableMemPattern": (17, _POINTER, (_POINTER,)),
    "DisableCpuMemArena": (19, _POINTER, (_POINTER,)),
    "SetSessionGraphOptimizationLevel": (23, _POINTER, (_POINTER, _INT)),
    "SetIntraOpNumThreads": (24, _POINTER, (_POINTER, _INT)),
    "SetInterOpNumThreads": (25, _POINTER, (_POINTER, _INT)),
    "CreateTensorWithDataAsOrtValue": (49, _POINTER, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _INT, _POINTER)),
    "CreateCpuMemoryInfo": (69, _POINTER, (_INT, _INT, _POINTER)),
    "ReleaseStatus": (93, None, (_POINTER,)),
    "ReleaseSession": (95, None, (_POINTER,)),
    "ReleaseValue": (96, None, (_POINTER,)),
    "ReleaseSessionOptions": (100, None, (_POINTER,)),
    "AddSessionConfigEntry": (130, _POINTER, (_POINTER, _TEXT, _TEXT)),
}
# ONNXTensorElementDataType of the header.
_ELEMENT = {
    "FP32": 1,
    "UINT8": 2,
    "INT8": 3,
    "UINT16": 4,
    "INT16": 5,
    "INT32": 6,
    "INT64": 7,
    "BOOL": 9,
    "FP16": 10,
    "FP64": 11,
    "UINT32": 12,
    "UINT64": 13,
}
_LEVELS = {"none": 0, "basic": 1, "extended": 2, "all": 99}
_LOG_FATAL = 4
_WEIGHTS = b"SKERRYW1"


class _Api:
    """The function table: `check(name, ...)` calls a function and raises what its status says."""

    def __init__(self, path: str) -> None:
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            library.OrtGetApiBase.restype = _POINTER
            base = ctypes.cast(library.OrtGetApiBase(), ctypes.POINTER(_POINTER))
        except (OSError, AttributeError) as error:
            raise EngineError(f"ONNX Runtime does not load: {str(error)[:300]}") from error
        table = ctypes.CFUNCTYPE(_POINTER, ctypes.c_uint32)(base[0] or 0)(API_VERSION)
        if not table:
            raise EngineError(
                f"this ONNX Runtime does not offer C interface {API_VERSION}", hint="install onnxruntime 1.18 or later"
            )
        pointers = ctypes.cast(table, ctypes.POINTER(_POINTER))
        self.functions = {
            name: ctypes.CFUNCTYPE(result, *arguments)(pointers[index] or 0)
            for name, (index, result, arguments) in _FUNCTIONS.items()
        }

    def check(self, name: str, *arguments: object) -> None:
        status = self.functions[name](*arguments)
        if status:
            self.fail(status)

    def fail(self, status: int) -> None:
        message = self.functions["GetErrorMessage"](status).decode("utf-8", "replace")
        self.functions["ReleaseStatus"](status)
        raise EngineError(f"ONNX Runtime: {' '.join(message.split())[:400]}")

    def create(self, name: str, *arguments: object) -> int:
        made = _POINTER()
        self.check(name, *arguments, ctypes.byref(made))
        return made.value or 0


class OnnxRuntimeEngine(Engine):
    """A session on a model file. Options: `graph` (none|basic|extended|all), `prepack` (0|1), `arena` (0|1)."""

    def __init__(self, job: Job) -> None:
        """Make the session and map the weights.

        Raises:
            EngineError: no library here, or ONNX Runtime refuses the model.
        """
        super().__init__(job)
        library = find()
        if library is None:
            raise EngineError(
                "ONNX Runtime is not installed here", hint=f"pip install skerry[onnxruntime], or set {VARIABLE}"
            )
        self._api = _Api(library.path)
        environment = self._api.create("CreateEnv", _LOG_FATAL, b"skerry")
        options = self._options(job)
        # By path: what is parsed from a map counts twice until the session is made.
        path = os.fsencode(job.path("model"))
        self._session = self._api.create("CreateSession", environment, path, options)
        self._api.functions["ReleaseSessionOptions"](options)
        self._memory = self._api.create("CreateCpuMemoryInfo", 0, 0)
        weights = _Weights(job.paths["weights"]) if "weights" in job.paths else None
        fixed = [] if weights is None else weights.specs
        self._held = [self._value(spec, at) for spec, at in fixed]
        self._weights = weights
        self._input_names = _names((*job.inputs, *(spec for spec, _ in fixed)))
        self._output_names = _names(job.outputs)

    def _options(self, job: Job) -> int:
        api, level = self._api, job.options.get("graph", "all")
        if level not in _LEVELS:
            raise EngineError(f"option graph={level!r:.40} is none of {', '.join(_LEVELS)}")
        options = api.create("CreateSessionOptions")
        api.check("SetIntraOpNumThreads", options, job.threads)
        api.check("SetInterOpNumThreads", options, 1)
        api.check("SetSessionGraphOptimizationLevel", options, _LEVELS[level])
        if job.options.get("arena", "0") == "0":
            api.check("DisableCpuMemArena", options)
            api.check("DisableMemPattern", options)
        entries = {"session.intra_op.allow_spinning": "0"}
        if job.options.get("prepack", "1") == "0":
            entries["session.disable_prepacking"] = "1"
        for key, value in entries.items():
            api.check("AddSessionConfigEntry", options, key.encode(), value.encode())
        return options

    def bind(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> Callable[[], None]:
        """See Engine."""
        sources, keep_in = addresses(self.inputs, inputs, writable=False)
        targets, keep_out = addresses(self.outputs, outputs, writable=True)
        values = [self._value(spec, at) for spec, at in zip(self.inputs, sources, strict=True)]
        results = [self._value(spec, at) for spec, at in zip(self.outputs, targets, strict=True)]
        sources_and_weights = [*values, *self._held]
        source_list = (_POINTER * len(sources_and_weights))(*sources_and_weights)
        target_list = (_POINTER * len(results))(*results)
        arguments = (self._session, None, self._input_names, source_list, len(sources_and_weights))
        rest = (self._output_names, len(results), target_list)
        return _Bound(self._api, (*arguments, *rest), [*values, *results], (keep_in, keep_out))

    def _value(self, spec: Spec, address: int) -> int:
        shape = (ctypes.c_int64 * max(1, len(spec.shape)))(*spec.shape)
        return self._api.create(
            "CreateTensorWithDataAsOrtValue",
            self._memory,
            address,
            spec.size_bytes,
            shape,
            len(spec.shape),
            _ELEMENT[spec.dtype],
        )

    def close(self) -> None:
        """Release the session and the mapped weights' values."""
        if self._session:
            self._api.functions["ReleaseSession"](self._session)
            self._session = 0
            for value in self._held:
                self._api.functions["ReleaseValue"](value)
            self._held = []


class _Weights:
    """The mapped file of weights: what each tensor is and where it lies (the compiler's onnxruntime_mapped.py)."""

    def __init__(self, path: str) -> None:
        """Map the file and read its index.

        Raises:
            EngineError: it cannot be read, or is damaged.
        """
        self._content = content = mapped(path)
        base = ctypes.addressof(ctypes.c_char.from_buffer(content))
        length = int.from_bytes(content[8:16], "little")
        self.specs: list[tuple[Spec, int]] = []
        try:
            if content[:8] != _WEIGHTS or 16 + length > len(content):
                raise ValueError("no such file")
            for line in content[16 : 16 + length].decode().splitlines():
                name, offset, extents = line.split("\t")
                spec = Spec(name, "FP32", [int(each) for each in extents.split(",")])
                if not 0 <= int(offset) <= len(content) - spec.size_bytes or int(offset) % 4:
                    raise ValueError("it is cut short")
                self.specs.append((spec, base + int(offset)))
        except ValueError as error:  # UnicodeDecodeError is one
            raise EngineError(f"the file of weights is damaged: {error}") from error


class _Bound:
    """One bound call; gives its tensors back when it is dropped."""

    def __init__(self, api: _Api, arguments: tuple[object, ...], values: list[int], keep: object) -> None:
        self._api, self._arguments, self._values, self._keep = api, arguments, values, keep
        self._run = api.functions["Run"]

    def __call__(self) -> None:
        status = self._run(*self._arguments)
        if status:
            self._api.fail(status)

    def __del__(self) -> None:
        for value in self._values:
            self._api.functions["ReleaseValue"](value)


def _names(specs: Sequence[Spec]) -> Any:
    return (_TEXT * len(specs))(*(spec.name.encode() for spec in specs))
