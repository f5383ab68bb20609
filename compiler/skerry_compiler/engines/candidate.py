"""What a candidate is before anything was measured: how it is called, what it is made of, what it asks of a device."""

from __future__ import annotations

import dataclasses

from skerry_contracts.bundle import Predicates, Variant
from skerry_contracts.evidence import Unsupported

GIVEN = "native-int8-given"  # in bytes because the model came in bytes
FROZEN = "native-int8-frozen"  # in the scales of an earlier release
MEGABYTE = 1 << 20
# What a drafter that has not thought of some model raises: that is one engine's failure, and the others go on.
MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """One way to run the model. `files` maps a role to content; `c_text` is source that is still to be compiled to
    `library`.

    `memory_bytes` is what it adds to a bare worker, estimated. Where nothing can be measured, candidates are ranked by
    `estimate_cycles`, the cost model's processor cycles of one inference, and by `order` where an engine has no model.
    """

    id: str
    engine: str
    precision: str
    requires: Predicates
    memory_bytes: int
    order: int
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    c_text: str | None = None
    estimate_cycles: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A candidate that could not be made, and why: in words, and node by node where it is for want of operators."""

    id: str
    engine: str
    precision: str
    reason: str
    unsupported: tuple[Unsupported, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """A draft with all its blobs, as a variant."""

    draft: Draft
    variant: Variant
    blobs: dict[str, bytes]

    @property
    def size_bytes(self) -> int:
        """Bytes of the variant's own blobs."""
        return sum(map(len, self.blobs.values()))


def megabytes(size: float) -> int:
    """Return a size rounded up to whole megabytes, so that a bundle's id does not hang on a few bytes."""
    return max(1, -(-int(size) // MEGABYTE)) * MEGABYTE
