"""Which passwords are taken, how they are kept, and what cannot be told from outside."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher, Type, extract_parameters
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_fleet import passwords
from skerry_fleet.errors import InputError

GOOD = "a tide of many words"


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        "Ünïcödé wörds gälore",
        "7Kd!pq0z,Rw2mLx",
        "correct horse battery staple",
        "海" * 3 + "山川空風雨雪火石土木金水",
    ],
)
def test_words_without_rules_of_composition_are_taken(good: str) -> None:
    passwords.check(good, "anna")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "short",
        "fourteen signs",
        "x" * 257,
        "a tide\0of many words",
        "aaaaaaaaaaaaaaaaaaaa",
        "abababababababababab",
        "passwordpassword",
        "Password123456789",
        "P4SSWORD" * 3,
        "abcdefghijklmnopqrst",
        "zyxwvutsrqponmlkjihg",
        "12345678901234567890",
        "qwertyqwertyqwerty",
        "annaannaannaannaanna",
        "anna-skerry-admin-1234",
        "skerryfleetadmin",
    ],
)
def test_the_first_guesses_are_refused_in_words_without_the_password(bad: str) -> None:
    with pytest.raises(InputError) as refused:
        passwords.check(bad, "anna")
    assert not bad or bad not in str(refused.value)


def test_what_is_kept_is_argon2id_with_owasps_parameters_and_any_library_reads_it() -> None:
    kept = passwords.hashed(GOOD)
    found = extract_parameters(kept)
    assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (Type.ID, 19_456, 2, 1)
    assert found.salt_len >= 16 and found.hash_len >= 32
    assert PasswordHasher().verify(kept, GOOD) and passwords.hashed(GOOD) != kept
    assert passwords.fits(kept, GOOD) and not passwords.fits(kept, GOOD + " ")
    assert not passwords.outdated(kept)
    assert passwords.outdated(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD))


def test_the_same_letters_are_the_same_password_however_they_are_typed() -> None:
    composed, decomposed = "caf\u00e9 am hafen morgens", "cafe\u0301 am hafen morgens"
    assert passwords.fits(passwords.hashed(composed), decomposed)


@settings(max_examples=8, deadline=None)
@given(st.text(max_size=40))
def test_nothing_fits_where_nothing_is_kept(text: str) -> None:
    assert not passwords.fits("", text)
    assert not passwords.fits("x", text)
    assert not passwords.fits("", "the password of nobody")
