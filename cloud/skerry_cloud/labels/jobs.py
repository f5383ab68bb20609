"""Labelling jobs: created -> open <-> consolidating -> done. Votes are facts and never change; labels are derived
from them.

created         no item yet open            items wait for votes; workers lease one at a time consolidating   every
item has the votes it wants; labels are being derived (back to open where some are not sure enough) done
closed: no more items, no more votes
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from skerry_cloud.config import LabelConfig
from skerry_cloud.database import Database, insert
from skerry_cloud.errors import DataError, NotFoundError, RefusedError
from skerry_cloud.labels.consolidate import dawid_skene
from skerry_contracts import codec

ABSTAIN = "?"  # a worker's word for "I cannot tell": counts as a vote given, says nothing about the label
MAX_LABEL = 64
ACCEPTED = 0.5


_WANTED = """
SELECT i.prediction FROM label_item i WHERE i.job = :job AND i.confidence IS NULL
  AND NOT EXISTS (SELECT 1 FROM vote v WHERE v.job = i.job AND v.prediction = i.prediction AND v.worker = :worker)
  AND (SELECT count(*) FROM vote v WHERE v.job = i.job AND v.prediction = i.prediction)
    + (SELECT count(*) FROM label_lease l WHERE l.job = i.job AND l.prediction = i.prediction
       AND l.worker <> :worker AND l.expires_s > :now) < i.wanted
ORDER BY EXISTS (SELECT 1 FROM label_lease l
    WHERE l.job = i.job AND l.prediction = i.prediction AND l.worker = :worker) DESC, i.batch, i.prediction
LIMIT :count
"""


class State(StrEnum):
    """Where a job stands."""

    CREATED = "created"
    OPEN = "open"
    CONSOLIDATING = "consolidating"
    DONE = "done"


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. `classes` are the labels known so far, in order; a vote may bring a new one."""

    id: str
    model: str
    state: State
    created_s: float
    classes: tuple[str, ...]
    settings: LabelConfig


