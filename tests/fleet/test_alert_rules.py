"""The rules of alerts: each begins at its limit, lets go beyond it, never begins twice, and ends once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_fleet.alert_rules import RULES, Change, Counted, Facts, Limits, ModelFacts, changes
from skerry_fleet.alert_words import Kind, device_of, family

LIMITS = Limits()
WELL = Facts(
    "d", disk_free_bytes=10**9, certificate=(20 * 86_400.0, 30 * 86_400.0), models=(ModelFacts("m", held_s=1e9),)
)


class Book:
    """The alerts that stand, kept as the fleet keeps them."""

    def __init__(self) -> None:
        self.standing: dict[Kind, set[str]] = {}
        self.told: list[Change] = []

    def look(self, facts: Facts, limits: Limits = LIMITS) -> list[tuple[str, bool]]:
        found = changes(limits, facts, self.standing)
        for each in found:
            stands = self.standing.setdefault(each.kind, set())
            assert (each.subject in stands) is (each.text is None), "begun twice, or ended without a beginning"
            (stands.discard if each.text is None else stands.add)(each.subject)
            assert device_of(each.kind, each.subject) == facts.device and family(each.kind)
        self.told += found
        return [(each.kind.value, each.text is not None) for each in found]


def test_a_device_that_is_well_has_no_alert() -> None:
    assert Book().look(WELL) == []
    assert Book().look(Facts("d")) == []  # of which nothing is known yet


def test_each_rule_begins_once_holds_in_between_and_ends_once() -> None:
    day = 86_400.0
    series: dict[Kind, tuple[Facts, Facts, Facts]] = {  # wrong, in between, well again
        Kind.DISK_LOW: tuple(Facts("d", disk_free_bytes=mb * 10**6) for mb in (99, 149, 150)),  # type: ignore[dict-item]  # three
        Kind.FLAPPING: tuple(Facts("d", connections=count) for count in (7, 4, 3)),  # type: ignore[dict-item]  # three
        Kind.CERTIFICATE: tuple(Facts("d", certificate=(left * day, 30 * day)) for left in (6.9, -1, 30)),  # type: ignore[dict-item]  # three
        Kind.SPOOL_DROPPING: tuple(Facts("d", dropped=count) for count in (5, 1, 0)),  # type: ignore[dict-item]  # three
        Kind.MODEL_DEGRADED: (
            Facts("d", models=(ModelFacts("m", True, 300.0),)),
            Facts("d", models=(ModelFacts("m", False, 299.0),)),
            Facts("d", models=(ModelFacts("m", False, 300.0),)),
        ),
        Kind.CRASH_LOOP: tuple(Facts("d", models=(ModelFacts("m", restarts=count),)) for count in (4, 1, 0)),  # type: ignore[dict-item]  # three
        Kind.STALE_MODEL: (
            Facts("d", models=(ModelFacts("m", release=1, confirmed=2, confirmed_s=day),)),
            Facts("d", models=(ModelFacts("m", release=1, confirmed=3, confirmed_s=9 * day),)),
            Facts("d", models=(ModelFacts("m", release=3, confirmed=3, confirmed_s=9 * day),)),
        ),
        Kind.SHADOW_FAILED: (
            Facts("d", failed_shadows={"s1": "load"}),
            Facts("d", failed_shadows={"s1": "load"}),
            Facts("d"),
        ),
    }
    assert series.keys() == RULES.keys()
    for kind, (wrong, between, well) in series.items():
        book = Book()
        assert book.look(
            between if kind not in (Kind.CERTIFICATE, Kind.SPOOL_DROPPING, Kind.SHADOW_FAILED) else well
        ) in (
            [],
            [(kind.value, True)],
        )
        book = Book()
        assert book.look(wrong) == [(kind.value, True)], kind
        assert book.look(wrong) == book.look(between) == [], kind
        assert book.look(well) == [(kind.value, False)], kind
        assert book.look(well) == [], kind


def test_a_limit_of_nothing_turns_its_rule_off() -> None:
    off = Limits(disk_bytes=0, flaps=0, restarts=0, degraded_s=0, certificate_s=0, stale_s=0, spool=0)
    models = (ModelFacts("m", True, 1e9, 99, 1, 2, 1e9),)
    assert Book().look(Facts("d", 0, 99, 99, (1.0, 9e9), models), off) == []


MODELS = st.builds(
    ModelFacts,
    model=st.sampled_from(["m", "n"]),
    degraded=st.booleans(),
    held_s=st.sampled_from([0.0, 299.0, 300.0, 1e6]),
    restarts=st.integers(0, 6),
    release=st.none() | st.integers(1, 3),
    confirmed=st.none() | st.integers(1, 3),
    confirmed_s=st.sampled_from([0.0, 86_400.0, 1e6]),
)
FACTS = st.builds(
    Facts,
    device=st.just("d"),
    disk_free_bytes=st.none() | st.sampled_from([0, 99_000_000, 120_000_000, 10**9]),
    connections=st.integers(0, 9),
    dropped=st.integers(0, 2),
    certificate=st.none() | st.tuples(st.sampled_from([-1.0, 1e5, 1e6]), st.just(2.592e6)),
    models=st.lists(MODELS, max_size=2, unique_by=lambda each: each.model).map(tuple),
    failed_shadows=st.dictionaries(st.sampled_from(["s1", "s2"]), st.just("load"), max_size=2),
)


@given(st.lists(FACTS, max_size=12))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_whatever_happens_no_alert_begins_twice_and_each_ends_once(history: list[Facts]) -> None:
    book = Book()
    for facts in history:
        book.look(facts)
        assert book.look(facts) == [], "the same facts again change nothing"
    book.look(WELL)
    book.look(Facts("d", disk_free_bytes=10**9, models=(ModelFacts("m", held_s=1e9), ModelFacts("n", held_s=1e9))))
    assert not any(book.standing.values())
    begun = [(each.kind, each.subject) for each in book.told if each.text is not None]
    ended = [(each.kind, each.subject) for each in book.told if each.text is None]
    assert sorted(begun) == sorted(ended)


@given(st.lists(st.tuples(st.integers(0, 1800), st.integers(0, 5)), max_size=20))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_growth_within_an_hour_is_counted_from_the_first_value_on(steps: list[tuple[int, int]]) -> None:
    counted, value, now = Counted(1000), 1000, 0
    grown: list[tuple[int, int]] = []
    for pause, growth in steps:
        now, value = now + pause, value + growth
        grown.append((now, growth))
        assert counted.take(value, float(now)) == sum(each for at, each in grown if at > now - 3600)
    before = counted.take(value, float(now))
    assert counted.take(3, float(now)) == before  # begun anew: no growth, and none that is negative
    assert counted.take(5, float(now)) == before + 2
