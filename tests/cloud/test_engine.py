from __future__ import annotations

import threading
from typing import Any

import pytest

from skerry_cloud.database import Database
from skerry_cloud.errors import DataError, NotFoundError, RefusedError
from skerry_cloud.pipelines.engine import Executor, Log, Pipeline, State, Step


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(database: Database, clock: Clock) -> Log:
    return Log(database, clock)


def test_a_step_that_has_a_result_is_not_run_again(log: Log) -> None:
    ran: list[str] = []

    def body(pipeline: Pipeline, step: Step) -> dict[str, Any]:
        one = step("one", lambda: ran.append("one") or {"x": 1})  # type: ignore[func-returns-value]  # append returns None
        if len(ran) == 1:
            ran.append("crash")
            raise KeyError("as if the process had died here")
        return step("two", lambda: {"x": one["x"] + 1})

    log.create("p", "digits", {"kind": "manual"})
    executor = Executor(log, body, threading.Event())
    with pytest.raises(KeyError):
        executor.run("p")
    assert log.get("p").state is State.RUNNING
    executor.run("p")
    assert ran == ["one", "crash"] and log.get("p").state is State.DONE and log.get("p").detail == {"x": 2}
    assert [(each["step"], each["result"]) for each in log.steps("p")] == [("one", {"x": 1}), ("two", {"x": 2})]


def test_one_pipeline_a_model_and_a_pause_between_two(log: Log, clock: Clock) -> None:
    log.create("a", "digits", {}, cooldown_s=60)
    assert log.create("a", "digits", {}).id == "a"
    with pytest.raises(RefusedError, match="is running"):
        log.create("b", "digits", {})
    log.create("c", "faces", {})
    clock.now_s = 200
    log.move("a", State.DONE, {})
    with pytest.raises(RefusedError, match="ended 0 s ago"):
        log.create("b", "digits", {}, cooldown_s=60)
    clock.now_s = 260
    assert log.create("b", "digits", {}, cooldown_s=60).state is State.RUNNING


def test_a_failure_is_kept_with_its_step_and_hint(log: Log) -> None:
    def body(pipeline: Pipeline, step: Step) -> dict[str, Any]:
        def broken() -> dict[str, Any]:
            raise DataError("no rows", hint="send some")

        return step("train", broken)

    log.create("p", "digits", {})
    Executor(log, body, threading.Event()).run("p")
    found = log.get("p")
    assert found.state is State.FAILED and found.detail == {"error": "no rows", "hint": "send some", "step": "train"}
    with pytest.raises(RefusedError, match="is over"):
        log.approve("p", "ann")
    with pytest.raises(NotFoundError):
        log.get("q")


def test_stopping_leaves_a_pipeline_for_the_next_start(log: Log) -> None:
    stopping = threading.Event()

    def body(pipeline: Pipeline, step: Step) -> dict[str, Any]:
        step("one", lambda: stopping.set() or {})  # type: ignore[func-returns-value]  # set returns None
        return step("two", lambda: {"refused": ["too bad"]})

    log.create("p", "digits", {})
    first = Executor(log, body, stopping)
    first.take_up()
    first.join(10)
    assert log.get("p").state is State.RUNNING and len(log.steps("p")) == 1
    stopping.clear()
    again = Executor(log, lambda pipeline, step: step("two", lambda: {"refused": ["too bad"]}), stopping)
    again.take_up()
    again.join(10)
    assert log.get("p").state is State.REFUSED


def test_the_first_approval_counts(log: Log) -> None:
    log.create("p", "digits", {})
    log.approve("p", "ann")
    log.approve("p", "bob")
    assert log.get("p").approved_by == "ann"
