"""Zstandard patches, through the C library that most systems have. Without it, a device asks for no such deltas.

Only the decoder, with a prefix (zstd.h: ZSTD_DCtx_refPrefix; RFC 8878). Memory is bounded by `WINDOW_LOG_MAX`,
whatever a frame asks for.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator

from skerry_agent.errors import TrustError
from skerry_contracts.device import Reason

LIBRARIES = ("libzstd.so.1", "libzstd.1.dylib")
WINDOW_LOG_MAX = 27
OUT_BYTES = 1 << 18
_D_WINDOW_LOG_MAX = 100  # ZSTD_d_windowLogMax


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer: address, size, position."""

    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t)]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the library; None where there is none."""
    for name in LIBRARIES:
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        found.ZSTD_createDCtx.restype = ctypes.c_void_p
        found.ZSTD_getErrorName.restype = ctypes.c_char_p
        found.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
        found.ZSTD_isError.argtypes = [ctypes.c_size_t]
        for each in (found.ZSTD_DCtx_setParameter, found.ZSTD_DCtx_refPrefix, found.ZSTD_decompressStream):
            each.restype = ctypes.c_size_t
        found.ZSTD_DCtx_setParameter.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        found.ZSTD_DCtx_refPrefix.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        found.ZSTD_decompressStream.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(_Buffer),
            ctypes.POINTER(_Buffer),
        ]
        found.ZSTD_freeDCtx.argtypes = [ctypes.c_void_p]
        return found
    return None


def restored(base: bytes, body: bytes) -> Iterator[bytes]:
    """Return the target's bytes, piece by piece.

    Raises:
        TrustError: CORRUPT, the frame is damaged or wants more memory than allowed.
    """
    found = library()
    if found is None:
        raise TrustError("a zstd delta without libzstd", reason=Reason.CORRUPT)
    context = found.ZSTD_createDCtx()
    try:
        _checked(found, found.ZSTD_DCtx_setParameter(context, _D_WINDOW_LOG_MAX, WINDOW_LOG_MAX))
        _checked(found, found.ZSTD_DCtx_refPrefix(context, base, len(base)))
        room = ctypes.create_string_buffer(OUT_BYTES)
        given = _Buffer(ctypes.cast(ctypes.c_char_p(body), ctypes.c_void_p), len(body), 0)
        while True:
            out = _Buffer(ctypes.cast(room, ctypes.c_void_p), OUT_BYTES, 0)
            left = _checked(found, found.ZSTD_decompressStream(context, ctypes.byref(out), ctypes.byref(given)))
            if out.pos:
                yield room.raw[: out.pos]
            if left == 0:
                return
            if given.pos == given.size and out.pos < OUT_BYTES:
                raise TrustError("a delta that ends too early", reason=Reason.CORRUPT)
    finally:
        found.ZSTD_freeDCtx(context)


def _checked(found: ctypes.CDLL, code: int) -> int:
    if found.ZSTD_isError(code):
        raise TrustError(f"a damaged delta: {found.ZSTD_getErrorName(code).decode()}", reason=Reason.CORRUPT)
    return code
