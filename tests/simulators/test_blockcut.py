"""Images of a device whose power went: legal, different, and the same for the same recipe."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulators.test_blocklog import logs

from skerry_simulators.blockcut import KINDS, MIXED, PREFIX, TORN, Cutter, Recipe, recipe, recipes
from skerry_simulators.blocklog import SECTOR, Entry, Flush, Mark, Write
from skerry_simulators.errors import SimulatorError

BASE = bytes(20 * SECTOR)


def allowed(log: list[Entry], position: int) -> list[set[bytes]]:
    """Return what each sector may hold: what was durable, or anything written since."""
    durable = [BASE[at : at + SECTOR] for at in range(0, len(BASE), SECTOR)]
    found = [{each} for each in durable]
    for entry in log[:position]:
        if isinstance(entry, Flush):
            found = [{each} for each in durable]
        if isinstance(entry, Write):
            for number in range(len(entry.data) // SECTOR):
                piece = entry.data[number * SECTOR : (number + 1) * SECTOR]
                sector = entry.at // SECTOR + number
                durable[sector] = piece
                found[sector] = {piece} if entry.through else found[sector] | {piece}
    return found


@given(log=logs, position=st.integers(0, 25), kind=st.sampled_from(KINDS), seed=st.integers(0, 1000))
@settings(derandomize=True, max_examples=300)
def test_an_image_holds_what_is_durable_and_some_of_the_rest(
    log: list[Entry], position: int, kind: str, seed: int
) -> None:
    wanted = Recipe(min(position, len(log)), kind, seed)
    image = Cutter(BASE, log).image(wanted)
    assert len(image) == len(BASE)
    for number, values in enumerate(allowed(log, wanted.position)):
        assert bytes(image[number * SECTOR : (number + 1) * SECTOR]) in values


@given(log=logs, order=st.randoms(use_true_random=False))
@settings(derandomize=True, max_examples=60)
def test_the_order_of_asking_changes_nothing(log: list[Entry], order: object) -> None:
    wanted = [Recipe(position, kind, 7) for position in range(len(log) + 1) for kind in KINDS]
    first = {each: bytes(Cutter(BASE, log).image(each)) for each in wanted}
    cutter, shuffled = Cutter(BASE, log), list(wanted)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert {each: bytes(cutter.image(each)) for each in shuffled} == first


def a_log(windows: int, writes: int) -> list[Entry]:
    log: list[Entry] = []
    for window in range(windows):
        log += [Write(number * SECTOR, bytes([window + 1]) * (2 * SECTOR)) for number in range(writes)]
        log += [Mark(b"{}\n"), Flush()]
    return log


def test_recipes_are_different_images_and_the_seed_decides() -> None:
    log = a_log(12, 6)
    cutter = Cutter(BASE, log)
    found = recipes(cutter, log, 200, 3)
    assert found == recipes(Cutter(BASE, log), log, 200, 3) and len(found) == 200
    assert found != recipes(cutter, log, 200, 4)
    assert len({cutter.digest(each) for each in found}) == 200
    assert found == sorted(found)
    ends = {each.position for each in found if each.kind == PREFIX}
    assert ends == {position for position, entry in enumerate(log) if isinstance(entry, Flush)}
    assert {each.kind for each in found} == {PREFIX, MIXED, TORN}
    assert min(each.position for each in recipes(cutter, log, 50, 3, start=40)) >= 40


def test_few_different_images_are_no_endless_search() -> None:
    log = a_log(1, 1)
    assert 1 <= len(recipes(Cutter(BASE, log), log, 500, 1)) <= 20
    with pytest.raises(SimulatorError, match="nothing was written"):
        recipes(Cutter(BASE, [Flush()]), [Flush()], 10, 1)


def test_a_recipe_reads_as_it_prints() -> None:
    assert recipe("17.torn.5") == Recipe(17, TORN, 5) and str(Recipe(17, TORN, 5)) == "17.torn.5"
    for wrong in ("", "17", "17.other.5", "-1.torn.5", "17.torn.5 "):
        with pytest.raises(SimulatorError, match="is no recipe"):
            recipe(wrong)