class Jobs:
    """All labelling jobs of one database."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self.database = database
        self._now = now

    def create(self, job: str, model: str, classes: Iterable[str], settings: LabelConfig) -> Job:
        """Create a job; one of that id stays as it is."""
        body = codec.canonical_json(codec.to_plain(settings)).decode()
        row = (job, model, State.CREATED.value, self._now(), json.dumps(list(classes)), body)
        with self.database.transaction() as connection:
            connection.execute(
                insert("label_job", "id", "model", "state", "created_s", "classes", "settings", ignore=True),
                row,
            )
        return self.get(job)

    def get(self, job: str) -> Job:
        """Return a job.

        Raises:
            NotFoundError: no such job.
        """
        row = self.database.row("SELECT * FROM label_job WHERE id = ?", (job,))
        if row is None:
            raise NotFoundError(f"no labelling job {job!r}", hint="`skerry cloud label jobs` lists them")
        return _job(row)

    def all(self) -> list[Job]:
        """Return every job, newest first."""
        return [_job(row) for row in self.database.rows("SELECT * FROM label_job ORDER BY created_s DESC, id")]

    def add(self, job: str, batch: int, items: Iterable[tuple[str, str]]) -> None:
        """Put (prediction, purpose) items up for labelling; those already in the job stay as they are.

        Raises:
            RefusedError: the job is closed.
        """
        settings = self._open_job(job).settings
        with self.database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO label_item (job, prediction, batch, purpose, wanted) VALUES (?, ?, ?, ?, ?)",
                [(job, prediction, batch, purpose, settings.votes) for prediction, purpose in items],
            )
            _set_state(connection, job, State.OPEN)

    def lease(self, job: str, worker: str) -> str | None:
        """Give a worker an item (prediction) that still wants votes, theirs not among them; None where there is none.

        Raises:
            RefusedError: the job is closed.
        """
        leased = self.lease_many(job, worker, 1)
        return leased[0] if leased else None

    def lease_many(self, job: str, worker: str, count: int) -> list[str]:
        """Give a worker up to `count` items at once, those first that the worker holds already; see `lease`."""
        settings = self._open_job(job).settings
        now_s = self._now()
        with self.database.transaction() as connection:
            found = {"job": job, "worker": worker, "now": now_s, "count": count}
            items = [str(row["prediction"]) for row in connection.execute(_WANTED, found)]
            connection.executemany(
                "INSERT INTO label_lease VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET expires_s = excluded.expires_s",
                [(job, item, worker, now_s + settings.lease_s) for item in items],
            )
        return items

    def vote(self, job: str, prediction: str, worker: str, label: str) -> None:
        """Record a worker's vote; the same worker's second vote on an item changes nothing. A new label joins the
        classes.

        Raises:
            NotFoundError: the item is not in the job.
            DataError: not a label or a worker's name.
            RefusedError: the job is closed.
        """
        self.vote_many(job, worker, [(prediction, label)])

    def vote_many(self, job: str, worker: str, votes: Iterable[tuple[str, str]]) -> None:
        """Record a worker's (prediction, label) votes in one commit; see `vote`."""
        settings = self._open_job(job).settings
        worker = _clean(worker, "worker")
        given = [(prediction, _clean(label, "label")) for prediction, label in votes]
        now_s = self._now()
        with self.database.transaction() as connection:
            for prediction, label in given:
                item = (job, prediction)
                if not connection.execute("SELECT 1 FROM label_item WHERE job = ? AND prediction = ?", item).fetchone():
                    raise NotFoundError(f"{prediction} is not in job {job}")
                row = (job, prediction, worker, label, now_s, settings.vote_cost)
                connection.execute("INSERT OR IGNORE INTO vote VALUES (?, ?, ?, ?, ?, ?)", row)
                connection.execute(
                    "DELETE FROM label_lease WHERE job = ? AND prediction = ? AND worker = ?", (*item, worker)
                )
            _learn_classes(connection, job, [label for _, label in given])

    def consolidate(self, job: str) -> bool:
        """Derive labels where every item has its votes; return whether all items are settled.

        An item less sure than `confidence` wants one vote more, up to `max_votes` and to the number of workers who
        voted at all. What is still not more likely than all else together stays without a label.
        """
        settings = self._open_job(job).settings
        waiting = self.database.row(
            "SELECT count(*) AS n FROM label_item i WHERE i.job = ? AND i.confidence IS NULL AND "
            "(SELECT count(*) FROM vote v WHERE v.job = i.job AND v.prediction = i.prediction) < i.wanted",
            (job,),
        )
        if waiting and int(waiting["n"]):
            return False
        with self.database.transaction() as connection:
            _set_state(connection, job, State.CONSOLIDATING)
        votes = self.database.rows(
            "SELECT prediction, worker, label FROM vote WHERE job = ? AND label <> ?", (job, ABSTAIN)
        )
        result = dawid_skene([(row["prediction"], row["worker"], row["label"]) for row in votes])
        most = min(settings.max_votes, len({row["worker"] for row in votes}))
        again = 0
        with self.database.transaction() as connection:
            open_items = connection.execute(
                "SELECT prediction, wanted FROM label_item WHERE job = ? AND confidence IS NULL", (job,)
            ).fetchall()
            for row in open_items:
                sure = result.confidence.get(row["prediction"], 0.0)
                place = (job, row["prediction"])
                if sure < settings.confidence and row["wanted"] < most:
                    connection.execute(
                        "UPDATE label_item SET wanted = wanted + 1 WHERE job = ? AND prediction = ?", place
                    )
                    again += 1
                    continue
                label = result.labels.get(row["prediction"]) if sure > ACCEPTED else None
                connection.execute(
                    "UPDATE label_item SET label = ?, confidence = ? WHERE job = ? AND prediction = ?",
                    (label, sure, *place),
                )
            _set_state(connection, job, State.OPEN)
        return again == 0

    def close(self, job: str) -> None:
        """Close a job; closing a closed one changes nothing."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE label_job SET state = 'done', closed_s = ? WHERE id = ? AND state <> 'done'", (self._now(), job)
            )
            connection.execute("DELETE FROM label_lease WHERE job = ?", (job,))

    def labelled(self, job: str) -> list[tuple[str, str, str]]:
        """Return (prediction, label, purpose) of every item that got a label."""
        rows = self.database.rows(
            "SELECT prediction, label, purpose FROM label_item WHERE job = ? AND label IS NOT NULL ORDER BY prediction",
            (job,),
        )
        return [(row["prediction"], row["label"], row["purpose"]) for row in rows]

    def ledger(self, job: str) -> dict[str, Any]:
        """Return what a job has cost: items, labelled items, votes, votes by worker, and money."""
        items = self.database.row(
            "SELECT count(*) AS items, count(label) AS labelled, count(confidence) AS settled "
            "FROM label_item WHERE job = ?",
            (job,),
        )
        votes = self.database.rows(
            "SELECT worker, count(*) AS n, sum(cost) AS cost FROM vote WHERE job = ? GROUP BY worker", (job,)
        )
        return {
            "items": int(items["items"]) if items else 0,
            "labelled": int(items["labelled"]) if items else 0,
            "settled": int(items["settled"] or 0) if items else 0,
            "votes": sum(int(row["n"]) for row in votes),
            "cost": round(sum(float(row["cost"]) for row in votes), 6),
            "by_worker": {row["worker"]: int(row["n"]) for row in votes},
        }

    def _open_job(self, job: str) -> Job:
        found = self.get(job)
        if found.state is State.DONE:
            raise RefusedError(f"the labelling job {job} is closed")
        return found


def _job(row: sqlite3.Row) -> Job:
    settings = codec.from_plain(LabelConfig, json.loads(row["settings"]))
    return Job(
        row["id"], row["model"], State(row["state"]), row["created_s"], tuple(json.loads(row["classes"])), settings
    )


def _set_state(connection: sqlite3.Connection, job: str, state: State) -> None:
    connection.execute("UPDATE label_job SET state = ? WHERE id = ? AND state <> 'done'", (state.value, job))


def _learn_classes(connection: sqlite3.Connection, job: str, labels: Iterable[str]) -> None:
    row = connection.execute("SELECT classes FROM label_job WHERE id = ?", (job,)).fetchone()
    classes = json.loads(row["classes"])
    fresh = [label for label in dict.fromkeys(labels) if label != ABSTAIN and label not in classes]
    if fresh:
        connection.execute("UPDATE label_job SET classes = ? WHERE id = ?", (json.dumps([*classes, *fresh]), job))


def _clean(text: str, what: str) -> str:
    text = text.strip()
    if not text or len(text) > MAX_LABEL or not text.isprintable():
        raise DataError(f"a {what} has 1 to {MAX_LABEL} printable characters")
    return text
