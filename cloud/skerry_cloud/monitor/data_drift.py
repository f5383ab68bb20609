"""The monitor of inputs: a domain classifier on random-kept samples, and the fleet's histograms against the bundle's
baseline.

Windows do not overlap: each sample is judged once, so the stated rate of false alarms is that of every window by
itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from skerry_cloud.config import MonitorConfig
from skerry_cloud.database import Database
from skerry_cloud.errors import DataError
from skerry_cloud.lake.batch import SampleQuery
from skerry_cloud.lake.lake import Lake
from skerry_cloud.monitor import domain, histograms, verdicts
from skerry_contracts.bundle import Manifest
from skerry_contracts.sample import Kept

REFERENCE_ROWS = 1000  # the test's work grows with the cube
SAMPLES, SKETCHES = "data-drift", "sketch-drift"


class DataDrift:
    """Looks at one model's windows. Thresholds are calibrated once a reference and kept in memory (a second's work)."""

    def __init__(self, lake: Lake, database: Database, config: MonitorConfig, now: Callable[[], float]) -> None:
        self.lake = lake
        self.database = database
        self.config = config
        self._now = now
        self._tests: dict[str, domain.DomainTest] = {}

    def calibrated(self, name: str, reference: domain.Array) -> domain.DomainTest:
        """Return the test for a reference f32[r, ...], calibrated when first asked for. `name` is the reference's
        dataset.

        Raises:
            DataError: too few rows.
        """
        if name not in self._tests:
            # Equal rows on both sides would be told apart by nobody; each counts once, as in the windows.
            flat = np.unique(reference.reshape(len(reference), -1), axis=0)
            # Of another seed than the calibration: the same one would draw the very rows again, in their sorted order.
            some = np.random.default_rng(_seed(f"{name}/rows")).permutation(len(flat))[:REFERENCE_ROWS]
            distinct = flat[some].reshape(len(some), *reference.shape[1:])
            config = self.config
            self._tests[name] = domain.calibrate(
                distinct, config.window, config.false_alarm_rate, config.calibration_repeats, _seed(name)
            )
        return self._tests[name]

    def look_at_samples(self, model: str, bundle: str, name: str, reference: domain.Array) -> verdicts.Verdict | None:
        """Judge the newest window of the random-kept samples not judged yet; None while there are not enough.

        Where more came than one window holds, the older ones are passed over: being late helps nobody.

        Raises:
            DataError: the reference is too small, or does not fit the samples.
        """
        after = verdicts.judged_upto(self.database, SAMPLES, bundle)
        query = SampleQuery(model, (bundle,), (Kept.RANDOM,), after, limit=20 * self.config.window, newest=True)
        fetched = self.lake.samples(query)
        batch = fetched.finite().distinct()
        test = self.calibrated(name, reference)
        if len(batch) < test.window:
            return None
        batch = batch.take(range(len(batch) - test.window, len(batch)))
        if len(batch.inputs) != 1:
            raise DataError("the data-drift monitor looks at models with one input")
        feature, rows = next(iter(batch.inputs.items()))
        score = test.score(rows.reshape(len(rows), *reference.shape[1:]))
        evidence = {
            "test": "domain classifier, leave-one-out AUC",
            "calibration_repeats": test.repeats,
            "reference_rows": len(test.reference),
            "reference": name,
            "predictions": [batch.predictions[0], batch.predictions[-1]],
        }
        window = verdicts.Window(len(batch), float(batch.time_s.min()), float(batch.time_s.max()), int(fetched.ids[-1]))
        return self._keep(SAMPLES, model, bundle, f"input:{feature}", score, test.threshold, window, evidence)

    def look_at_sketches(self, model: str, bundle: str, manifest: Manifest) -> verdicts.Verdict | None:
        """Judge the histograms that arrived since the last look; None while they count too few predictions."""
        after = verdicts.judged_upto(self.database, SKETCHES, bundle)
        merged, predictions, upto = self.lake.merged_histograms(bundle, after)
        if predictions < self.config.sketch_predictions:
            return None
        baselines = [each for each in manifest.baseline if each.source.startswith("input:")]
        try:
            found = histograms.compare(
                baselines,
                merged,
                false_alarm_rate=self.config.false_alarm_rate,
                repeats=max(self.config.calibration_repeats, 999),
                seed=_seed(f"{bundle}:{upto}"),
            )
        except DataError:
            return None
        worst = sorted(found.divergence_bits.items(), key=lambda item: -item[1])[:8]
        evidence: dict[str, Any] = {
            "test": "greatest standardised Jensen-Shannon divergence, multinomial bootstrap",
            "features": len(found.divergence_bits),
            "worst_bits": dict(worst),
        }
        start_s, end_s = self._span(bundle, after)
        window = verdicts.Window(found.predictions, start_s, end_s, upto)
        return self._keep(SKETCHES, model, bundle, found.feature, found.score, found.threshold, window, evidence)

    def _span(self, bundle: str, after: int) -> tuple[float, float]:
        row = self.database.row(
            "SELECT min(start_s) AS a, max(end_s) AS b FROM sketch WHERE bundle = ? AND id > ?", (bundle, after)
        )
        return (float(row["a"]), float(row["b"])) if row and row["a"] is not None else (0.0, 0.0)

    def _keep(
        self,
        monitor: str,
        model: str,
        bundle: str,
        feature: str,
        score: float,
        threshold: float,
        window: verdicts.Window,
        evidence: dict[str, Any],
    ) -> verdicts.Verdict:
        rate, alarm = self.config.false_alarm_rate, score > threshold
        verdict = verdicts.Verdict(
            monitor, model, bundle, feature, score, threshold, alarm, rate, window, self._now(), evidence
        )
        verdicts.keep(self.database, verdict)
        return verdict


def _seed(name: str) -> int:
    """Return a seed that depends on nothing but the name, so that a restart calibrates to the same threshold."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
