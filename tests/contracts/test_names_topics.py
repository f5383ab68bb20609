"""Names become topic levels, files and URLs: what they refuse, and that topics are read back as they were made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts import names, topics
from skerry_contracts.enrolment import parse_claim
from skerry_contracts.errors import MismatchError
from skerry_contracts.sample import parse_prediction, prediction_id

good_names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
hostile = ["", "..", "a/b", "+", "#", "A", "a b", "a\n", "a\0", "-a", "a" * 64, "é", "%2e%2e", "a\\b", "$SYS"]


@pytest.mark.parametrize("text", hostile)
def test_hostile_names_are_refused(text: str) -> None:
    with pytest.raises(MismatchError):
        names.name(text)
    with pytest.raises(MismatchError):
        topics.topic("default", text, "heartbeat")


@given(good_names, good_names, st.sampled_from(sorted(topics.CHANNELS)))
def test_a_topic_is_read_back(tenant: str, device: str, channel: str) -> None:
    text = topics.topic(tenant, device, channel)
    topic = topics.parse(text)
    assert (topic.tenant, topic.device, topic.channel.name, str(topic)) == (tenant, device, channel, text)
    assert text.count("/") <= 7, "AWS IoT allows seven slashes"


@given(st.text(max_size=60))
def test_any_other_topic_is_refused(text: str) -> None:
    with pytest.raises(MismatchError):
        topics.parse(text)


def test_a_channel_runs_one_way() -> None:
    with pytest.raises(MismatchError, match="names no channel"):
        topics.parse("skerry/1/default/gate-1/down/sample")


def test_only_the_assignment_is_retained() -> None:
    assert [name for name, channel in topics.CHANNELS.items() if channel.retained] == ["assignment"]


def test_boots_sort_in_their_order() -> None:
    ids = [names.new_boot_id(count, b"\xff\0\xff\0") for count in (1, 9, 10, 11, 100)]
    assert ids == sorted(ids)


def test_a_prediction_leads_back_to_its_device() -> None:
    boot = names.new_boot_id(3, b"abcd")
    assert parse_prediction(prediction_id("gate-1", boot, 17)) == ("gate-1", boot, 17)
    for text in ("gate-1", f"gate-1/{boot}/-1", f"gate-1/{boot}/٣", f"../{boot}/1"):
        with pytest.raises(MismatchError):
            parse_prediction(text)


def test_a_claim_token_is_read_back() -> None:
    text = f"skerry1.abcdefgh.{'s' * 43}.{'0' * 64}"
    assert str(parse_claim(f" {text}\n")) == text
    with pytest.raises(MismatchError) as caught:
        parse_claim(text[:-1])
    assert caught.value.hint
