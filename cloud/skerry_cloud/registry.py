"""What came from what: datasets, runs, models, bundles, rollouts; files by content; and the way back from one
prediction.

The chain closes by content, not by bookkeeping: a bundle's recipe names the SHA-256 of the ONNX file it was made
from, and that is how a run's model is registered, whoever called the compiler.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from skerry_cloud.database import Database
from skerry_cloud.errors import NotFoundError
from skerry_cloud.files import FileStore
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
from skerry_contracts.sample import parse_prediction

_LINEAGE = """
SELECT s.device, s.boot_id, s.time_s, s.kept, s.capture, s.model, s.bundle, b.version, b.release, b.target, b.source,
       r.id AS run, r.created_s AS run_created_s, r.detail AS run_detail,
       d.sha256 AS dataset, d.parent, d.job, d.rows AS dataset_rows
FROM sample s
LEFT JOIN bundle b ON b.id = s.bundle
LEFT JOIN run r ON r.onnx = b.source
LEFT JOIN dataset d ON d.sha256 = r.dataset
WHERE s.prediction = ? LIMIT 1
"""
_ANCESTORS = """
WITH RECURSIVE up(sha256) AS (
  SELECT ? UNION SELECT d.parent FROM dataset d JOIN up ON d.sha256 = up.sha256 WHERE d.parent IS NOT NULL
)
SELECT d.sha256, d.parent, d.job, d.rows, d.created_s FROM dataset d JOIN up USING (sha256)
"""
_LABELS = """
SELECT i.prediction, i.label, i.purpose, d.job,
  (SELECT json_group_array(json_object('worker', v.worker, 'label', v.label, 'time_s', v.time_s))
   FROM vote v WHERE v.job = d.job AND v.prediction = i.prediction) AS votes
