"""NVIDIA's driver through its C interface (CUDA Driver API, `cuda.h`): which device is here, and does it load a cubin.

Only `libcuda.so.1` is asked, which comes with the driver and with nothing else: no toolkit, no Python package.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from skerry_compiler.errors import ToolError

LIBRARY = "libcuda.so.1"
NO_BINARY_FOR_GPU = 209
# CUdevice_attribute: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_MAJOR, _MINOR = 75, 76
_int, _text, _handle = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
_int_out, _handle_out = ctypes.POINTER(_int), ctypes.POINTER(_handle)
# Each returns a CUresult; CUdevice is an int, contexts and modules are pointers.
_FUNCTIONS: Mapping[str, Sequence[Any]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDriverGetVersion": (_int_out,),
    "cuDeviceGetCount": (_int_out,),
    "cuDeviceGet": (_int_out, _int),
    "cuDeviceGetName": (_text, _int, _int),
    "cuDeviceGetAttribute": (_int_out, _int, _int),
    "cuDevicePrimaryCtxRetain": (_handle_out, _int),
    "cuDevicePrimaryCtxRelease_v2": (_int,),
    "cuCtxSetCurrent": (_handle,),
    "cuModuleLoadData": (_handle_out, _text),
    "cuModuleUnload": (_handle,),
    "cuGetErrorName": (_int, ctypes.POINTER(_text)),
}


class Driver:
    """The driver, and the first device that it shows (CUDA_VISIBLE_DEVICES chooses), in a with statement."""

    def __init__(self, library: str = LIBRARY) -> None:
        """Load the driver and take its first device.

        Raises:
            ToolError: no driver, none that works, or no device.
        """
        try:
            found = ctypes.CDLL(library)
            self._functions = {name: self._function(found, name, kinds) for name, kinds in _FUNCTIONS.items()}
        except (OSError, AttributeError) as error:
            raise ToolError(
                f"no NVIDIA driver here: {library} is missing or not whole",
                hint="run it on a machine with an NVIDIA GPU",
            ) from error
        self._check("cuInit", 0)
        count = self._number("cuDeviceGetCount")
        if not count:
            raise ToolError("the NVIDIA driver shows no device", hint="is CUDA_VISIBLE_DEVICES empty?")
        self._device = self._number("cuDeviceGet", 0)
        self._context = _handle()

    @staticmethod
    def _function(library: ctypes.CDLL, name: str, kinds: Sequence[Any]) -> Any:
        function = getattr(library, name)
        function.argtypes, function.restype = list(kinds), _int
        return function

    def __enter__(self) -> Driver:
        """Make the device's primary context current: the one that other libraries of this process use."""
        self._check("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._check("cuCtxSetCurrent", self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the context back."""
        self._functions["cuCtxSetCurrent"](None)
        self._functions["cuDevicePrimaryCtxRelease_v2"](self._device)

    @property
    def version(self) -> str:
        """The newest CUDA that the driver runs, such as 13.0."""
        number = self._number("cuDriverGetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    @property
    def name(self) -> str:
        """The device's name."""
        text = ctypes.create_string_buffer(256)
        self._check("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode("utf-8", "replace")

    @property
    def capability(self) -> tuple[int, int]:
        """The device's compute capability."""
        return tuple(self._number("cuDeviceGetAttribute", each, self._device) for each in (_MAJOR, _MINOR))  # type: ignore[return-value]  # of two

    def load(self, cubin: bytes) -> int:
        """Load machine code and unload it again; return the driver's code, 0 where the device takes it."""
        module = _handle()
        code: int = self._functions["cuModuleLoadData"](ctypes.byref(module), cubin)
        if not code:
            self._check("cuModuleUnload", module)
        return code

    def error(self, code: int) -> str:
        """Return the driver's name of a code, such as CUDA_ERROR_NO_BINARY_FOR_GPU."""
        name = _text()
        if self._functions["cuGetErrorName"](code, ctypes.byref(name)) or name.value is None:
            return f"code {code}"
        return name.value.decode("ascii", "replace")

    def _number(self, function: str, *words: int) -> int:
        value = _int()
        self._check(function, ctypes.byref(value), *words)
        return value.value

    def _check(self, function: str, *words: Any) -> None:
        code = self._functions[function](*words)
        if code:
            raise ToolError(
                f"the NVIDIA driver refuses {function}: {self.error(code)}", hint="does nvidia-smi run here?"
            )
