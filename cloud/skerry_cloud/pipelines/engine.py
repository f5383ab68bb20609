"""Durable pipelines: a log of steps in the cloud's own database, and one thread a running pipeline.

A pipeline is a plain function that calls `step(name, function)`. A step that has a result in the log is not run
again: its result is returned. So after a kill the function is simply called again and walks to where it was; only the
step that was interrupted runs a second time, which is why every step must be idempotent. Why not a library:
docs/adr/0006-durable-pipelines.md.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from skerry_cloud.database import Database, insert
from skerry_cloud.errors import CloudError, NotFoundError, RefusedError, StoppingError
from skerry_contracts.errors import ContractError

Json = dict[str, Any]
Step = Callable[[str, Callable[[], Json]], Json]
log = logging.getLogger(__name__)


class State(StrEnum):
    """Where a pipeline stands; the last three are final."""

    RUNNING = "running"
    WAITING = "waiting-for-approval"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline as stored. `cause` says what started it, `detail` how it ended."""

    id: str
    model: str
    cause: Json
    state: State
    step: str
    started_s: float
    ended_s: float | None
    approved_by: str | None
    detail: Json


class Log:
    """Pipelines and their steps, in the database."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self.database = database
        self.now = now

    def create(self, pipeline: str, model: str, cause: Json, *, cooldown_s: float = 0.0) -> Pipeline:
        """Create a running pipeline; one of that id stays as it is.

        Raises:
            RefusedError: the model has a running one, or its last one ended less than `cooldown_s` ago.
        """
        known = self.database.row("SELECT * FROM pipeline WHERE id = ?", (pipeline,))
        if known is not None:
            return _pipeline(known)
        now_s = self.now()
        last = self.database.row("SELECT max(ended_s) AS ended FROM pipeline WHERE model = ?", (model,))
        if last and last["ended"] is not None and now_s < last["ended"] + cooldown_s:
            raise RefusedError(
                f"the last pipeline of {model} ended {now_s - last['ended']:.0f} s ago", hint="wait for cooldown_s"
            )
        row = (pipeline, model, json.dumps(cause, sort_keys=True), State.RUNNING.value, "", now_s, "{}")
        try:
            with self.database.transaction() as connection:
                connection.execute(
                    insert("pipeline", "id", "model", "cause", "state", "step", "started_s", "detail"),
                    row,
                )
        except sqlite3.IntegrityError as error:
            raise RefusedError(
                f"a pipeline of {model} is running", hint="`skerry cloud pipeline list` shows it"
            ) from error
        return self.get(pipeline)

    def get(self, pipeline: str) -> Pipeline:
        """Return a pipeline.

        Raises:
            NotFoundError: no such pipeline.
        """
        row = self.database.row("SELECT * FROM pipeline WHERE id = ?", (pipeline,))
        if row is None:
            raise NotFoundError(f"no pipeline {pipeline!r}", hint="`skerry cloud pipeline list` lists them")
        return _pipeline(row)

    def all(self, *, running: bool = False) -> list[Pipeline]:
        """Return pipelines, newest first; `running`: only those that have not ended."""
        where = "WHERE ended_s IS NULL" if running else ""
        return [
            _pipeline(row) for row in self.database.rows(f"SELECT * FROM pipeline {where} ORDER BY started_s DESC, id")
        ]

    def steps(self, pipeline: str) -> list[Json]:
        """Return a pipeline's steps in the order they began: `step`, `started_s`, `ended_s`, `result` (None: not
        ended).
        """
        rows = self.database.rows(
            "SELECT * FROM pipeline_step WHERE pipeline = ? ORDER BY started_s, rowid", (pipeline,)
        )
        return [
            {
                "step": row["step"],
                "started_s": row["started_s"],
                "ended_s": row["ended_s"],
                "result": json.loads(row["result"]) if row["result"] else None,
            }
            for row in rows
        ]

    def run_step(self, pipeline: str, name: str, function: Callable[[], Json]) -> Json:
        """Return a step's result: from the log where it is there, else by running it and logging what it returned."""
        row = self.database.row("SELECT result FROM pipeline_step WHERE pipeline = ? AND step = ?", (pipeline, name))
        if row is not None and row["result"] is not None:
            known: Json = json.loads(row["result"])
            return known
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO pipeline_step (pipeline, step, started_s) VALUES (?, ?, ?)",
                (pipeline, name, self.now()),
            )
            connection.execute("UPDATE pipeline SET step = ? WHERE id = ?", (name, pipeline))
        result = json.dumps(function(), sort_keys=True)
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE pipeline_step SET result = ?, ended_s = ? WHERE pipeline = ? AND step = ?",
                (result, self.now(), pipeline, name),
            )
        logged: Json = json.loads(result)
        return logged

    def move(self, pipeline: str, state: State, detail: Json | None = None) -> None:
        """Set a pipeline's state; a final one ends it."""
        ended_s = self.now() if state in (State.DONE, State.REFUSED, State.FAILED) else None
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE pipeline SET state = ?, ended_s = ?, detail = coalesce(?, detail) "
                "WHERE id = ? AND ended_s IS NULL",
                (state.value, ended_s, None if detail is None else json.dumps(detail, sort_keys=True), pipeline),
            )

    def approve(self, pipeline: str, by: str) -> None:
        """Record that a person approved; a second approval changes nothing.

        Raises:
            RefusedError: the pipeline is over.
        """
        if self.get(pipeline).ended_s is not None:
            raise RefusedError(f"the pipeline {pipeline} is over")
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE pipeline SET approved_by = coalesce(approved_by, ?) WHERE id = ?", (by, pipeline)
            )


class Executor:
    """Runs pipelines in threads; `body(pipeline, step)` is the walk. Takes up on start what was running before."""

    def __init__(self, log_: Log, body: Callable[[Pipeline, Step], Json], stopping: threading.Event) -> None:
        self.log = log_
        self._body = body
        self._stopping = stopping
        self._threads: dict[str, threading.Thread] = {}

    def take_up(self) -> None:
        """Start a thread for every pipeline that has not ended and has none."""
        for pipeline in self.log.all(running=True):
            thread = self._threads.get(pipeline.id)
            if (thread is None or not thread.is_alive()) and not self._stopping.is_set():
                thread = threading.Thread(
                    target=self.run, args=(pipeline.id,), name=f"pipeline-{pipeline.id}", daemon=True
                )
                self._threads[pipeline.id] = thread
                thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to see that the process is stopping."""
        for thread in list(self._threads.values()):
            thread.join(timeout_s)

    def run(self, pipeline: str) -> None:
        """Walk one pipeline to its end, or until the process stops."""
        found = self.log.get(pipeline)

        def step(name: str, function: Callable[[], Json]) -> Json:
            if self._stopping.is_set():
                raise StoppingError("stopping")
            return self.log.run_step(pipeline, name, function)

        try:
            detail = self._body(found, step)
            state = State.REFUSED if detail.get("refused") else State.DONE
            self.log.move(pipeline, state, detail)
        except StoppingError:
            log.info("pipeline %s rests until the next start", pipeline)
        except (CloudError, ContractError) as error:
            log.error("pipeline %s failed: %s", pipeline, error)
            self.log.move(
                pipeline, State.FAILED, {"error": str(error), "hint": error.hint, "step": self.log.get(pipeline).step}
            )


def _pipeline(row: sqlite3.Row) -> Pipeline:
    plain = dict(row)
    plain |= {"cause": json.loads(row["cause"]), "detail": json.loads(row["detail"]), "state": State(row["state"])}
    return Pipeline(**plain)
