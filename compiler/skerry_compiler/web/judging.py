"""Whether answers are the golden ones: the rule by which a device judges them (`skerry_contracts.bundle.Golden`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_contracts.bundle import Golden, Signature

Arrays = Sequence[NDArray[Any]]


def wrong(golden: Golden, signature: Signature, found: Arrays, known: Arrays) -> str:
    """Return what of the answers is not the known one, "" where all is.

    Args:
        golden: tolerances.
        signature: of the model.
        found: an array for each output, its first axis the rows.
        known: the same of the golden answers.
    """
    for spec, ours, theirs in zip(signature.outputs, found, known, strict=True):
        count = len(theirs)
        a, b = (np.asarray(each, np.float64).reshape(count, -1) for each in (ours, theirs))
        if spec.name == signature.label_output:
            if golden.same_label and not np.array_equal(a, b):
                return f"{int((a != b).any(axis=1).sum())} of {count} labels differ"
            continue
        with np.errstate(invalid="ignore"):
            near = (a == b) | (np.abs(a - b) <= golden.atol + golden.rtol * np.abs(b))
        if not near.all():
            far = int((~near).any(axis=1).sum())
            return f"{far} of {count} rows of {spec.name} are beyond {golden.atol:.3g} + {golden.rtol:.3g} of the known"
        if golden.same_label and spec.name == signature.score_output and spec.elements:
            width = spec.shape[-1] if spec.shape else 1
            best = [each.reshape(-1, width).argmax(axis=1) for each in (a, b)]
            if not np.array_equal(*best):
                return f"{int((best[0] != best[1]).sum())} best classes differ"
    return ""
