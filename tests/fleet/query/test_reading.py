"""Device queries as people write them, and what nobody may write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_fleet.errors import InputError
from skerry_fleet.query import reading
from skerry_fleet.query.reading import read
from skerry_fleet.query.words import Comparison, Every, Moment, Pattern, Some


def test_and_binds_stronger_than_or_in_signs_and_in_words() -> None:
    a, b, c = (Comparison("name", "", "==", (Pattern(each),)) for each in "abc")
    for text in ("name==a;name==b,name==c", "name==a and name==b or name==c", " name == a ; name == b , name == c "):
        assert read(text) == Some((Every((a, b)), c))
    assert read("name==a;(name==b,name==c)") == Every((a, Some((b, c))))
    assert read("(((name==a)))") == a


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name==cam-*", Pattern("cam-", "", "")),
        ("name==*-1", Pattern("", "", "-1")),
        ("name==a*z", Pattern("a", "", "z")),
        ("name==*x*", Pattern("", "x", "")),
        ("name=='hall 7; or \\'x\\''", Pattern("hall 7; or 'x'")),
        ('name=="and"', Pattern("and")),
        ("cores=ge=4", 4),
        ("cores>-1", -1),
        ("online==true", True),
        ("last_seen<now-2h", Moment(-7200.0, relative=True)),
        ("enrolled>=1970-01-02", Moment(86400.0)),
        ("enrolled>=1970-01-01T02:00:00+01:00", Moment(3600.0)),
    ],
)
def test_values(text: str, value: object) -> None:
    node = read(text)
    assert isinstance(node, Comparison) and node.values == (value,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("hardwear==x", "column 1: 'hardwear' is no field"),
        ("profil==x", "is profile meant?"),
        ("name==a;profil==x", "column 9: 'profil'"),
        ("name", "column 5: an operator is missing"),
        ("name=x", "an operator is missing"),
        ("name=like=x", "column 5: =like= does not go with a text"),
        ("name<x", "< does not go with a text"),
        ("online<true", "does not go with a true or false"),
        ("online==yes", "column 9: 'yes' is neither true nor false"),
        ("cores==four", "'four' is no whole number"),
        ("cores==٤", "is no whole number"),
        ("cores==9223372036854775808", "is no whole number"),
        ("cores==" + "9" * 400, "is no whole number"),
        ("last_seen<yesterday", "column 11: 'yesterday' is no time"),
        ("last_seen<2026-13-01", "is no time"),
        ("last_seen==now", "== does not go with a time"),
        ("tag==x", "tag needs the name of a tag behind a dot"),
        ('tag."x==1', "a tag behind a dot"),
        ('tag.a"b==x', "column 6: an operator is missing"),
        ("name.x==1", "column 5: nothing can stand behind name"),
        ("name==a*b*c", "a * in more places"),
        ("name==", "column 7: a value is missing"),
        ("name=='x", "column 7: the quote is not closed"),
        ("name=='x\\", "the quote is not closed"),
        ("name=in=x", "=in= takes values in parentheses"),
        ("name=in=(a,b", "a ) is missing"),
        ("(name==a", "column 9: a ) is missing"),
        ("name==a)", "column 8: ')' is not expected here"),
        ("name==a name==b", "column 9: 'n' is not expected here"),
        ("name==a;", "column 9: a field's name is missing"),
        ("name==a; DROP TABLE device", "column 10: 'DROP' is no field"),
        ("name=='a' OR '1'=='1'", "is not expected here"),
        ("name==a--", None),
        ("name==a\nb", "column 8: a character that cannot be printed"),
        ("name==a\0", "cannot be printed"),
        ("name==\ud800", "cannot be printed"),
        ("(" * 17 + "name==a" + ")" * 17, "parentheses deeper than 16"),
        ("(" * 1999, "deeper than 16"),
        ("name==" + "a" * 2000, "2006 characters, at most 2000"),
        (";".join(["name==a"] * 65), "more than 64 comparisons"),
        (f"name=in=({','.join(['a'] * 201)})", "more than 200 values"),
    ],
)
def test_what_is_no_query_is_refused_in_one_line_at_its_place(text: str, said: str | None) -> None:
    if said is None:
        assert read(text) == Comparison("name", "", "==", (Pattern("a--"),))  # a value like any other
        return
    with pytest.raises(InputError) as refused:
        read(text)
    assert said in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 200


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet=st.sampled_from("()=<>!;,'\"\\* .abnow-1Z:"), max_size=60) | st.text(max_size=60))
def test_whatever_is_written_is_a_query_or_refused(text: str) -> None:
    try:
        read(text)
    except InputError as error:
        assert str(error).startswith("query")


def test_the_longest_that_is_allowed_is_read() -> None:
    read("(" * reading.MAX_DEPTH + "name==a" + ")" * reading.MAX_DEPTH)
    read(",".join(["name==a"] * reading.MAX_COMPARISONS))
