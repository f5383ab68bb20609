"""How much of its tolerance a candidate of low precision uses up: by worst cosine, largest error and same classes.

Cosine alone hides one coordinate that is off (facial landmarks: cosine 0.9999, one point 2.4 % of the image away), and
says little of a model that itself answers otherwise when its input moves by less than a byte's step. So regressions
are held to a largest error too, classifiers to their classes, and ill-conditioned models to their task alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler import agreement
from skerry_contracts.bundle import Signature

THOUSANDTH = 0.999
ACCURACY_LOSS = 0.01  # share of labelled rows that may become wrong


@dataclasses.dataclass(frozen=True, slots=True)
class Tolerance:
    """How far answers of one precision may be off.

    Attributes:
        cosine: least of any row.
        range_share: of the outputs' range: the error that one element in a thousand may exceed.
        largest_share: of the outputs' range: the error that no element may exceed.
        top1: least share of rows whose class stays.
        settled_cosine: enough where every single row keeps its class.
    """

    cosine: float = 0.99
    range_share: float = 0.05
    largest_share: float = 0.25
    top1: float = 0.99
    settled_cosine: float = 0.95


BYTES = Tolerance()
# A number of bfloat16 has 8 bits, one of half precision 11: what they lose beyond this, a defect loses.
TOLERANCES = {
    "int8": BYTES,
    "bf16": Tolerance(0.999, 0.02, 0.1, 0.99, 0.99),
    "fp16": Tolerance(0.9999, 0.005, 0.02, 0.99, 0.999),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What was compared.

    Attributes:
        cosine: worst of all rows.
        range_share: error that one element in a thousand exceeds, as a share of the range of all float outputs.
        largest_share: largest error of any element, as a share of the same range.
        top1: share of rows with the same class; None for models that do not classify.
        lost: accuracy lost on labels; None without labels.
        conditioned: whether the original itself keeps to the cosine when its input moves by one byte's step.
        tolerance: of the precision.
    """

    cosine: float
    range_share: float
    largest_share: float = 0.0
    top1: float | None = None
    lost: float | None = None
    conditioned: bool = True
    tolerance: Tolerance = BYTES

    @property
    def used(self) -> float:
        """The share of the tolerance that is used up; above 1 the candidate is refused."""
        allowed = self.tolerance
        spread = (1 - self.cosine) / (1 - allowed.cosine)
        if self.lost is not None:
            return max(self.lost / ACCURACY_LOSS, min(spread, 1.0))
        if self.top1 is None:
            return max(self.range_share / allowed.range_share, self.largest_share / allowed.largest_share, spread)
        settled = not self.conditioned or (self.top1 == 1.0 and self.cosine >= allowed.settled_cosine)
        return max((1 - self.top1) / (1 - allowed.top1), min(spread, 1.0) if settled else spread)

    @property
    def refusal(self) -> str | None:
        """Why a candidate may not ship, in words; None where it may."""
        if self.used <= 1:
            return None
        ill = "" if self.conditioned else "; ill-conditioned: the original answers otherwise one input step away"
        if self.lost is not None and self.lost > ACCURACY_LOSS:
            return f"accuracy {self.lost:.2%} below the original's{ill}"
        allowed = self.tolerance
        if self.top1 is not None and (1 - self.top1) > (1 - allowed.top1):
            return f"{self.top1:.1%} same classes (at least {allowed.top1:.0%}), worst cosine {self.cosine:.4f}{ill}"
        if self.cosine < allowed.cosine:
            same = "" if self.top1 is None else f", {self.top1:.1%} same classes"
            return f"worst cosine {self.cosine:.4f} (at least {allowed.cosine}){same}{ill}"
        off = f"a thousandth of the values is off by {self.range_share:.1%} of their range or more"
        most = f"(at most {allowed.range_share:.1%})"
        return f"{off} {most}, the worst by {self.largest_share:.1%} (at most {allowed.largest_share:.0%}){ill}"


def judge(
    signature: Signature,
    expected: agreement.Outputs,
    found: agreement.Outputs,
    labels: np.ndarray | None = None,
    noisy: agreement.Outputs | None = None,
    precision: str = "int8",
) -> Judgement:
    """Return the judgement of a candidate's answers.

    Args:
        signature: of the model.
        expected: the original's outputs; each tensor's first extent counts rows.
        found: the candidate's.
        labels: the true classes, one a row, or None.
        noisy: the original's outputs on the same rows with one byte's step of noise, where that was tried.
        precision: of the candidate, which decides what is tolerated.
    """
    agrees = agreement.compare(signature, expected, found, labels)
    chosen = agreement.classes(signature, expected)
    accuracy = agreement.accuracy(signature, expected, labels)
    lost = None if accuracy is None or agrees.accuracy is None else round(accuracy - agrees.accuracy, 9)
    allowed = TOLERANCES.get(precision, BYTES)
    conditioned = noisy is None or agreement.compare(signature, expected, noisy, None).cosine >= BYTES.cosine
    top1 = None if chosen is None else agrees.top1
    return Judgement(agrees.cosine, *shares(signature, expected, found), top1, lost, conditioned, allowed)


def mean_cosine(signature: Signature, expected: agreement.Outputs, found: agreement.Outputs) -> float:
    """Return the mean of the rows' cosines: less a matter of chance than the worst, for ranking."""
    count = len(expected[0])
    rows = [(tuple(e[i : i + 1] for e in expected), tuple(f[i : i + 1] for f in found)) for i in range(count)]
    return float(np.mean([agreement.compare(signature, one, two, None).cosine for one, two in rows]))


def shares(signature: Signature, expected: agreement.Outputs, found: agreement.Outputs) -> tuple[float, float]:
    """Return the error that one float element in a thousand exceeds and the largest one, as shares of their range.

    The range is that of all float outputs together: a score beside landmarks in pixels counts as far as it moves them.
    """
    ones, twos = [], []
    for spec, one, two in zip(signature.outputs, expected, found, strict=True):
        if spec.dtype.value.startswith("FP") and one.size:
            ones.append(one.astype(np.float64).ravel())
            twos.append(two.astype(np.float64).ravel())
    if not ones:
        return 0.0, 0.0
    a, b = np.concatenate(ones), np.concatenate(twos)
    finite = np.isfinite(a)
    if not finite.any():
        return 0.0, 0.0
    span = float(max(a[finite].max(), 0.0) - min(a[finite].min(), 0.0)) or 1.0
    off = np.abs(np.nan_to_num(a[finite] - b[finite], nan=np.inf, posinf=np.inf, neginf=-np.inf)) / span
    return float(np.quantile(off, THOUSANDTH, method="higher")), float(off.max())


def noise(rows: tuple[np.ndarray, ...], seed: int = 20_261_124) -> tuple[np.ndarray, ...]:
    """Return float rows with uniform noise of one byte's step of each tensor's range, the same every time."""
    random = np.random.default_rng(seed)
    moved = []
    for each in rows:
        if each.dtype.kind != "f":
            moved.append(each)
            continue
        step = float(max(each.max(), 0.0) - min(each.min(), 0.0)) / 255
        moved.append((each + random.uniform(-step / 2, step / 2, each.shape)).astype(each.dtype))
    return tuple(moved)
