"""The monitor of answers: accuracy on labelled random samples against the accepted one, and falling confidence as its
herald.

Accuracy needs labels and comes late; confidence needs none. Both are held against bounds with a stated rate of false
alarms: an exact binomial bound (Clopper & Pearson, Biometrika 1934), and a rank test (Mann & Whitney, 1947) against
held-out confidences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, mannwhitneyu

from skerry_cloud.config import MonitorConfig
from skerry_cloud.database import Database
from skerry_cloud.lake.batch import SampleBatch, SampleQuery
from skerry_cloud.lake.lake import Lake
from skerry_cloud.monitor import verdicts
from skerry_contracts.bundle import Manifest
from skerry_contracts.sample import Kept

ACCURACY, CONFIDENCE = "model-quality", "confidence-drop"
MIN_LABELLED = 20


def upper_bound(right: int, count: int, risk: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a share: the truth lies above it with probability at most
    `risk`.

    >>> round(upper_bound(90, 100, 0.05), 3), upper_bound(5, 5, 0.05)
    (0.945, 1.0)
    """
    return 1.0 if right >= count else float(beta.ppf(1.0 - risk, right + 1, count - right))


def answered_labels(batch: SampleBatch, manifest: Manifest) -> list[str | None]:
    """Return the class that the model chose on the device for each sample, by name; None where its outputs do not
    say.
    """
    signature = manifest.signature
    chosen: npt.NDArray[Any] | None = None
    if signature.score_output in batch.outputs:
        scores = batch.outputs[signature.score_output]
        chosen = scores.reshape(len(batch), -1).argmax(axis=1)
    elif signature.label_output in batch.outputs:
        chosen = batch.outputs[signature.label_output].reshape(len(batch), -1)[:, 0]
    if chosen is None:
        return [None] * len(batch)
    names = signature.labels
    return [names[int(i)] if 0 <= int(i) < len(names) else None for i in chosen.tolist()]


class ModelQuality:
    """Looks at one model's answers."""

    def __init__(self, lake: Lake, database: Database, config: MonitorConfig, now: Callable[[], float]) -> None:
        self.lake = lake
        self.database = database
        self.config = config
        self._now = now

    def look_at_labels(self, model: str, bundle: str, manifest: Manifest, accepted: float) -> verdicts.Verdict | None:
        """Judge accuracy on all labelled random samples of a bundle; None while too few, or none since the last look.

        Raises:
            DataError: the lake cannot be read.
        """
        rows = self.database.rows(
            "SELECT s.prediction, s.id, i.label FROM label_item i JOIN sample s ON s.prediction = i.prediction "
            "WHERE s.bundle = ? AND s.kept = 'random' AND i.purpose = 'audit' AND i.label IS NOT NULL "
            "GROUP BY s.prediction ORDER BY s.id",
            (bundle,),
        )
        after = verdicts.judged_upto(self.database, ACCURACY, bundle)
        if len(rows) < MIN_LABELLED or int(rows[-1]["id"]) <= after:
            return None
        batch = self.lake.by_prediction([row["prediction"] for row in rows])
        answered = answered_labels(batch, manifest)
        right = sum(said == row["label"] for said, row in zip(answered, rows, strict=True))
        bound = upper_bound(right, len(rows), self.config.false_alarm_rate)
        threshold = accepted - self.config.quality_margin
        evidence = {"right": right, "labelled": len(rows), "accuracy": right / len(rows), "accepted": accepted}
        evidence["test"] = "upper Clopper-Pearson bound of accuracy on labelled random samples"
        window = _window(batch)
        return self._keep(ACCURACY, model, bundle, "accuracy", bound, threshold, bound < threshold, window, evidence)

    def look_at_confidence(
        self, model: str, bundle: str, reference: npt.NDArray[np.float64]
    ) -> verdicts.Verdict | None:
        """Judge the newest window of random samples by confidence, against held-out confidences f64[m]; None while too
        few.

        The score is the one-sided p-value of the rank test: alarm where it is below the rate of false alarms.
        """
        after = verdicts.judged_upto(self.database, CONFIDENCE, bundle)
        query = SampleQuery(model, (bundle,), (Kept.RANDOM,), after, limit=20 * self.config.window, newest=True)
        batch = self.lake.samples(query).distinct()
        known = np.flatnonzero(~np.isnan(batch.confidence))[-self.config.window :]
        if len(known) < self.config.window or len(reference) < MIN_LABELLED:
            return None
        batch = batch.take(known)
        test = mannwhitneyu(batch.confidence, reference, alternative="less")
        score, rate = float(test.pvalue), self.config.false_alarm_rate
        evidence = {
            "test": "Mann-Whitney, confidences lower than on held-out rows",
            "mean_confidence": float(batch.confidence.mean()),
            "reference_mean": float(np.mean(reference)),
            "reference_rows": len(reference),
        }
        return self._keep(CONFIDENCE, model, bundle, "confidence", score, rate, score < rate, _window(batch), evidence)

    def _keep(
        self,
        monitor: str,
        model: str,
        bundle: str,
        feature: str,
        score: float,
        threshold: float,
        alarm: bool,
        window: verdicts.Window,
        evidence: dict[str, Any],
    ) -> verdicts.Verdict:
        rate = self.config.false_alarm_rate
        verdict = verdicts.Verdict(
            monitor, model, bundle, feature, score, threshold, alarm, rate, window, self._now(), evidence
        )
        verdicts.keep(self.database, verdict)
        return verdict


def _window(batch: SampleBatch) -> verdicts.Window:
    return verdicts.Window(len(batch), float(batch.time_s.min()), float(batch.time_s.max()), int(batch.ids.max()))
