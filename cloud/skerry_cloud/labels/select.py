"""What is worth a label: first a spread over everything, then what the model so far finds hardest, never twice the
same.

Pool-based margin sampling in batches (Settles, "Active Learning Literature Survey", 2009, 3.1), each batch spread by
k-means over three times as many candidates, so that one hard cluster does not eat the budget.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
SPREAD = 3
KNOWN_ROWS = 2000


def medoids(x: Array, count: int, seed: int) -> Rows:
    """Return `count` different rows of x f32[n, ...] that stand for its clusters (all rows where n is not more)."""
    from sklearn.cluster import MiniBatchKMeans

    flat = x.reshape(len(x), -1)
    if len(flat) <= count:
        return np.arange(len(flat))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters: the fill below makes up for it
        clusters = MiniBatchKMeans(count, n_init=2, random_state=seed, batch_size=1024).fit(flat)
    chosen = np.unique(clusters.transform(flat).argmin(axis=0))
    rest = np.setdiff1d(np.arange(len(flat)), chosen)
    more = np.random.default_rng(seed).permutation(rest)[: count - len(chosen)]
    return np.sort(np.concatenate([chosen, more]).astype(np.int64))


def margins(known_x: Array, known_y: Array, x: Array) -> npt.NDArray[np.float64]:
    """Return how far the best class is ahead of the second for each row of x; small is hard. A support vector machine
    is the judge.
    """
    from sklearn.svm import SVC

    judge = SVC(C=10.0, gamma="scale").fit(known_x.reshape(len(known_x), -1), known_y)
    scores = judge.decision_function(x.reshape(len(x), -1))
    if scores.ndim == 1:
        return np.asarray(np.abs(scores), np.float64)
    ranked = np.sort(scores, axis=1)
    result: npt.NDArray[np.float64] = ranked[:, -1] - ranked[:, -2]
    return result


def choose(
    pool: Array,
    taken: Rows,
    known_x: Array,
    known_y: Array,
    labelled_x: Array,
    labelled_y: Array,
    count: int,
    seed: int,
) -> Rows:
    """Return up to `count` rows of pool f32[n, ...] to label next, `taken` left out.

    `known` is the first data, `labelled` what came back so far (both text labels); without `labelled` the spread
    alone decides.
    """
    free = np.setdiff1d(np.arange(len(pool)), taken)
    if len(free) <= count:
        return free
    if len(labelled_y) == 0:
        return free[medoids(pool[free], count, seed)]
    some = np.random.default_rng(seed).permutation(len(known_x))[:KNOWN_ROWS]
    x = np.concatenate([known_x[some].reshape(len(some), -1), labelled_x.reshape(len(labelled_x), -1)])
    y = np.concatenate([known_y[some], labelled_y])
    if len(np.unique(y)) < 2:
        return free[medoids(pool[free], count, seed)]
    hardest = free[np.argsort(margins(x, y, pool[free]), kind="stable")[: SPREAD * count]]
    return np.sort(hardest[medoids(pool[hardest], count, seed)])
