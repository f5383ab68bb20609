"""A function of one value as polynomials in sixteen segments (see curves.py for how they come about)."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
SEGMENTS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """u = value * scale + shift; result = polynomial of u whose coefficients f64[degree + 1, 16] (lowest first) are
    those of segment round(u). `last`: u is limited to the segments, and the result is a byte with its zero point;
    otherwise only the segment is limited, and the result is in units of the output's scale.
    """

    scale: float
    shift: float
    coefficients: Values
    last: bool

    @property
    def degree(self) -> int:
        """Of the polynomials."""
        return int(self.coefficients.shape[0]) - 1

    def at(self, values: Values) -> Values:
        """Return the results, in the arithmetic of the kernels."""
        u = (values * self.scale + self.shift).astype(np.float32)
        inside = np.clip(u, np.float32(0), np.float32(SEGMENTS - 1))
        place = np.rint(inside).astype(np.int64)
        u = inside if self.last else u
        table = self.coefficients.astype(np.float32)
        result = table[-1][place]
        for row in table[-2::-1]:
            result = (result.astype(np.float64) * u + row[place]).astype(np.float32)
        return np.asarray(result, np.float64)
