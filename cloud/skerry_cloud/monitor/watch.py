"""All monitors of one model, looked at in turn: which bundles are out there, what each is to be compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_cloud import evaluate
from skerry_cloud.datasets import Dataset, from_bytes
from skerry_cloud.monitor.data_drift import DataDrift
from skerry_cloud.monitor.model_quality import MIN_LABELLED, ModelQuality
from skerry_cloud.monitor.verdicts import Verdict, newest
from skerry_cloud.services import Services

RECENT = 5000  # samples, and sketches
_SEEN = """
SELECT bundle FROM (SELECT bundle FROM sample WHERE model = ?1 ORDER BY id DESC LIMIT ?2)
UNION SELECT bundle FROM (SELECT bundle FROM sketch WHERE model = ?1 ORDER BY id DESC LIMIT ?2)
ORDER BY bundle
"""


class Watch:
    """Looks at one model. References and calibrations are kept in memory; verdicts go to the database."""

    def __init__(self, services: Services, model: str) -> None:
        self.services = services
        self.model = model
        self.config = services.project(model).monitor
        self._drift = DataDrift(services.lake, services.database, self.config, services.now)
        self._quality = ModelQuality(services.lake, services.database, self.config, services.now)
        self._datasets: dict[str, Dataset] = {}
        self._confidences: dict[str, npt.NDArray[np.float64]] = {}

    def look(self) -> list[Verdict]:
        """Return new verdicts on every bundle that devices run and whose training is known here.

        Raises:
            DataError: the lake or a reference cannot be read.
        """
        found: list[Verdict | None] = []
        registry = self.services.registry
        for bundle in self._bundles():
            manifest, run = registry.manifest(bundle), registry.run_of_bundle(bundle)
            if manifest is None:
                continue
            found.append(self._drift.look_at_sketches(self.model, bundle, manifest))
            if run is None:
                continue
            dataset = self._dataset(run["dataset"])
            found.append(self._drift.look_at_samples(self.model, bundle, run["dataset"], dataset.reference))
            metrics = run["detail"]["metrics"]
            # On rows from devices where there were some: that is the world the promise is about.
            accepted = metrics["accuracy"] if metrics["accuracy_new"] is None else metrics["accuracy_new"]
            found.append(self._quality.look_at_labels(self.model, bundle, manifest, accepted))
            found.append(self._quality.look_at_confidence(self.model, bundle, self._confidence(run, dataset)))
        return [each for each in found if each is not None]

    def alarm(self) -> Verdict | None:
        """Return the standing alarm that calls for a new model, if there is one.

        It must be the newest word of a triggering monitor, on the newest bundle that devices run, and younger than
        the last pipeline.
        """
        row = self.services.database.row("SELECT max(started_s) AS at FROM pipeline WHERE model = ?", (self.model,))
        last_s = row["at"] if row is not None and row["at"] is not None else -np.inf
        current = self.services.database.row(
            "SELECT b.id FROM bundle b WHERE b.model = ? AND EXISTS (SELECT 1 FROM sample s WHERE s.bundle = b.id) "
            "ORDER BY b.release DESC LIMIT 1",
            (self.model,),
        )
        heard: set[str] = set()
        for verdict in newest(self.services.database, model=self.model):
            if current is None or verdict.bundle != current["id"] or verdict.monitor in heard:
                continue
            heard.add(verdict.monitor)
            if verdict.alarm and verdict.monitor in self.config.triggers and verdict.time_s > last_s:
                return verdict
        return None

    def _bundles(self) -> list[str]:
        rows = self.services.database.rows(_SEEN, (self.model, RECENT))
        return [row["bundle"] for row in rows]

    def _dataset(self, sha256: str) -> Dataset:
        if sha256 not in self._datasets:
            self._datasets[sha256] = from_bytes(self.services.registry.files.read(sha256))
        return self._datasets[sha256]

    def _confidence(self, run: dict[str, Any], dataset: Dataset) -> npt.NDArray[np.float64]:
        if run["id"] not in self._confidences:
            model = self.services.registry.files.read(run["onnx"])
            fresh = dataset.origin_evaluation != 0
            rows = dataset.x_evaluation[fresh] if fresh.sum() >= MIN_LABELLED else dataset.x_evaluation
            self._confidences[run["id"]] = evaluate.answers(model, rows).confidence
        return self._confidences[run["id"]]
