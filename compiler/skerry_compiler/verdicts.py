"""What keeps a candidate from shipping, with the reason in words: answers beyond the tolerance of its precision, files
or memory beyond the target's limits, slower than the original in its default runtime.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler import agreement, gates
from skerry_contracts.bundle import Signature
from skerry_contracts.evidence import Agreement, Measurement, Verdict
from skerry_contracts.tensor import DType
from skerry_targets.profile import Budget

FLOAT_COSINE, FLOAT_RANGE_SHARE, FLOAT_TOP1 = 0.9999, 1e-4, 0.999
HALF_RANGE_SHARE = 2**-10  # two roundings to float16, where the original rounds its own answers; golden rows allow more
MIN_DISTINCT = 64  # values that must all be halves before float32 answers count as rounded
MAX_JSON_FLOAT = 1e30


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """What answers are compared with: the original's on some rows, the true classes of those rows (or None), and the
    original's answers where the inputs are moved by one byte's step (or None where that was not tried). On rows that
    were `made_up`, only what computes as the original does can be judged.
    """

    signature: Signature
    expected: agreement.Outputs
    labels: np.ndarray | None
    noisy: agreement.Outputs | None = None
    made_up: bool = False

    def compare(self, found: agreement.Outputs) -> Agreement:
        """Return how far a candidate's answers are from the original's."""
        agrees = agreement.compare(self.signature, self.expected, found, self.labels)
        return dataclasses.replace(agrees, max_abs=min(agrees.max_abs, MAX_JSON_FLOAT))

    def refusal(self, precision: str, found: agreement.Outputs, *, own: bool = False) -> str | None:
        """Return how a candidate's answers fail, or None. `own`: the precision is the original's own."""
        if precision != "fp32":
            if self.made_up and not own:
                return f"made-up rows do not prove {precision}; give --evaluation or --calibration"
            judgement = gates.judge(self.signature, self.expected, found, self.labels, self.noisy, precision)
            return judgement.refusal
        agrees = self.compare(found)
        accuracy = agreement.accuracy(self.signature, self.expected, self.labels)
        if accuracy is not None and agrees.accuracy is not None and accuracy - agrees.accuracy > gates.ACCURACY_LOSS:
            return f"accuracy {agrees.accuracy:.4f}, the original's is {accuracy:.4f}"
        off = agrees.max_abs / agreement.range_of(self.signature, self.expected)
        most = HALF_RANGE_SHARE if halves(self.signature, self.expected) else FLOAT_RANGE_SHARE
        if agrees.cosine < FLOAT_COSINE or off > most or agrees.top1 < FLOAT_TOP1:
            return f"off by {off:.2g} of the range, {agrees.top1:.1%} same classes, worst cosine {agrees.cosine:.5f}"
        return None


def halves(signature: Signature, outputs: agreement.Outputs) -> bool:
    """Whether answers are float16, by their type or because a model of halves gives its answers as float32."""
    floats = [
        (spec.dtype, content)
        for spec, content in zip(signature.outputs, outputs, strict=True)
        if spec.dtype in (DType.FP16, DType.FP32, DType.FP64) and content.size
    ]
    if any(dtype == DType.FP16 for dtype, _ in floats):
        return True
    values = np.unique(np.concatenate([content.reshape(-1) for _, content in floats])) if floats else np.empty(0)
    with np.errstate(over="ignore"):
        return len(values) >= MIN_DISTINCT and bool(np.all(values == values.astype(np.float16)))


def gate(share: float, figures: Measurement, refusal: str | None, budget: Budget) -> tuple[Verdict, str]:
    """Return whether a candidate may ship (RUNNER_UP) or what keeps it, with the reason in words.

    Args:
        share: of the original's time.
        figures: what was measured.
        refusal: how its answers fail, or None.
        budget: the target's.
    """
    if refusal:
        return Verdict.INACCURATE, refusal
    large = too_large(figures.size_bytes, budget)
    if large:
        return Verdict.TOO_LARGE, large
    if figures.rss_mb * 1e6 > budget.memory_bytes:
        return (
            Verdict.TOO_LARGE,
            f"{figures.rss_mb:.0f} MB of memory, the target allows {budget.memory_bytes / 1e6:.0f}",
        )
    if round(1 / share, 2) < 1:  # to the digits that are shown: what is closer is noise
        return Verdict.SLOWER, f"{1 / share:.2f} times as fast as the original"
    return Verdict.RUNNER_UP, ""


def too_large(size_bytes: int, budget: Budget) -> str | None:
    """Return why files of this size cannot ship, or None."""
    if size_bytes <= budget.artifact_bytes:
        return None
    return f"{size_bytes} bytes, the target allows {budget.artifact_bytes}"
