"""The search for byte candidates that keep the network's answers: cheap repairs first, float32 layers only as needed.

Order, from the study of what helps how often: the way of clipping and equalisation; the few layers in float32 that do
the harm; first layers in float32 (often the most sensitive ones); the last one too; clips of single tensors; rounding
by GPTQ and corrected biases. A recipe is scored by 2-fold cross-validation on calibration rows: it is
made from one half and judged on the other by the gate's own measure, so that it never sees what it is scored on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from skerry_compiler import gates
from skerry_compiler.engines.network.calibrate import METHODS
from skerry_compiler.repair.recipe import Recipe
from skerry_compiler.repair.workshop import Workshop
from skerry_contracts.bundle import Signature

SKIPS = (1, 2, 3, 4, 6, 8, 12, 16)
LEAVES = (1, 2, 3, 4, 6, 8)
HARM_ROWS = 8
HARDLY = 0.1  # of the time: what repairs so cheaply is good enough
COMFORT = 0.5  # of the tolerance: nothing slower is looked for
PROMISING = 1.5  # of the tolerance: a candidate that the held-out rows may still accept
BETTER = 0.75  # a slower candidate must use this much less of the tolerance to be worth measuring
TIE = 0.03  # of the time
MOST = 4  # candidates handed on
CLIPS = 8  # layers whose input is clipped the other way, one after the other
DIFFERENT = 1.1  # times wider: two ways of clipping that are worth a trial
GAIN = 0.02  # of the tolerance: less is chance, and no reason to keep a clip
MAX_SINGLE = 48  # layers whose harm is measured one by one
FLOAT_COST = 3.5  # of a multiplication in float32 against one of bytes, where nothing was measured

Say = Callable[[str], None]
Placed = tuple[int, int, tuple[int, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """A recipe, how it was judged on rows that it was not made from, and its predicted time in any unit."""

    recipe: Recipe
    judgement: gates.Judgement
    mean_cosine: float
    cost: float


@dataclasses.dataclass(frozen=True, slots=True)
class Speeds:
    """Measured times of one inference: in float32, and in bytes by how many first layers stay float32. All in ns."""

    float_ns: float = FLOAT_COST
    byte_ns: dict[int, float] = dataclasses.field(default_factory=lambda: {0: 1.0})

    def predicted(self, placed: Placed, work: Sequence[int]) -> float:
        """Return the expected time of a placement: what is measured, and in between by share of multiplications."""
        skip, keep, leave = placed
        count = len(work)
        left = {*range(min(skip, count)), *range(count - keep, count), *leave}
        if not keep and not leave and skip in self.byte_ns:
            return self.byte_ns[skip]
        near = max(each for each in self.byte_ns if each <= skip)
        base, done = self.byte_ns[near], set(range(near))
        rest = max(1, sum(work) - sum(work[i] for i in done if i < count))
        share: float = sum(work[i] for i in left - done) / rest
        return base + max(0.0, self.float_ns - base) * share


class Search:
    """One search. `trials` are all that were scored, in order; `planned` counts what would have been with more time."""

    def __init__(
        self, workshop: Workshop, signature: Signature, speeds: Speeds, until: Callable[[], float], say: Say
    ) -> None:
        """`until` returns the seconds that are left."""
        self.workshop = workshop
        self.signature = signature
        self.speeds = speeds
        self.until = until
        self.say = say
        self.trials: list[Trial] = []
        self._seen: set[str] = set()
        rows = workshop.everything
        self.folds = (rows[::2], rows[1::2] or rows)
        self.noisy = workshop.noisy()
        self.expected = workshop.stacked(workshop.expected)

    def run(self) -> list[Trial]:
        """Score recipes, one at least, until the time is up or nothing is left to try; return those worth measuring,
        fastest first.
        """
        for recipe in self._recipes():
            if self.trials and self.until() <= 0:
                break
            self.score(recipe)
        return chosen(self.trials)

    def score(self, recipe: Recipe) -> Trial | None:
        """Judge a recipe by cross-validation; None where it was, its name is too long, or nothing is left in bytes."""
        count = len(self.workshop.order)
        left = {*range(recipe.skip), *range(count - recipe.keep, count), *recipe.leave, *self.workshop.fixed}
        nothing = left >= set(range(count))
        if recipe.name in self._seen or not recipe.fits or nothing:
            return None
        self._seen.add(recipe.name)
        found: list[list[np.ndarray] | None] = [None] * len(self.workshop.rows)
        one, two = self.folds
        for learned, asked in ((one, two), (two, one)):
            for place, answer in zip(asked, self.workshop.answers(recipe, learned, asked), strict=True):
                found[place] = answer
        outputs = self.workshop.stacked([each for each in found if each is not None])
        judgement = gates.judge(self.signature, self.expected, outputs, None, self.noisy)
        cost = self.speeds.predicted(recipe.placement, self.workshop.work)
        trial = Trial(recipe, judgement, gates.mean_cosine(self.signature, self.expected, outputs), cost)
        self.trials.append(trial)
        best = max(each.judgement.cosine for each in self.trials)
        self.say(f"repair: {len(self.trials)} tried, best cosine {best:.4f}")
        return trial

    def _recipes(self) -> Iterator[Recipe]:
        forms = (False, True) if self.workshop.equalisable else (False,)
        yield from (Recipe(clip=clip, cle=cle) for cle in forms for clip in METHODS)
        if self._comfortable():
            return
        for base in self._bases(2):
            yield from self._by_harm(base)
        if self._comfortable(HARDLY):
            return
        for skip in SKIPS:
            if self._too_slow((skip, 0, ())):
                continue
            for base in self._bases(2):
                yield dataclasses.replace(base, skip=skip)
        for trial in self._frontier(3):
            yield dataclasses.replace(trial.recipe, keep=1)
        for trial in self._frontier(2):
            yield from self._by_tensor(trial)
        for trial in self._frontier(2):
            yield dataclasses.replace(trial.recipe, bias=True)
            yield dataclasses.replace(trial.recipe, gptq=True)

    def _by_tensor(self, best: Trial) -> Iterator[Recipe]:
        """What single layers read clipped the other way: those first where it makes the largest difference, each kept
        if it helps.
        """
        wider = self.workshop.clipped(best.recipe)
        count = len(wider)
        inside = [i for i in range(best.recipe.skip, count - best.recipe.keep) if i not in best.recipe.leave]
        for i in sorted(inside, key=lambda i: -wider[i])[:CLIPS]:
            if wider[i] < DIFFERENT:
                break
            tried = dataclasses.replace(best.recipe, other=tuple(sorted({*best.recipe.other, i})))
            yield tried
            made = self.trials[-1]
            if made.recipe == tried and made.judgement.used < best.judgement.used - GAIN:
                best = made

    def _by_harm(self, base: Recipe) -> Iterator[Recipe]:
        """The layers in float32 that cost the most accuracy in bytes, and those that do for their share of the work."""
        harm = self.harm(base, self.workshop.everything[:HARM_ROWS])
        work = self.workshop.work
        if not harm:
            return
        for worth in (harm, {i: harm[i] / max(1, work[i]) for i in harm}):
            ordered = sorted(worth, key=lambda i: (-worth[i], i))
            for many in LEAVES:
                if many <= len(ordered):
                    recipe = placed(base, ordered[:many])
                    if not self._too_slow(recipe.placement):
                        yield recipe
        enough = [t for t in self.trials if t.judgement.used <= COMFORT and not (t.recipe.keep or t.recipe.other)]
        if enough:
            yield from self._fewer(min(enough, key=lambda t: (t.cost, _merit(t))))

    def _fewer(self, best: Trial) -> Iterator[Recipe]:
        """Layers taken out of what stays in float32, those that multiply most first, as long as the rest is enough."""
        work = self.workshop.work
        left = [*range(best.recipe.skip), *best.recipe.leave]
        for i in sorted(left, key=lambda i: (-work[i], i)):
            rest = [each for each in left if each != i]
            recipe = placed(best.recipe, rest)
            yield recipe
            made = self.trials[-1]
            if made.recipe == recipe and made.judgement.used <= COMFORT:
                left = rest

    def harm(self, base: Recipe, asked: Sequence[int], *, patient: bool = False) -> dict[int, float]:
        """Return each byte layer's error, by number: the mean squared output error over the output's power, with it
        alone in bytes, made from the rows of the other fold.

        One layer put back into float32 would say less: where two ruin the answers, neither alone mends them. Of very
        deep networks the layers that multiply most are measured; none where the time is up, unless one is `patient`.
        """
        count = len(self.workshop.order)
        left = {*base.leave, *self.workshop.fixed}
        inside = [i for i in range(base.skip, count - base.keep) if i not in left]
        inside = sorted(sorted(inside, key=lambda i: -self.workshop.work[i])[:MAX_SINGLE])
        found = {}
        for i in inside:
            if self.until() <= 0 and not patient:
                return {}
            alone = dataclasses.replace(base, skip=0, keep=0, leave=tuple(each for each in range(count) if each != i))
            lost = power = 0.0
            for learned in self.folds:
                rows = tuple(each for each in asked if each not in learned)
                for row, answer in zip(rows, self.workshop.answers(alone, learned, rows), strict=True):
                    pairs = zip(self.workshop.expected[row], answer, strict=True)
                    floats = [(a.astype(np.float64), b) for a, b in pairs if a.dtype.kind == "f"]
                    lost += sum(float(np.mean((a - b) ** 2)) for a, b in floats)
                    power += sum(float(np.mean(a**2)) for a, _ in floats)
            found[i] = lost / max(power, 1e-30)
            self.say(f"repair: what layer {i} of {count} costs")
        return found

    def _comfortable(self, slower: float = 0.0) -> bool:
        """Whether something as fast as the fastest placement (within a share) uses little of the tolerance."""
        limit = min(self.speeds.byte_ns.values()) * (1 + slower)
        return any(t.judgement.used <= COMFORT and t.cost <= limit for t in self.trials)

    def _too_slow(self, placed: Placed) -> bool:
        return self.speeds.predicted(placed, self.workshop.work) >= self.speeds.float_ns * (1 - TIE)

    def _bases(self, count: int) -> list[Recipe]:
        """Return the best ways of clipping with all layers in bytes."""
        plain = [t for t in self.trials if t.recipe.placement == (0, 0, ()) and not (t.recipe.gptq or t.recipe.bias)]
        return [t.recipe for t in sorted(plain, key=_merit)[:count]]

    def _frontier(self, count: int) -> list[Trial]:
        """Return the fastest placements, each as its best trial, without those that a faster one is as good as."""
        kept: list[Trial] = []
        for trial in sorted(self.trials, key=lambda t: (t.cost, _merit(t))):
            if not kept or trial.judgement.used <= kept[-1].judgement.used * BETTER:
                kept.append(trial)
        by_placement = {trial.recipe.placement: trial for trial in kept}
        return list(by_placement.values())[:count]


def placed(base: Recipe, leave: Sequence[int]) -> Recipe:
    """Return the recipe with these layers in float32 and no others: the first ones, and the rest by number."""
    skip = 0
    while skip in leave:
        skip += 1
    return dataclasses.replace(base, skip=skip, keep=0, leave=tuple(sorted(each for each in leave if each > skip)))


def chosen(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials worth building and measuring: the fastest that may pass, and slower ones that are clearly
    better.

    Where none may pass, the best one is returned still: held-out rows decide, and the evidence shows how far it is off.
    """
    picked: list[Trial] = []
    waiting = sorted((t for t in trials if t.judgement.used <= PROMISING), key=lambda t: (t.cost, _merit(t)))
    while waiting and len(picked) < MOST:
        tied = [t for t in waiting if t.cost <= waiting[0].cost * (1 + TIE)]
        best = min(tied, key=_merit)
        if not picked or best.judgement.used <= picked[-1].judgement.used * BETTER:
            picked.append(best)
        waiting = [t for t in waiting if t.cost > waiting[0].cost * (1 + TIE)]
        if picked and picked[-1].judgement.used <= COMFORT:
            break
    return picked or sorted(trials, key=_merit)[:1]


def _merit(trial: Trial) -> tuple[float, float, str]:
    """What makes a trial better than another of the same speed: the tolerance it uses, in hundredths; the mean."""
    return round(trial.judgement.used, 2), -round(trial.mean_cosine, 6), trial.recipe.name


def countdown(time_s: float) -> Callable[[], float]:
    """Return a function that says how many seconds are left."""
    end = time.monotonic() + time_s
    return lambda: end - time.monotonic()
