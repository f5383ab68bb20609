from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skerry_fleet.broker.tree import Retained, Subscriptions
from skerry_fleet.mqtt.filters import matches

levels = st.sampled_from(["", "a", "b", "$S"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
topic_filters = (
    st.tuples(st.lists(st.one_of(levels, st.just("+")), max_size=3), st.sampled_from(["#", "+", "a", ""]))
    .map(lambda each: "/".join([*each[0], each[1]]))
    .filter(bool)
)


class SubscriptionsAgreeWithTheRules(RuleBasedStateMachine):
    """Whatever is added and removed, in any order, a message meets just whom `matches` says."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: Subscriptions[str] = Subscriptions(lambda _subscriber, _topic: True)
        self.known: dict[tuple[str, str], int] = {}

    @rule(topic_filter=topic_filters, subscriber=st.sampled_from("xyz"), qos=st.integers(0, 1))
    def add(self, topic_filter: str, subscriber: str, qos: int) -> None:
        self.tree.add(topic_filter, subscriber, qos)
        self.known[topic_filter, subscriber] = qos

    @rule(topic_filter=topic_filters, subscriber=st.sampled_from("xyz"))
    def remove(self, topic_filter: str, subscriber: str) -> None:
        self.tree.remove(topic_filter, subscriber)
        self.known.pop((topic_filter, subscriber), None)

    @rule(topic=topics)
    def route(self, topic: str) -> None:
        expected: dict[str, int] = {}
        for (topic_filter, subscriber), qos in self.known.items():
            if matches(topic_filter, topic):
                expected[subscriber] = max(qos, expected.get(subscriber, 0))
        found = self.tree.route(topic)
        assert dict(found) == expected and len(found) == len(expected)

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if not self.known:
            assert self.tree._root.below == {}


TestSubscriptions = SubscriptionsAgreeWithTheRules.TestCase
TestSubscriptions.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


@given(st.dictionaries(topics, st.booleans(), max_size=12), st.lists(topic_filters, max_size=4))
def test_retained_agrees_with_the_rules(kept: dict[str, bool], asked: list[str]) -> None:
    tree: Retained[str] = Retained()
    for topic in kept:
        tree.put(topic, topic)
    for topic, stays in kept.items():
        if not stays:
            assert tree.remove(topic) and not tree.remove(topic)
    remaining = [topic for topic, stays in kept.items() if stays]
    assert len(tree) == len(remaining) and sorted(tree.every()) == sorted(remaining)
    for topic_filter in asked:
        assert sorted(tree.meet(topic_filter)) == sorted(topic for topic in remaining if matches(topic_filter, topic))
    for topic in remaining:
        tree.remove(topic)
    assert tree._root.below == {}


def test_a_very_deep_topic() -> None:
    tree: Retained[str] = Retained()
    tree.put("/" * 30_000, "deep")
    assert list(tree.every()) == ["deep"] and list(tree.meet("#")) == ["deep"]
    assert tree.remove("/" * 30_000)


def test_rights_fence_every_delivery() -> None:
    tree: Subscriptions[str] = Subscriptions(lambda subscriber, topic: topic.startswith(subscriber))
    tree.add("#", "a", 1)
    tree.add("#", "b", 1)
    assert tree.route("a/x") == (("a", 1),)