FROM dataset_item i JOIN dataset d ON d.sha256 = i.dataset
WHERE i.dataset IN (SELECT value FROM json_each(?)) ORDER BY d.rowid, i.prediction
"""


class Registry:
    """Runs, datasets, bundles and rollouts. Registering the same thing again changes nothing."""

    def __init__(self, database: Database, files: FileStore, now: Callable[[], float]) -> None:
        self.database = database
        self.files = files
        self._now = now

    def add_dataset(
        self,
        data: bytes,
        *,
        model: str,
        rows: int,
        parent: str | None = None,
        job: str | None = None,
        items: Iterable[tuple[str, str, str]] = (),
        detail: dict[str, Any] | None = None,
    ) -> str:
        """Keep a dataset's bytes and what it was made of; `items` are (prediction, label, purpose). Return its
        SHA-256.
        """
        sha256 = self.files.put(data)
        body = json.dumps(detail or {}, sort_keys=True)
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO dataset VALUES (?, ?, ?, ?, ?, ?, ?)",
                (sha256, model, parent, job, self._now(), rows, body),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO dataset_item VALUES (?, ?, ?, ?)", [(sha256, *each) for each in items]
            )
        return sha256

    def add_run(self, run: str, *, model: str, dataset: str, onnx: Path, skops: Path, detail: dict[str, Any]) -> str:
        """Keep a training run's files and figures; return the ONNX file's SHA-256, which is the model's name."""
        model_sha256, skops_sha256 = self.files.put_file(onnx), self.files.put_file(skops)
        row = (run, model, dataset, model_sha256, skops_sha256, self._now(), json.dumps(detail, sort_keys=True))
        with self.database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO run VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return model_sha256

    def add_bundle(self, bundle: str, manifest: Manifest) -> None:
        """Keep a bundle's manifest."""
        row = (
            bundle,
            manifest.model,
            manifest.version,
            manifest.release,
            manifest.target,
            manifest.recipe.source_sha256,
        )
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO bundle VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, codec.encode(manifest).decode())
            )

    def add_rollout(self, rollout: str, *, model: str, bundle: str, pipeline: str, state: str) -> None:
        """Keep a rollout, or its newest state."""
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO rollout VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state",
                (rollout, model, bundle, pipeline, state),
            )

    def manifest(self, bundle: str) -> Manifest | None:
        """Return a known bundle's manifest, or None."""
        row = self.database.row("SELECT manifest FROM bundle WHERE id = ?", (bundle,))
        return codec.decode(Manifest, row["manifest"].encode()) if row else None

    def unknown_bundles(self) -> list[str]:
        """Return bundles that samples or sketches speak of and whose manifest is not here."""
        query = (
            "SELECT DISTINCT bundle FROM (SELECT bundle FROM sample UNION SELECT bundle FROM sketch) "
            "WHERE bundle NOT IN (SELECT id FROM bundle)"
        )
        return [row["bundle"] for row in self.database.rows(query)]

    def next_release(self, model: str) -> int:
        """Return one more than the highest release of a model known here (1 for its first)."""
        row = self.database.row("SELECT max(release) AS top FROM bundle WHERE model = ?", (model,))
        return int(row["top"]) + 1 if row and row["top"] is not None else 1

    def run(self, run: str) -> dict[str, Any]:
        """Return a run.

        Raises:
            NotFoundError: no such run.
        """
        row = self.database.row("SELECT * FROM run WHERE id = ?", (run,))
        if row is None:
            raise NotFoundError(f"no run {run!r}", hint="`skerry cloud registry list` shows them")
        return _opened(row)

    def run_of_bundle(self, bundle: str) -> dict[str, Any] | None:
        """Return the run whose model a bundle was compiled from, or None."""
        row = self.database.row(
            "SELECT r.* FROM run r JOIN bundle b ON b.source = r.onnx WHERE b.id = ? LIMIT 1", (bundle,)
        )
        return _opened(row) if row else None

    def deployed_run(self, model: str) -> dict[str, Any]:
        """Return the run behind the model on the devices: of the newest sample's bundle, else the newest run.

        Raises:
            NotFoundError: nothing was trained yet.
        """
        row = self.database.row(
            "SELECT r.* FROM sample s JOIN bundle b ON b.id = s.bundle JOIN run r ON r.onnx = b.source "
            "WHERE s.model = ? ORDER BY s.id DESC LIMIT 1",
            (model,),
        ) or self.database.row("SELECT * FROM run WHERE model = ? ORDER BY rowid DESC LIMIT 1", (model,))
        if row is None:
            raise NotFoundError(
                f"no model {model!r} was trained here", hint=f"`skerry cloud train --model {model}` trains it"
            )
        return _opened(row)

    def listing(self) -> dict[str, list[dict[str, Any]]]:
        """Return everything registered, newest first, without the long documents."""
        queries = {
            "datasets": "SELECT sha256, model, parent, job, created_s, rows FROM dataset ORDER BY rowid DESC",
            "runs": "SELECT id, model, dataset, onnx, created_s, detail FROM run ORDER BY rowid DESC",
            "bundles": "SELECT id, model, version, release, target, source FROM bundle ORDER BY rowid DESC",
            "rollouts": "SELECT id, model, bundle, pipeline, state FROM rollout ORDER BY rowid DESC",
        }
        return {name: [_opened(row) for row in self.database.rows(query)] for name, query in queries.items()}

    def lineage(self, prediction: str) -> dict[str, Any]:
        """Return where one prediction came from: device, bundle, model, training run, datasets, and every label with
        its votes.

        Raises:
            NotFoundError: the prediction was not kept.
            MismatchError: not a prediction's id.
        """
        parse_prediction(prediction)
        row = self.database.row(_LINEAGE, (prediction,))
        if row is None:
            raise NotFoundError(f"prediction {prediction} was not kept", hint="only sampled predictions can be traced")
        found: dict[str, Any] = {"prediction": prediction, **dict(row)}
        if found.pop("run_detail") is not None:
            found["run_detail"] = json.loads(row["run_detail"])
        found["datasets"] = self._ancestors(row["dataset"])
        found["labels"] = self._labels([each["sha256"] for each in found["datasets"]])
        found["own_label"] = self._own_label(prediction)
        return found

    def _ancestors(self, dataset: str | None) -> list[dict[str, Any]]:
        return [dict(row) for row in self.database.rows(_ANCESTORS, (dataset,))]

    def _labels(self, datasets: list[str]) -> list[dict[str, Any]]:
        rows = self.database.rows(_LABELS, (json.dumps(datasets),))
        return [{**dict(row), "votes": json.loads(row["votes"])} for row in rows]

    def _own_label(self, prediction: str) -> str | None:
        row = self.database.row(
            "SELECT label FROM label_item WHERE prediction = ? AND label IS NOT NULL ORDER BY job DESC LIMIT 1",
            (prediction,),
        )
        return row["label"] if row else None


def _opened(row: sqlite3.Row) -> dict[str, Any]:
    plain = dict(row)
    if "detail" in plain:
        plain["detail"] = json.loads(plain["detail"])
    return plain
