"""Whose turn is next: nobody is lost, late ones are not begun, and a client that asks without end delays itself."""

from __future__ import annotations

import dataclasses
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skerry_agent.waiting import Waiting

CLIENTS = st.sampled_from("abc")


@dataclasses.dataclass(eq=False)
class Asked:
    client: str
    expires_s: float
    number: int


class Dispatch(RuleBasedStateMachine):
    """A queue and its workers; the model is plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Waiting[Asked] = Waiting(5)
        self.now_s = 0.0
        self.count = 0
        self.inside: list[Asked] = []
        self.running: list[Asked] = []
        self.settled: list[Asked] = []
        self.passed_over: Counter[str] = Counter()  # turns that others had while this client waited

    @rule(client=CLIENTS, patience_s=st.sampled_from([0.5, 3.0, 100.0]))
    def ask(self, client: str, patience_s: float) -> None:
        self.count += 1
        request = Asked(client, self.now_s + patience_s, self.count)
        before = Counter(each.client for each in self.inside)
        full = len(self.inside) == self.line.bound
        here, loser = self.line.add(request)
        if loser is not None:
            assert full and here, "somebody was pushed out though there was room"
            assert loser.client != client and before[loser.client] == max(before.values())
            assert before[loser.client] > before[client] + 1, "the newcomer has as many"
            mine = [each for each in self.inside if each.client == loser.client]
            assert loser is mine[-1], "an older request gave way before a newer one"
            self.leave(loser)
            self.settled.append(loser)
        if here:
            assert loser is not None or not full
            self.inside.append(request)
        else:
            assert full and max(before.values()) <= before[client] + 1
            self.settled.append(request)

    @rule()
    def begin(self) -> None:
        request, late = self.line.take(self.now_s)
        for each in late:
            assert each.expires_s <= self.now_s
            self.leave(each)
            self.settled.append(each)
        if request is None:
            assert not self.inside
            return
        assert request.expires_s > self.now_s, "somebody was served after their time"
        older = [each for each in self.inside if each.client == request.client and each.number < request.number]
        assert not older, "a client's own requests overtook each other"
        self.leave(request)
        others = {each.client for each in self.inside} - {request.client}
        self.passed_over[request.client] = 0
        for client in others:
            self.passed_over[client] += 1
            assert self.passed_over[client] <= 2, "a client waited for more than one turn of each other"
        self.running.append(request)

    @precondition(lambda self: self.running)
    @rule()
    def worker_was_gone(self) -> None:
        """The last one that was taken was never begun: it is the next again."""
        request = self.running.pop()
        self.line.put_back(request)
        self.inside.append(request)
        self.inside.sort(key=lambda each: each.number)
        again, late = self.line.take(self.now_s)
        assert (again is request and not late) or request in late
        self.leave(request)
        for each in late:
            if each is not request:
                self.leave(each)
        if again is not None and again is not request:
            self.leave(again)
            self.running.append(again)
        self.settled += late
        if again is request:
            self.running.append(request)

    @precondition(lambda self: self.running)
    @rule()
    def answer(self) -> None:
        self.settled.append(self.running.pop(0))

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.inside))
        assert self.line.remove(request) and not self.line.remove(request)
        self.leave(request)
        self.settled.append(request)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        due_s = self.line.next_late_s()
        assert due_s == min((each.expires_s for each in self.inside), default=None)
        for each in self.line.late(self.now_s):
            assert each.expires_s <= self.now_s
            self.leave(each)
            self.settled.append(each)
        assert all(each.expires_s > self.now_s for each in self.inside)

    @rule()
    def swap(self) -> None:
        """Another slot takes over those who wait, in the order of their turns."""
        other: Waiting[Asked] = Waiting(5)
        moving = self.line.drain()
        assert not self.line and sorted(each.number for each in moving) == [each.number for each in self.inside]
        other.adopt(moving)
        self.line = other
        self.passed_over.clear()

    def leave(self, request: Asked) -> None:
        self.inside.remove(request)
        if request.client not in {each.client for each in self.inside}:
            self.passed_over[request.client] = 0

    @invariant()
    def nobody_is_lost(self) -> None:
        assert len(self.line) == len(self.inside) <= self.line.bound
        everybody = [*self.inside, *self.running, *self.settled]
        assert sorted(each.number for each in everybody) == list(range(1, self.count + 1))


Dispatch.TestCase.settings = settings(derandomize=True, max_examples=150, stateful_step_count=40, deadline=None)
TestDispatch = Dispatch.TestCase


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6))
@settings(derandomize=True, max_examples=50)
def test_the_turns_are_shared_equally_however_unequally_it_is_asked(asked: list[int]) -> None:
    line: Waiting[Asked] = Waiting(1000)
    for client, count in enumerate(asked):
        for number in range(count):
            line.add(Asked(str(client), 9.0, number))
    served: Counter[str] = Counter()
    for _ in range(min(asked) * len(asked)):
        request, _late = line.take(0.0)
        assert request is not None
        served[request.client] += 1
    assert set(served.values()) == {min(asked)}


def test_one_client_alone_may_use_the_whole_queue_and_loses_it_to_others_only() -> None:
    line: Waiting[Asked] = Waiting(8)
    mine = [Asked("a", 9.0, number) for number in range(9)]
    assert [line.add(each) for each in mine] == [(True, None)] * 8 + [(False, None)]
    lost = [line.add(Asked("b", 9.0, number))[1] for number in range(4)]
    assert [each.number for each in lost if each is not None] == [7, 6, 5, 4]
    assert line.add(Asked("b", 9.0, 9))[0] is False, "two who have as many: the newcomer waits for its own"
