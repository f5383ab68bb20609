"""A level is what the evidence says, no more: every kind of check, all of them held, of this very profile."""

from __future__ import annotations

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts import codec
from skerry_targets import catalogue, levels, profile, shelf
from skerry_targets.levels import Check, Evidence, Kind, Level

BOARD = shelf.get("raspberry-pi-4")
LADDER = [Level.DECLARED, Level.COMPILED, Level.LOADED, Level.EXECUTED, Level.PARITY]
ALL = tuple(Check(kind, "dense", True, "seen") for kind in Kind)


def evidence(*checks: Check) -> Evidence:
    return Evidence(BOARD.id, profile.digest(BOARD), "2026-11-26", {"skerry": "1"}, checks)


def test_each_level_needs_its_own_checks() -> None:
    assert levels.level(BOARD, None) is Level.DECLARED
    assert levels.level(BOARD, evidence()) is Level.DECLARED
    assert levels.level(BOARD, evidence(*ALL)) is Level.PARITY
    for missing, reached in (
        (Kind.HEADER, Level.DECLARED),
        (Kind.BUDGET, Level.DECLARED),
        (Kind.LOAD, Level.COMPILED),
        (Kind.RUN, Level.LOADED),
        (Kind.PARITY, Level.EXECUTED),
        (Kind.REFUSAL, Level.PARITY),
    ):
        assert levels.level(BOARD, evidence(*(each for each in ALL if each.kind is not missing))) is reached


def test_what_ran_and_should_not_have_undoes_all() -> None:
    wrong = Check(Kind.REFUSAL, "dense", False, "ran")
    assert levels.level(BOARD, evidence(*ALL, wrong)) is Level.DECLARED


def test_evidence_of_another_state_of_the_profile_proves_nothing() -> None:
    changed = dataclasses.replace(BOARD, cpu=dataclasses.replace(BOARD.cpu, features=("asimd", "fp")))
    assert levels.level(changed, evidence(*ALL)) is Level.DECLARED


@given(st.lists(st.builds(Check, st.sampled_from(Kind), st.just("m"), st.booleans(), st.just(""))), st.data())
def test_a_check_that_failed_never_raises_the_level(checks: list[Check], data: st.DataObject) -> None:
    before = LADDER.index(levels.level(BOARD, evidence(*checks)))
    failed = Check(data.draw(st.sampled_from(Kind)), "m", False, "")
    assert LADDER.index(levels.level(BOARD, evidence(*checks, failed))) <= before


def test_the_evidence_on_file_is_of_the_profiles_as_they_are() -> None:
    names = {path.stem for path in levels.FOLDER.glob("*.json")}
    assert names <= set(catalogue.ids())
    for name in names:
        found = levels.on_file(name)
        assert found is not None and found.target == name
        assert found.profile_sha256 == profile.digest(shelf.get(name)), f"skerry targets prove {name} -o evidence"
        content = (levels.FOLDER / f"{name}.json").read_bytes()
        assert codec.to_plain(found) == json.loads(content)
    proven = [each for each in catalogue.load_all() if levels.of(each) in (Level.EXECUTED, Level.PARITY)]
    assert len(proven) >= 40
