"""OpenVINO through its C interface (libopenvino_c.so): no numpy, no Python binding, the ONNX bytes read from a map.

Functions and property keys are those of openvino/c/*.h; handles are opaque and passed back as they came. Precision is
always said: left alone, the library computes float networks in bfloat16 wherever the processor can.
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

_POINTER, _SIZE, _INT, _TEXT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p
_DEVICE = b"CPU"
_PRECISIONS = ("f32", "bf16")
# ov_element_type_e of ov_common.h.
_ELEMENT = {
    "BOOL": 1,
    "FP16": 3,
    "FP32": 4,
    "FP64": 5,
    "INT8": 7,
    "INT16": 8,
    "INT32": 9,
    "INT64": 10,
    "UINT8": 16,
    "UINT16": 17,
    "UINT32": 18,
    "UINT64": 19,
}


class _Shape(ctypes.Structure):
    """ov_shape_t."""

    _fields_ = (("rank", ctypes.c_int64), ("dims", ctypes.POINTER(ctypes.c_int64)))


class _Api:
    """The library: `call` calls a function of it and raises what its status says."""

    def __init__(self, path: str) -> None:
        try:
            self.library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            self.library.ov_get_error_info.restype = _TEXT
            self.library.ov_get_last_err_msg.restype = _TEXT
        except OSError as error:
            raise EngineError(f"OpenVINO does not load: {str(error)[:300]}") from error
        except AttributeError as error:
            raise EngineError(f"{path} is no OpenVINO of 2024 or later", hint="pip install skerry[openvino]") from error

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            said = self.library.ov_get_last_err_msg() or self.library.ov_get_error_info(_INT(status))
            words = " ".join((said or b"").decode("utf-8", "replace").split())
            raise EngineError(f"OpenVINO: {name}: {words[-400:]}")

    def make(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """Return what a function writes behind its last argument."""
        made = _POINTER()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def number(self, name: str, *arguments: object) -> int:
        found = _SIZE()
        self.call(name, *arguments, ctypes.byref(found))
        return found.value

    def free(self, name: str, handle: ctypes.c_void_p) -> None:
        function = getattr(self.library, name)
        function.restype = None
        function(handle)


class OpenVinoEngine(Engine):
    """A compiled model on the processor. Options: `precision` (f32|bf16), which float layers are computed in; layers
    that the graph holds in 8 bits stay so.
    """

    def __init__(self, job: Job) -> None:
        """Read the model and compile it for this processor.

        Raises:
            EngineError: no library here, OpenVINO refuses the model, or it has other inputs or outputs.
        """
        super().__init__(job)
        precision = job.options.get("precision", "f32")
        if precision not in _PRECISIONS:
            raise EngineError(f"option precision={precision!r:.40} is none of {', '.join(_PRECISIONS)}")
        library = find("openvino")
        if library is None:
            hint = f"pip install skerry[openvino], or set {variable('openvino')}"
            raise EngineError("OpenVINO is not installed here", hint=hint)
        api = self._api = _Api(library.path)
        self._core = api.make("ov_core_create")
        model = self._read(job.path("model"))
        try:
            for side, specs in (("input", job.inputs), ("output", job.outputs)):
                count = api.number(f"ov_model_{side}s_size", model)
                if count != len(specs):
                    raise EngineError(f"the model has {count} {side}s, {len(specs)} expected")
            self._compiled = self._compile(model, job.threads, precision)
        finally:
            api.free("ov_model_free", model)

    def _read(self, path: str) -> ctypes.c_void_p:
        content = mapped(path)
        held = ctypes.c_char.from_buffer(content)
        try:
            arguments = (self._core, _POINTER(ctypes.addressof(held)), _SIZE(len(content)), None)
            return self._api.make("ov_core_read_model_from_memory_buffer", *arguments)
        finally:
            del held
            content.close()  # the library keeps its own copy of the weights

    def _compile(self, model: ctypes.c_void_p, threads: int, precision: str) -> ctypes.c_void_p:
        properties = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": "NO",
        }
        texts = [_TEXT(text.encode()) for pair in properties.items() for text in pair]
        made = _POINTER()
        name = "ov_core_compile_model"
        self._api.call(name, self._core, model, _DEVICE, _SIZE(len(texts)), ctypes.byref(made), *texts)
        return made

    def bind(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> Callable[[], None]:
        """See Engine."""
        sources, keep_in = addresses(self.inputs, inputs, writable=False)
        targets, keep_out = addresses(self.outputs, outputs, writable=True)
        request = self._api.make("ov_compiled_model_create_infer_request", self._compiled)
        bound = _Bound(self._api, request, (keep_in, keep_out))
        for side, specs, places in (("input", self.inputs, sources), ("output", self.outputs, targets)):
            for index, (spec, address) in enumerate(zip(specs, places, strict=True)):
                tensor = self._tensor(spec, address)
                bound.tensors.append(tensor)
                self._api.call(f"ov_infer_request_set_{side}_tensor_by_index", request, _SIZE(index), tensor)
        return bound

    def _tensor(self, spec: Spec, address: int) -> ctypes.c_void_p:
        extents = (ctypes.c_int64 * max(1, len(spec.shape)))(*spec.shape)
        shape = _Shape(len(spec.shape), extents)
        kind = _INT(_ELEMENT[spec.dtype])
        return self._api.make("ov_tensor_create_from_host_ptr", kind, shape, _POINTER(address))

    def close(self) -> None:
        """Release the compiled model and the core."""
        for name, handle in (("ov_compiled_model_free", self._compiled), ("ov_core_free", self._core)):
            if handle.value:
                self._api.free(name, handle)
                handle.value = None


class _Bound:
    """One bound call: a request of its own on the caller's memory. Gives it back when it is dropped."""

    def __init__(self, api: _Api, request: ctypes.c_void_p, keep: object) -> None:
        self._api, self._request, self._keep = api, request, keep
        self.tensors: list[ctypes.c_void_p] = []

    def __call__(self) -> None:
        self._api.call("ov_infer_request_infer", self._request)

    def __del__(self) -> None:
        self._api.free("ov_infer_request_free", self._request)
        for tensor in self.tensors:
            self._api.free("ov_tensor_free", tensor)
