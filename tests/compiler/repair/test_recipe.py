"""A candidate's name says all of its recipe."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_compiler.engines.network.calibrate import METHODS
from skerry_compiler.repair.recipe import Recipe, parse

numbers = st.lists(st.integers(0, 400), max_size=4, unique=True).map(lambda each: tuple(sorted(each)))
recipes = st.builds(
    Recipe,
    clip=st.sampled_from(METHODS),
    skip=st.integers(0, 999),
    keep=st.integers(0, 99),
    leave=numbers,
    other=numbers,
    cle=st.booleans(),
    gptq=st.booleans(),
    bias=st.booleans(),
)


@settings(derandomize=True)
@given(recipes.filter(lambda each: each.fits))
def test_a_name_is_read_back_as_the_recipe(recipe: Recipe) -> None:
    assert parse(recipe.name) == recipe


@settings(derandomize=True)
@given(recipes, recipes)
def test_two_recipes_have_two_names(one: Recipe, two: Recipe) -> None:
    assert (one == two) == (one.name == two.name)


@pytest.mark.parametrize(
    "name",
    [
        "native-network", "ort-int8", "native-int8", "native-int8-given", "native-int8-p99-9", "native-int8-mse-skip0",
        "native-int8-mse-skip01", "native-int8-mse-leave3x2", "native-int8-mse-leave2x2", "native-int8-mse-gptq-cle",
        "native-int8-mse-tight3", "native-int8-minmax-wide3", "native-int8-mse-skip1\n", "native-int8-mse-skip99999",
    ],
)  # fmt: skip
def test_other_names_are_no_recipes(name: str) -> None:
    assert parse(name) is None
