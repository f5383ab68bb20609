"""A tensor in a few numbers: a fixed random projection that is the same on every device, for ever.

Every element is added to or taken from one of the few numbers, as its own digest bit and place say (the count sketch of
Charikar, Chen and Farach-Colton, 2002; it keeps distances as feature hashing does: Weinberger et al., 2009). Of a large
tensor 1024 elements at even distances are looked at, so that the time is bounded: some 40 µs at most.
"""

from __future__ import annotations

import hashlib
import math
import struct

from skerry_contracts.sketch import LARGEST
from skerry_contracts.tensor import ITEM_BYTES, STRUCT_CODE, Tensor, TensorSpec

MOST_ELEMENTS = 1024
_SEED = b"skerry projection 1"


class Glance:
    """At most `MOST_ELEMENTS` of a tensor's elements, at even distances: the same ones every time."""

    def __init__(self, spec: TensorSpec) -> None:
        step = max(1, math.ceil(spec.elements / MOST_ELEMENTS))
        self.elements = math.ceil(spec.elements / step)
        self._spec = spec
        pad = f"{(step - 1) * ITEM_BYTES[spec.dtype]}x"
        self._struct = struct.Struct("<" + pad.join([STRUCT_CODE[spec.dtype]] * self.elements))

    def read(self, tensor: Tensor) -> tuple[float, ...] | None:
        """Return the elements; None where the tensor's bytes are elsewhere or not of this spec."""
        if tensor.data is None or tensor.dtype != self._spec.dtype or len(tensor.data) != self._spec.size_bytes:
            return None
        return self._struct.unpack_from(tensor.data)


class Projection:
    """From tensors of one spec to `dimensions` numbers (fewer where the tensor has fewer: then its own elements)."""

    def __init__(self, spec: TensorSpec, dimensions: int) -> None:
        self._glance = Glance(spec)
        taken = self._glance.elements
        self.dimensions = min(dimensions, taken)
        self._own = taken <= dimensions
        self._scale = math.sqrt(self.dimensions / max(1, taken))
        self._added: list[list[int]] = [[] for _ in range(self.dimensions)]
        self._taken: list[list[int]] = [[] for _ in range(self.dimensions)]
        for place, byte in enumerate(hashlib.shake_256(_SEED).digest(taken)):
            (self._added if byte & 128 else self._taken)[(byte & 127) % self.dimensions].append(place)

    def apply(self, tensor: Tensor) -> list[float] | None:
        """Return the numbers; None where the tensor's bytes are elsewhere, not of its spec, or hold what is none."""
        values = self._glance.read(tensor)
        if values is None:
            return None
        if self._own:
            found = [float(value) for value in values]
        else:
            pairs = zip(self._added, self._taken, strict=True)
            found = [self._scale * (sum([values[i] for i in a]) - sum([values[i] for i in b])) for a, b in pairs]
        return found if all(abs(value) <= LARGEST for value in found) else None
