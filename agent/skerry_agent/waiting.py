"""Who waits for a model, and whose turn is next. Pure: no clock, no event loop; times are given.

Clients take turns (round robin: Nagle, "On packet switches with infinite storage", RFC 970, 1985); one client's
requests stay in their order. Where there is no room, the newest request of the client with the most of them gives way
to a client that has fewer (longest queue drop: McKenney, "Stochastic fairness queueing", INFOCOM 1990). So a client
that asks without end delays and loses its own requests, not another's.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Ticket(Protocol):
    """A request, as far as its turn is concerned."""

    @property
    def client(self) -> Hashable:
        """Whose it is."""

    @property
    def expires_s(self) -> float:
        """When nobody waits for it any more."""


T = TypeVar("T", bound=Ticket)


class Waiting(Generic[T]):
    """At most `bound` requests. Each comes out once, by exactly one of the methods.

    >>> from types import SimpleNamespace as Request
    >>> line = Waiting(3)
    >>> [line.add(Request(client=who, expires_s=9)) for who in "aab"]
    [(True, None), (True, None), (True, None)]
    >>> [line.take(0)[0].client for _ in range(3)]
    ['a', 'b', 'a']
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._turns: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, request: T) -> tuple[bool, T | None]:
        """Let a request wait; returns whether it does, and the one that had to give way to it."""
        loser = None
        if self._count >= self.bound:
            most = max(self._turns, key=lambda client: len(self._turns[client]), default=None)
            if most is None or len(self._turns[most]) <= len(self._turns.get(request.client, ())) + 1:
                return False, None
            loser = self._turns[most].pop()
            self._left(most)
        self._turns.setdefault(request.client, deque()).append(request)
        self._count += 1
        return True, loser

    def take(self, now_s: float) -> tuple[T | None, list[T]]:
        """Return who is next, and those before it who waited too long: nobody is there for their answers."""
        late: list[T] = []
        while self._turns:
            client = next(iter(self._turns))
            request = self._turns[client].popleft()
            self._left(client)
            if request.expires_s > now_s:
                if client in self._turns:
                    self._turns.move_to_end(client)
                return request, late
            late.append(request)
        return None, late

    def put_back(self, request: T) -> None:
        """Make a request that was taken the next again: it was not begun."""
        self._turns.setdefault(request.client, deque()).appendleft(request)
        self._turns.move_to_end(request.client, last=False)
        self._count += 1

    def remove(self, request: T) -> bool:
        """Take a request out whose client went away; returns whether it waited here."""
        queue = self._turns.get(request.client)
        if queue is None or not any(each is request for each in queue):
            return False
        self._turns[request.client] = deque(each for each in queue if each is not request)
        self._left(request.client)
        return True

    def late(self, now_s: float) -> list[T]:
        """Take out those who have waited too long."""
        found = [each for queue in self._turns.values() for each in queue if each.expires_s <= now_s]
        for each in found:
            self.remove(each)
        return found

    def next_late_s(self) -> float | None:
        """Return when the next of them will have waited too long; None: nobody waits."""
        return min((each.expires_s for queue in self._turns.values() for each in queue), default=None)

    def drain(self) -> list[T]:
        """Take all out, in the order of their turns."""
        found = []
        while (request := self.take(float("-inf"))[0]) is not None:
            found.append(request)
        return found

    def adopt(self, requests: list[T]) -> None:
        """Let those who waited elsewhere wait here, whatever the bound: they were promised a turn."""
        for request in requests:
            self._turns.setdefault(request.client, deque()).append(request)
            self._count += 1

    def _left(self, client: Hashable) -> None:
        """Account for one that left a client's queue."""
        self._count -= 1
        if not self._turns[client]:
            del self._turns[client]
