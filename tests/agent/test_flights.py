"""Inferences that lie ready behind the one that runs: in order, each in its own place, none lost with the worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import Parts, bundle, compiled, floats, tensor

from skerry_agent import dispatch
from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.flights import Flights
from skerry_agent.runtime import Runtime
from skerry_agent.slot import Slot
from skerry_agent.supervision import ModelConfig, RuntimeConfig
from skerry_contracts.device import Reason

ONE = RuntimeConfig(deadline_s=0.5, first_delay_s=0.01, last_delay_s=0.05, wait_s=30, cores=2)
TWO = RuntimeConfig(
    deadline_s=0.5, first_delay_s=0.01, last_delay_s=0.05, wait_s=30, cores=2, every=ModelConfig(instances=2)
)


class Given(RuleBasedStateMachine):
    """A worker's inferences against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: Flights[str] = Flights(3)
        self.given: list[tuple[int, int]] = []
        self.now_ns = self.answered_ns = 0
        self.told: list[str | None] = []

    @precondition(lambda self: self.flights.room)
    @rule(wait_ns=st.integers(0, 5))
    def give(self, wait_ns: int) -> None:
        self.now_ns += wait_ns
        number, place = self.flights.next()
        taken = {place for _, place in self.given}
        assert place == min({0, 1, 2} - taken), "a place that another inference has, or not the warmest"
        assert not self.given or number > self.given[-1][0]
        self.flights.give(1.0, self.now_ns, self.told.append)
        self.given.append((number, place))

    @precondition(lambda self: self.given)
    @rule(wait_ns=st.integers(0, 5))
    def answer(self, wait_ns: int) -> None:
        self.now_ns += wait_ns
        flight, ran_ns, behind_ns = self.flights.answered(self.now_ns)
        assert (flight.counter, flight.place) == self.given.pop(0), "answers come in the order of the questions"
        assert ran_ns >= 0 <= behind_ns and ran_ns + behind_ns == self.now_ns - flight.given_ns
        assert behind_ns == 0 or ran_ns == self.now_ns - self.answered_ns, "two ran at once"
        self.answered_ns = self.now_ns

    @precondition(lambda self: self.given)
    @rule()
    def die(self) -> None:
        while (flight := self.flights.last()) is not None:
            assert (flight.counter, flight.place) == self.given.pop()
        assert not self.given

    @invariant()
    def the_sums_are_right(self) -> None:
        assert len(self.flights) == len(self.given) and self.flights.room == 3 - len(self.given)
        first = self.flights.first
        assert (first.counter if first is not None else None) == (self.given[0][0] if self.given else None)


Given.TestCase.settings = settings(derandomize=True, max_examples=60, stateful_step_count=30, deadline=None)
TestGiven = Given.TestCase


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as quick, on a machine that is at other things half of the time."""
    monkeypatch.setattr(dispatch, "QUICK_NS", 20_000_000)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("flights")
    return bundle(folder, compiled(folder))


def run(body: Callable[[Runtime, Slot], Awaitable[None]], toy: Parts, config: RuntimeConfig) -> None:
    async def all_of_it() -> None:
        runtime = Runtime(config)
        try:
            slot = await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
            await runtime.room.grown()
            await quicken(runtime, slot)
            await body(runtime, slot)
        finally:
            await runtime.close()

    asyncio.run(all_of_it())


async def quicken(runtime: Runtime, slot: Slot) -> None:
    """Let the slot find out that its model is quick, on however busy a machine."""
    async with asyncio.timeout(60):
        while not 0 < slot._pace_ns < dispatch.QUICK_NS:
            await runtime.infer("toy", [tensor(0, 1)])


def laid(slot: Slot) -> int:
    return max((len(each.worker._flights) for each in slot.instances if each.worker is not None), default=0)


@pytest.mark.parametrize("config", [ONE, TWO], ids=["one", "two"])
def test_everybody_gets_their_own_answer_whatever_lies_ready(toy: Parts, config: RuntimeConfig) -> None:
    async def body(runtime: Runtime, slot: Slot) -> None:
        seen = 0

        async def client(base: int) -> None:
            nonlocal seen
            for at in range(base, base + 30):
                assert floats((await runtime.infer("toy", [tensor(0, at, -at)])).outputs[0])[1:3] == [2 * at, -2 * at]
                seen = max(seen, laid(slot))

        await asyncio.gather(*(client(1000 * number) for number in range(16)))
        assert 2 <= seen <= 4, "nothing lay ready, or too much"

    run(body, toy, config)


@pytest.mark.parametrize("config", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (parts.SEGFAULT, Reason.CRASHED),
        (parts.HANG, Reason.TIMEOUT),
        (parts.NAN, Reason.UNHEALTHY),
        (parts.FAIL, Reason.UNHEALTHY),
    ],
)
def test_only_the_one_that_ran_is_lost(toy: Parts, config: RuntimeConfig, what: int, reason: Reason) -> None:
    async def body(runtime: Runtime, slot: Slot) -> None:
        chance = random.Random(7)
        bad = sorted(chance.sample(range(40), 3))
        asked = [runtime.infer("toy", [tensor(what if at in bad else 0, at)]) for at in range(40)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        failed = [at for at, each in enumerate(ended) if isinstance(each, BaseException)]
        assert failed == bad, [repr(each) for each in ended if isinstance(each, BaseException)]
        for at, each in enumerate(ended):
            if isinstance(each, WorkerError):
                assert each.reason is reason
            elif not isinstance(each, BaseException):
                assert floats(each.outputs[0])[1] == 2 * at
        assert slot.counters.errors == len(bad)

    run(body, toy, config)


def test_nobody_waits_for_ever_where_the_slot_is_stopped_and_its_worker_dies(toy: Parts) -> None:
    async def body(runtime: Runtime, slot: Slot) -> None:
        asked = [asyncio.ensure_future(runtime.infer("toy", [tensor(parts.HANG if at == 0 else 0)])) for at in range(8)]
        await asyncio.sleep(0)
        assert laid(slot) > 1
        await runtime.stop("toy")
        ended = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
        assert isinstance(ended[0], WorkerError)
        assert all(isinstance(each, RequestError) and each.status == 503 for each in ended[1:])

    run(body, toy, ONE)


def test_a_model_that_became_slow_has_nothing_laid_ready(toy: Parts) -> None:
    async def body(runtime: Runtime, slot: Slot) -> None:
        await asyncio.gather(*(runtime.infer("toy", [tensor(parts.SLOW, 80)]) for _ in range(6)))
        asked = [asyncio.ensure_future(runtime.infer("toy", [tensor(parts.SLOW, 80)])) for _ in range(4)]
        await asyncio.sleep(0)
        assert laid(slot) == 1 and slot.waiting == 3
        await asyncio.gather(*asked)

    run(body, toy, ONE)
