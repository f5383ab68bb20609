"""Workers that are a program: they know the truth from an oracle file, and err as often as they are told to.

People vote through the web page (web/); both workforces go through the same leases and votes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from skerry_cloud.errors import ConfigError, DataError
from skerry_cloud.labels.jobs import ABSTAIN, Jobs

SHARE = 50  # items that a worker takes at once


class Oracle:
    """The truth by prediction, from one JSON-lines file or a folder of them; reads on where the files have grown."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._labels: dict[str, str] = {}
        self._read_bytes: dict[Path, int] = {}

    def label(self, prediction: str) -> str | None:
        """Return a prediction's true label, or None where the oracle does not know it.

        Raises:
            ConfigError: the oracle is not there.
            DataError: a line is not {"prediction_id": text, "label": text}.
        """
        if prediction not in self._labels:
            self._read_on()
        return self._labels.get(prediction)

    def _read_on(self) -> None:
        files = sorted(self.path.glob("*.jsonl")) if self.path.is_dir() else [self.path]
        for file in files:
            try:
                with file.open("rb") as lines:
                    lines.seek(self._read_bytes.get(file, 0))
                    data = lines.read()
            except OSError as error:
                raise ConfigError(
                    f"cannot read the oracle {file}: {error.strerror}", hint="check `oracle` under [labels]"
                ) from error
            whole = data[: data.rfind(b"\n") + 1]
            for line in whole.splitlines():
                try:
                    entry = json.loads(line)
                    self._labels[str(entry["prediction_id"])] = str(entry["label"])
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(f"{file}: a line is no prediction_id with a label") from error
            self._read_bytes[file] = self._read_bytes.get(file, 0) + len(whole)


class SimulatedWorkforce:
    """Some workers of one accuracy. What a worker says of an item depends on nothing but the two, so a restart
    changes no vote.
    """

    def __init__(self, jobs: Jobs, oracle: Oracle) -> None:
        self.jobs = jobs
        self.oracle = oracle

    def work(self, job: str) -> int:
        """Vote on everything that wants votes now; return how many votes were given."""
        found = self.jobs.get(job)
        given = 0
        busy = True
        while busy:
            busy = False
            for number in range(found.settings.workers):
                worker = f"simulated-{number}"
                votes = []
                for prediction in self.jobs.lease_many(job, worker, SHARE):
                    truth = self.oracle.label(prediction)
                    label = self._said(worker, prediction, truth, found.classes, found.settings.worker_accuracy)
                    votes.append((prediction, label))
                if votes:
                    self.jobs.vote_many(job, worker, votes)
                    given += len(votes)
                    busy = True
        return given

    def _said(self, worker: str, prediction: str, truth: str | None, classes: tuple[str, ...], accuracy: float) -> str:
        if truth is None:
            return ABSTAIN
        dice = hashlib.sha256(f"{worker}:{prediction}".encode()).digest()
        others = [each for each in classes if each != truth]
        if int.from_bytes(dice[:8], "big") / 2**64 < accuracy or not others:
            return truth
        return others[int.from_bytes(dice[8:16], "big") % len(others)]
