"""How strong is the evidence that a bundle harms? A number that may be looked at after every device. Pure.

Of two like devices one gets the bundle and one does not, and which of them does is chance. If the bundle does no harm,
either is as likely as the other to be the one that does worse. A bet against that starts with 1, and each pair that
differs multiplies it by 2q or 2(1 - q); averaged over all q from 1/2 to 1, this is an e-process: under "no harm" the
chance that it ever reaches 1/alpha is at most alpha, however often one looks, and whatever the devices are like (Ville,
1939; Robbins, "Statistical methods related to the law of the iterated logarithm", 1970; Ramdas et al., "Game-theoretic
statistics and safe anytime-valid inference", Statistical Science 38, 2023). It is the sign test, without its one look.
"""

from __future__ import annotations

import dataclasses
import math
from enum import StrEnum

CERTAIN = 1e300
"""What an e-value is at most said to be."""


class Measure(StrEnum):
    """What pairs are compared by. `FAILING` asks for a great change of the error rate: few devices that break are not
    lost among many that differ a little.
    """

    FAILING = "failing"
    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    CONFIDENCE = "confidence"


WEIGHTS = {Measure.FAILING: 0.5, Measure.ERROR_RATE: 0.3, Measure.LATENCY: 0.1, Measure.CONFIDENCE: 0.1}
"""How much of the first bet goes on each."""


def e_value(worse: int, better: int) -> float:
    """Return the evidence for harm after so many pairs in which the device with the bundle did worse, or better.

    The integral is a sum: sum over i <= worse of C(n + 1, i), over (n + 1) C(n, worse), with n = worse + better.

    >>> e_value(0, 0), round(e_value(7, 0), 3), round(e_value(7, 7), 3), round(e_value(0, 7), 3)
    (1.0, 31.875, 0.318, 0.125)
    """
    count = worse + better
    term = (count + 1) / (count + 1 - worse)  # C(n + 1, worse) / C(n, worse)
    total = term
    for chosen in range(worse, 0, -1):
        term *= chosen / (count + 2 - chosen)
        total += term
        if total > CERTAIN:
            return CERTAIN
        if term < total * 1e-17 and 2 * chosen < count:
            break
    return total / (count + 1)


@dataclasses.dataclass(slots=True)
class Score:
    """How pairs came out by one measure; `same` is closer than the margin, and says nothing."""

    worse: int = 0
    better: int = 0
    same: int = 0

    def take(self, sign: int) -> None:
        """Count one pair: 1 worse, -1 better, 0 the same."""
        if sign > 0:
            self.worse += 1
        elif sign < 0:
            self.better += 1
        else:
            self.same += 1

    @property
    def value(self) -> float:
        """The evidence for harm by this measure alone."""
        return e_value(self.worse, self.better)


def combined(scores: dict[Measure, Score]) -> float:
    """Return the evidence by all measures together: their weighted mean, which is an e-process again."""
    return min(CERTAIN, math.fsum(weight * scores[measure].value for measure, weight in WEIGHTS.items()))
