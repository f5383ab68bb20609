"""Zstandard patches: the only place that knows the library."""

from __future__ import annotations

import zstandard

LEVEL = 19
MAX_WINDOW_LOG = 27  # what devices allow


def patch(base: bytes, target: bytes) -> bytes:
    """Return a frame that gives `target` to whoever has `base` as prefix (as `zstd --patch-from`)."""
    window = min(MAX_WINDOW_LOG, max(10, (len(base) + len(target)).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=window, enable_ldm=len(base) > 1 << 20, source_size=len(target)
    )
    prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=prefix, compression_params=parameters).compress(target)
