"""Topics as trees: which subscriptions a message meets, and which retained messages a new subscription meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")

MAX_LEVELS = 16  # of a filter; our own topics have six
MAX_ROUTES = 50_000  # remembered ways from topic to subscribers; forgotten together when more
MAX_ROUTE_LENGTH = 200  # characters of a topic worth remembering


class _Node(Generic[V]):
    """A topic level: what lies below it, and what is kept here."""

    __slots__ = ("below", "kept")

    def __init__(self) -> None:
        self.below: dict[str, _Node[V]] = {}
        self.kept: V | None = None


class Subscriptions(Generic[T]):
    """Subscribers by filter. `may_read` fences every delivery, so that a filter may be broader than a right."""

    def __init__(self, may_read: Callable[[T, str], bool]) -> None:
        self._root: _Node[dict[T, int]] = _Node()
        self._routes: dict[str, tuple[tuple[T, int], ...]] = {}
        self._may_read = may_read

    def add(self, topic_filter: str, subscriber: T, qos: int) -> None:
        """Let a subscriber meet a filter; an older subscription of the same two is replaced."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.below.setdefault(level, _Node())
        if node.kept is None:
            node.kept = {}
        node.kept[subscriber] = qos
        self._routes.clear()

    def remove(self, topic_filter: str, subscriber: T) -> None:
        """Take a subscription away, and the branch that held only it."""
        path: list[tuple[_Node[dict[T, int]], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            if level not in node.below:
                return
            path.append((node, level))
            node = node.below[level]
        if node.kept is None or node.kept.pop(subscriber, None) is None:
            return
        self._routes.clear()
        node.kept = node.kept or None
        _prune(path)

    def route(self, topic: str) -> tuple[tuple[T, int], ...]:
        """Return each subscriber that a topic meets, once, with the highest QoS it asked for."""
        found = self._routes.get(topic)
        if found is None:
            met: dict[T, int] = {}
            for kept in _meet_topic(self._root, topic):
                for subscriber, qos in kept.items():
                    met[subscriber] = max(qos, met.get(subscriber, 0))
            found = tuple((subscriber, qos) for subscriber, qos in met.items() if self._may_read(subscriber, topic))
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            if len(topic) <= MAX_ROUTE_LENGTH:
                self._routes[topic] = found
        return found


class Retained(Generic[V]):
    """The last retained message of each topic."""

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, topic: str, value: V) -> None:
        """Keep a message in place of the topic's older one."""
        node = self._root
        for level in topic.split("/"):
            node = node.below.setdefault(level, _Node())
        self._count += node.kept is None
        node.kept = value

    def remove(self, topic: str) -> bool:
        """Keep nothing for a topic any more; say whether there was something."""
        path: list[tuple[_Node[V], str]] = []
        node = self._root
        for level in topic.split("/"):
            if level not in node.below:
                return False
            path.append((node, level))
            node = node.below[level]
        if node.kept is None:
            return False
        node.kept = None
        self._count -= 1
        _prune(path)
        return True

    def meet(self, topic_filter: str) -> Iterator[V]:
        """Yield what is kept for every topic that a filter matches, each once."""
        yield from _meet_filter(self._root, topic_filter.split("/"), 0)

    def every(self) -> Iterator[V]:
        """Yield all that is kept, topics that begin with `$` included."""
        return _all(self._root, hidden=True)


def _prune(path: list[tuple[_Node[V], str]]) -> None:
    for node, level in reversed(path):
        child = node.below[level]
        if child.kept is not None or child.below:
            return
        del node.below[level]


def _meet_topic(root: _Node[V], topic: str) -> Iterator[V]:
    """Yield what is kept at each filter that a topic matches."""
    levels = topic.split("/")
    nodes = [root]
    for position, level in enumerate(levels):
        following: list[_Node[V]] = []
        wild = position > 0 or not level.startswith("$")
        for node in nodes:
            if wild and (rest := node.below.get("#")) is not None and rest.kept is not None:
                yield rest.kept
            if (exact := node.below.get(level)) is not None:
                following.append(exact)
            if wild and (any_level := node.below.get("+")) is not None:
                following.append(any_level)
        nodes = following
    for node in nodes:
        if node.kept is not None:
            yield node.kept
        if (rest := node.below.get("#")) is not None and rest.kept is not None:
            yield rest.kept  # `a/#` matches `a`


def _meet_filter(node: _Node[V], levels: list[str], position: int) -> Iterator[V]:
    if position == len(levels):
        if node.kept is not None:
            yield node.kept
    elif levels[position] == "#":
        if position > 0 and node.kept is not None:
            yield node.kept
        yield from _all(node, hidden=position > 0, own=False)
    elif levels[position] == "+":
        for level, child in node.below.items():
            if position > 0 or not level.startswith("$"):
                yield from _meet_filter(child, levels, position + 1)
    elif (exact := node.below.get(levels[position])) is not None:
        yield from _meet_filter(exact, levels, position + 1)


def _all(node: _Node[V], *, hidden: bool, own: bool = True) -> Iterator[V]:
    """Walk without recursion: a topic may have 32 000 levels."""
    stack = [child for level, child in node.below.items() if hidden or not level.startswith("$")]
    if own and node.kept is not None:
        yield node.kept
    while stack:
        current = stack.pop()
        if current.kept is not None:
            yield current.kept
        stack.extend(current.below.values())
