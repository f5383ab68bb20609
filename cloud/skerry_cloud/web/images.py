"""A sample's input as a picture that a person can judge: PNG bytes from a tensor."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from skerry_cloud.errors import DataError

MIN_SIDE = 256


def to_png(x: npt.NDArray[Any], image_shape: tuple[int, ...] = ()) -> bytes:
    """Return a picture of one input [h, w], [h, w, 1|3], [1|3, h, w], or [h*w] (square, or `image_shape`), enlarged
    without blur.

    Values from 0 to 1 are taken as they are, bytes likewise, all others are stretched from their least to their
    greatest.

    Raises:
        DataError: nothing that could be a picture.
    """
    pixels = _arrange(np.asarray(x), image_shape)
    values = pixels.astype(np.float64)
    if pixels.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        if low < 0.0 or high > 1.0:
            values = (values - low) / max(high - low, 1e-12)
        values = values * 255.0
    picture = Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
    factor = max(1, math.ceil(MIN_SIDE / max(picture.size)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _arrange(x: npt.NDArray[Any], image_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if x.ndim == 1 and image_shape and math.prod(image_shape) == x.size:
        return x.reshape(image_shape)
    if x.ndim == 1 and x.size and math.isqrt(x.size) ** 2 == x.size:
        return x.reshape(math.isqrt(x.size), -1)
    if x.ndim == 2:
        return x
    if x.ndim == 3 and x.shape[0] in (1, 3):
        x = np.moveaxis(x, 0, -1)
    if x.ndim == 3 and x.shape[2] in (1, 3):
        return x[:, :, 0] if x.shape[2] == 1 else x
    raise DataError(
        f"an input of shape {list(x.shape)} is no picture", hint="set image_shape = [height, width] under [train]"
    )
