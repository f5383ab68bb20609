from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_fleet.mqtt.filters import matches, valid_filter, valid_topic

levels = st.sampled_from(["", "a", "b", "$SYS", "up"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
wild = st.lists(st.one_of(levels, st.just("+")), min_size=1, max_size=4)
topic_filters = st.tuples(wild, st.booleans()).map(lambda each: "/".join([*each[0], "#"] if each[1] else each[0]))


def by_expression(topic_filter: str, topic: str) -> bool:
    """The same rules said another way."""
    if topic.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    if topic_filter == "#":
        return True
    body = topic_filter.removesuffix("/#")
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in body.split("/"))
    return bool(re.fullmatch(pattern + ("(/.*)?" if body != topic_filter else ""), topic, re.DOTALL))


@given(topic_filters.filter(bool), topics)
def test_matching_agrees_with_the_other_way(topic_filter: str, topic: str) -> None:
    assert valid_filter(topic_filter) and matches(topic_filter, topic) == by_expression(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "a/b", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("$SYS/+", "$SYS/x", True),
        ("a", "A", False),
        ("a/", "a", False),
    ],
)
def test_the_standards_examples(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    "text", ["", "a+", "+a", "a/#/b", "#/a", "a#", "a/b#", "\0", "a\0", "++", "##", "x" * 65536, "ä" * 40000]
)
def test_filters_that_are_none(text: str) -> None:
    assert not valid_filter(text)


@pytest.mark.parametrize("text", ["", "+", "a/#", "a\0b", "x" * 65536, "ä" * 40000])
def test_topics_that_are_none(text: str) -> None:
    assert not valid_topic(text)


@pytest.mark.parametrize("text", ["/", "a", "a//b", " ", "ä", "x" * 65535, "$SYS"])
def test_odd_but_valid(text: str) -> None:
    assert valid_topic(text) and valid_filter(text)
