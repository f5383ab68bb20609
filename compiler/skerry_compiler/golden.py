"""Golden vectors: a few rows with the original's answers, by which a device checks a variant before it trusts it."""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler import agreement, data
from skerry_contracts import codec
from skerry_contracts.bundle import Blob, Golden, Signature

MAX_ROWS, MIN_ROWS = 16, 2
MAX_BYTES = 1 << 20  # every device downloads them; beyond it only the fewest rows are kept
RTOL = 1e-3
FLOAT_SHARE, INT8_SHARE = 1e-3, 0.1  # absolute tolerance as a share of the outputs' range


@dataclasses.dataclass(frozen=True, slots=True)
class Vectors:
    """The record for the manifest, and the two blobs it names."""

    golden: Golden
    inputs: bytes
    outputs: bytes


def choose(signature: Signature, rows: data.Rows, outputs: agreement.Outputs, *, int8: bool) -> Vectors:
    """Return golden vectors from rows and the original's outputs on them.

    Rows whose two best classes are nearly equal are passed over where enough others are there: rounding may turn
    those. int8 widens the tolerance, for bundles that ship an 8-bit variant.
    """
    share = INT8_SHARE if int8 else FLOAT_SHARE
    atol = float(f"{share * agreement.range_of(signature, outputs):.3g}")
    clear = _clear(signature, outputs, 4 * atol)
    finite = np.all([np.isfinite(each.reshape(len(each), -1)).all(axis=1) for each in outputs], axis=0)
    places = [int(each) for each in np.nonzero(clear & finite)[0]] or [0]
    row_bytes = sum(spec.size_bytes for spec in (*signature.inputs, *signature.outputs))
    places = places[: max(MIN_ROWS, min(MAX_ROWS, MAX_BYTES // max(1, row_bytes)))]
    inputs = rows.pick(places).to_bytes()
    answers = data.Rows(tuple(each[places] for each in outputs)).to_bytes()
    same_label = signature.score_output is not None
    record = Golden(len(places), blob(inputs), blob(answers), atol, RTOL, same_label)
    return Vectors(record, inputs, answers)


def blob(content: bytes) -> Blob:
    """Return the record that names some bytes."""
    return Blob(codec.digest(content), len(content))


def _clear(signature: Signature, outputs: agreement.Outputs, margin: float) -> np.ndarray:
    """Return for each row whether its best class leads by more than `margin`."""
    if signature.score_output is None:
        return np.ones(len(outputs[0]), np.bool_)
    place = [spec.name for spec in signature.outputs].index(signature.score_output)
    scores = np.sort(outputs[place].reshape(len(outputs[place]), -1), axis=1)
    clear = scores[:, -1] - scores[:, -2] > margin if scores.shape[1] > 1 else np.ones(len(scores), np.bool_)
    return clear if bool(np.any(clear)) else np.ones(len(scores), np.bool_)
