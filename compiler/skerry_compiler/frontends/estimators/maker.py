"""What a converter of an estimator is given, and what it may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from skerry_compiler.frontends.estimators.sheet import Sheet

# What may be wanted of an estimator that reads x, f32[n, features]:
TRANSFORM = "transform"  # f32[n, columns]
VALUES = "predict"  # f32[n, outputs]
INDEX = "class"  # int64[n]: which of the estimator's classes
PROBA = "predict_proba"  # f32[n, classes]
DECISION = "decision_function"  # f32[n, 1] of two classes or of an outlier detector, else f32[n, classes]


class Maker(Protocol):
    """Writes estimators into one graph."""

    sheet: Sheet

    def make(self, estimator: Any, x: str, want: str) -> str:
        """Return the value that an estimator answers, as one of the kinds above.

        Raises:
            UnsupportedError: there is no way to write it.
        """
        ...


Handler = Callable[[Maker, Any, str, str], str]
