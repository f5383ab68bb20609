"""Cookies and form tokens: only ours, only while they last, each for its own purpose."""

from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_fleet.dashboard.session import LASTS_S, Holder, Sessions, open_sessions
from skerry_fleet.errors import AuthError, ForbiddenError

NOW = 1_800_000_000.0
OURS = Sessions(b"s" * 32)
HOLDER = Holder("key", "ab12", 3)


def cookie(now: float = NOW) -> str:
    return OURS.begin(HOLDER, now, random.Random(1).randbytes)


def test_a_session_names_its_key_until_it_ends() -> None:
    assert OURS.holder_of(cookie(), NOW) == HOLDER
    assert OURS.holder_of(cookie(), NOW + LASTS_S - 1) == HOLDER
    with pytest.raises(AuthError, match="ended"):
        OURS.holder_of(cookie(), NOW + LASTS_S)


@given(st.integers(0, 200), st.characters(exclude_categories=["Cs"]))
def test_a_cookie_with_one_other_letter_is_refused(place: int, letter: str) -> None:
    text = cookie()
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(AuthError):
            OURS.holder_of(changed, NOW)


@given(st.text(max_size=600))
def test_no_other_text_is_a_cookie_or_a_token(text: str) -> None:
    with pytest.raises(AuthError):
        OURS.holder_of(text, NOW)
    with pytest.raises(ForbiddenError):
        OURS.check_token(cookie(), text)
    with pytest.raises(ForbiddenError):
        OURS.check_token("", OURS.token(""))


def test_tokens_fit_their_session_alone() -> None:
    one, other = cookie(), OURS.begin(HOLDER, NOW, random.Random(2).randbytes)
    OURS.check_token(one, OURS.token(one))
    for wrong in (OURS.token(other), Sessions(b"t" * 32).token(one), one.rpartition(".")[2]):
        with pytest.raises(ForbiddenError):
            OURS.check_token(one, wrong)


def test_the_secret_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    first = open_sessions(tmp_path, random.Random(1).randbytes)
    assert open_sessions(tmp_path, random.Random(2).randbytes) == first
    assert stat.S_IMODE((tmp_path / "dashboard.key").stat().st_mode) == 0o600
