"""Topic names and topic filters: what they may look like and which matches which (MQTT 3.1.1, chapter 4.7)."""

from __future__ import annotations


def valid_topic(topic: str) -> bool:
    """Say whether a text may be published to: not empty, no wildcard, no NUL, at most 65 535 bytes."""
    return bool(topic) and "+" not in topic and "#" not in topic and "\0" not in topic and _fits(topic)


def valid_filter(topic_filter: str) -> bool:
    """Say whether a text may be subscribed to: `+` and `#` fill a whole level, `#` only the last."""
    if not topic_filter or "\0" in topic_filter or not _fits(topic_filter):
        return False
    levels = topic_filter.split("/")
    if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
        return False
    return "#" not in levels[:-1]


def matches(topic_filter: str, topic: str) -> bool:
    """Say whether a valid filter matches a valid topic.

    A wildcard in the first place does not match topics that begin with `$`; `a/#` matches `a` too.

    >>> matches("a/+/c", "a/b/c"), matches("a/#", "a"), matches("+", "$SYS"), matches("a/+", "a")
    (True, True, False, False)
    """
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or (level != "+" and level != levels[position]):
            return False
    return len(wanted) == len(levels)


def _fits(text: str) -> bool:
    return len(text) <= 16383 or len(text.encode("utf-8", "surrogatepass")) <= 65535
