"""The recipe of a byte candidate, and the name that says all of it: a candidate is drafted again from its name alone.

    native-int8-mse-skip4-keep1-leave7x9-wide5-cle-gptq-bias

clips ranges where the mean squared error is least, leaves the first four layers, the last one and the layers 7 and 9
in float32, does not clip what layer 5 reads, equalises channels across layers, rounds weights by GPTQ and corrects
biases. After `minmax`, which never clips, `tight5` clips what layer 5 reads as `mse` does. Layers are convolutions and
products with constant weights, counted from 0 in running order.
"""

from __future__ import annotations

import dataclasses
import re

from skerry_compiler.engines.network.calibrate import METHODS
from skerry_compiler.engines.network.quantise import Precision
from skerry_contracts.names import name as checked

PREFIX = "native-int8"
MAX_NAME = 63  # characters, see skerry_contracts.names
_CLIPS = {method.replace(".", "-"): method for method in METHODS}
_NUMBER = "(?:0|[1-9][0-9]{0,3})"
_NAME = re.compile(
    f"{PREFIX}-(?P<clip>{'|'.join(sorted(_CLIPS, key=len, reverse=True))})"
    f"(?:-skip(?P<skip>{_NUMBER}))?(?:-keep(?P<keep>{_NUMBER}))?(?:-leave(?P<leave>{_NUMBER}(?:x{_NUMBER})*))?"
    f"(?:-(?:wide|tight)(?P<other>{_NUMBER}(?:x{_NUMBER})*))?"
    "(?P<cle>-cle)?(?P<gptq>-gptq)?(?P<bias>-bias)?"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is put into bytes.

    Attributes:
        clip: how ranges are taken from calibration values, one of `calibrate.METHODS`.
        skip: first layers left in float32.
        keep: last layers left in float32.
        leave: other layers left in float32, by number, rising.
        other: layers, by number, rising, whose inputs are clipped the other way: see `other_clip`.
        cle: cross-layer equalisation of channels first.
        gptq: weights rounded by GPTQ instead of to nearest.
        bias: biases corrected for what the rounding of weights moves on average.
    """

    clip: str = "p99.999"
    skip: int = 0
    keep: int = 0
    leave: tuple[int, ...] = ()
    other: tuple[int, ...] = ()
    cle: bool = False
    gptq: bool = False
    bias: bool = False

    @property
    def name(self) -> str:
        """The candidate's id."""
        words = [PREFIX, self.clip.replace(".", "-")]
        words += [f"{word}{count}" for word, count in (("skip", self.skip), ("keep", self.keep)) if count]
        words += ["leave" + "x".join(map(str, self.leave))] if self.leave else []
        word = "tight" if self.clip == "minmax" else "wide"
        words += [word + "x".join(map(str, self.other))] if self.other else []
        words += [word for word, given in (("cle", self.cle), ("gptq", self.gptq), ("bias", self.bias)) if given]
        return "-".join(words)

    @property
    def other_clip(self) -> str:
        """How the inputs of the layers in `other` are clipped: not at all, or where `clip` does not clip, by "mse"."""
        return "mse" if self.clip == "minmax" else "minmax"

    @property
    def fits(self) -> bool:
        """Whether the name is short enough for an id."""
        return len(self.name) <= MAX_NAME

    @property
    def precision(self) -> Precision:
        """Which layers stay in float32."""
        return Precision(skip=self.skip, keep=self.keep, leave=frozenset(self.leave))

    @property
    def placement(self) -> tuple[int, int, tuple[int, ...]]:
        """What decides its speed: recipes of one placement differ only in the numbers in them."""
        return self.skip, self.keep, self.leave


def parse(name: str) -> Recipe | None:
    """Return the recipe that a candidate's id says; None for the id of another kind of candidate."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    recipe = Recipe(
        clip=_CLIPS[found["clip"]],
        skip=int(found["skip"] or 0),
        keep=int(found["keep"] or 0),
        leave=_numbers(found["leave"]),
        other=_numbers(found["other"]),
        cle=found["cle"] is not None,
        gptq=found["gptq"] is not None,
        bias=found["bias"] is not None,
    )
    rising = all(each == tuple(sorted(set(each))) for each in (recipe.leave, recipe.other))
    return recipe if rising and recipe.name == checked(name) else None


def _numbers(text: str | None) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split("x")) if text else ()
