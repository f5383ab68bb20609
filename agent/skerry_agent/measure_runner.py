"""Measures the candidates of an order, one beside the yardstick at a time, in rounds whose order turns (A B, B A, ...).

Two workers are in memory at once, however many candidates there are. A candidate that crashes, hangs, eats memory or
gives no numbers has that for its result, and the next one follows.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_agent import golden, health
from skerry_agent.effects import Measure
from skerry_agent.errors import AgentError, RequestError
from skerry_agent.latency import percentile_ms
from skerry_agent.measure_bench import Fell, MeasureBench, Surroundings, TimeUp, trying
from skerry_agent.measure_machine import Over
from skerry_agent.measuring import Measurer
from skerry_agent.runtime import Runtime
from skerry_agent.shadow_budget import Readings
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import Reason
from skerry_contracts.measuring import (
    MAX_ANSWERS_BYTES,
    MAX_DETAIL,
    MeasuredCandidate,
    MeasureOrder,
    MeasureState,
    Outcome,
)
from skerry_targets import fit

LOG = logging.getLogger("skerry.agent.measure")
ROUND_NS = 50_000_000  # of one candidate in one round
MAX_RUNS = 500
WARM_RUNS = 3
ANSWER_SHARE = 0.2  # of a candidate's time may go into its answers
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclasses.dataclass(slots=True)
class Trial:
    """What came of one candidate so far."""

    variant: Variant
    against: str
    own_ns: list[int] = dataclasses.field(default_factory=list)
    against_ns: list[int] = dataclasses.field(default_factory=list)
    all_ns: list[int] = dataclasses.field(default_factory=list)
    answers: list[bytes] = dataclasses.field(default_factory=list)
    load_ms: float = 0.0
    disturbed: int = 0

    def result(self, outcome: Outcome, detail: str, rss_bytes: int) -> MeasuredCandidate:
        """Return the record; figures where there are any."""
        steady, variant = sorted(self.all_ns), self.variant
        return MeasuredCandidate(
            variant.id,
            variant.engine,
            variant.precision,
            outcome,
            detail[:MAX_DETAIL],
            self.against,
            p50_ns=tuple(self.own_ns),
            against_p50_ns=tuple(self.against_ns),
            latency_p50_ms=percentile_ms(steady, 0.5),
            latency_p95_ms=percentile_ms(steady, 0.95),
            latency_p99_ms=percentile_ms(steady, 0.99),
            load_ms=self.load_ms,
            rss_bytes=rss_bytes,
            runs=len(steady),
            disturbed=self.disturbed,
            rows=len(self.answers),
            answers=b"".join(self.answers) or None,
        )


class MeasureRunner:
    """Carries out what the core asks of measuring. `readings` looks at the device; tests put their own there."""

    def __init__(
        self,
        core: Measurer,
        runtime: Runtime,
        blobs: Path,
        decide: Callable[..., None],
        readings: Callable[[], Readings],
    ) -> None:
        self._core, self._decide = core, decide
        self._around = Surroundings(runtime, blobs, readings, self._busy)
        self._order = ""
        self._task: asyncio.Task[None] | None = None
        self._said: dict[str, Any] = {}

    def start(self, effect: Measure) -> None:
        """Begin to measure; what was measured before ends."""
        self.stop(self._order)
        self._order = effect.order.id
        self._task = asyncio.get_running_loop().create_task(self._run(effect.order))

    def stop(self, order: str) -> None:
        """End the measuring of an order, where it is this one."""
        if self._task is not None and order == self._order and self._task is not asyncio.current_task():
            self._task.cancel()

    async def close(self) -> None:
        """End everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows of a measuring."""
        running = self._task is not None and not self._task.done()
        return {**self._core.measuring_status(), **(self._said if running else {})}

    def _busy(self) -> str:
        return trying([record.stage for record in self._core.memory.records.values()])

    async def _run(self, order: MeasureOrder) -> None:
        """Measure all, and say how it ended."""
        manifest = self._core.store.manifest(order.bundle)
        self._said = {"reported": 0}
        if manifest is None:
            self._over(order, Over(MeasureState.FAILED, Reason.STORAGE, "the candidates' files are gone"))
            return
        before_c = health.temperature_c()
        bench = MeasureBench(order, manifest, self._around, lambda why: self._waits(order, why))
        said = Over(MeasureState.DONE)
        try:
            await self._all(order, manifest, bench)
        except TimeUp as error:
            said = Over(MeasureState.STOPPED, Reason.TIMEOUT, str(error))
        except AgentError as error:
            reason = getattr(error, "reason", Reason.UNHEALTHY)
            said = Over(MeasureState.FAILED, reason if isinstance(reason, Reason) else Reason.UNHEALTHY, str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the supervisor of this task: whatever it is, the fleet must hear an end
            LOG.exception("a measuring broke off")
            said = Over(MeasureState.FAILED, Reason.UNHEALTHY, f"{type(error).__name__}: {error}")
        finally:
            await bench.close()
        notes = surroundings(before_c, bench.disturbed)
        self._over(order, dataclasses.replace(said, reported=self._said["reported"], notes=notes))

    async def _all(self, order: MeasureOrder, manifest: Manifest, bench: MeasureBench) -> None:
        """Measure the yardstick, the first that runs; then each other beside it."""
        rows = golden.rows(self._around.blobs, manifest.golden.inputs, manifest.golden.count, manifest.signature.inputs)
        waiting = list(manifest.variants)
        yardstick: Variant | None = None
        while waiting:
            variant = waiting.pop(0)
            if lacks := fit.missing_for(variant, self._core.hardware):
                self._report(order, Trial(variant, "").result(Outcome.UNFIT, f"lacks {', '.join(lacks)}", 0))
                continue
            until_left_s = bench.left_s * len(waiting) / (len(waiting) + 1)
            trial = Trial(variant, yardstick.id if yardstick is not None else "")
            try:
                found = await self._one(order, bench, trial, yardstick, rows, until_left_s)
            except TimeUp as error:
                for each in (variant, *waiting):
                    late = Trial(each, yardstick.id if yardstick is not None else "")
                    self._report(order, late.result(Outcome.UNREACHED, str(error), 0))
                raise
            self._report(order, found)
            if yardstick is None and found.outcome is Outcome.MEASURED:
                yardstick = variant
            else:
                await bench.drop(variant.id)

    async def _one(
        self,
        order: MeasureOrder,
        bench: MeasureBench,
        trial: Trial,
        yardstick: Variant | None,
        rows: list[list[bytes]],
        until_left_s: float,
    ) -> MeasuredCandidate:
        """Measure one candidate.

        Raises:
            TimeUp: before there was a single round.
            AgentError: the yardstick itself came to grief.
        """
        variant, outcome, detail = trial.variant, Outcome.MEASURED, ""
        try:
            runs = await self._answers(bench, trial, rows, until_left_s)
            turn = 0
            while turn < order.rounds and (turn == 0 or bench.left_s > until_left_s):
                if await self._pair(bench, trial, yardstick, rows, (turn, runs)):
                    turn += 1
        except TimeUp:
            if not trial.own_ns:
                raise
        except Fell as fell:
            if fell.variant != variant.id:
                raise AgentError(f"the yardstick {fell.variant} {fell.outcome}: {fell}") from fell
            outcome, detail = fell.outcome, str(fell)
            trial.own_ns, trial.against_ns, trial.all_ns, trial.answers = [], [], [], []
        return trial.result(outcome, detail, bench.peak_bytes(variant.id))

    async def _answers(self, bench: MeasureBench, trial: Trial, rows: list[list[bytes]], until_left_s: float) -> int:
        """Ask the golden inputs, which warms up as well; return how many runs make a round."""
        begun_left_s, spent = bench.left_s, 0
        share_s = max(1.0, (begun_left_s - until_left_s) * ANSWER_SHARE)
        best_ns, row = 0, 0
        while row < max(len(rows), WARM_RUNS) and (row < WARM_RUNS or begun_left_s - bench.left_s < share_s):
            await bench.quiet()
            try:
                outputs, elapsed_ns = await bench.ask(trial.variant, rows[row % len(rows)])
            except RequestError:
                continue
            if row == 0:
                trial.load_ms = bench.load_ms(trial.variant.id)
            answer = b"".join(outputs)
            if row < len(rows) and row == len(trial.answers) and spent + len(answer) <= MAX_ANSWERS_BYTES:
                trial.answers.append(answer)
                spent += len(answer)
            best_ns = min(best_ns or elapsed_ns, elapsed_ns)
            row += 1
        return max(1, min(MAX_RUNS, ROUND_NS // max(1, best_ns)))

    async def _pair(
        self,
        bench: MeasureBench,
        trial: Trial,
        yardstick: Variant | None,
        rows: list[list[bytes]],
        at: tuple[int, int],
    ) -> bool:
        """Run one round of both (`at`: which, and how many runs); False where it was disturbed, and does not count."""
        turn, runs = at
        mark = await bench.quiet()
        both = [trial.variant] if yardstick is None else [yardstick, trial.variant]
        found: dict[str, list[int]] = {}
        for variant in both if turn % 2 == 0 else reversed(both):
            times = found.setdefault(variant.id, [])
            begun_s = asyncio.get_running_loop().time()
            while len(times) < runs:
                try:
                    times.append((await bench.ask(variant, rows[len(times) % len(rows)]))[1])
                except RequestError:
                    break
                late = asyncio.get_running_loop().time() - begun_s > 20 * ROUND_NS / 1e9  # the yardstick is slow
                if (late and len(times) >= WARM_RUNS) or bench.disturbed_now(mark):
                    break
        if bench.disturbed_since(mark) or not all(found.values()):
            trial.disturbed += 1
            return False
        own = found[trial.variant.id]
        trial.all_ns += own
        trial.own_ns.append(_median(own))
        if yardstick is not None:
            trial.against_ns.append(_median(found[yardstick.id]))
        return True

    def _report(self, order: MeasureOrder, found: MeasuredCandidate) -> None:
        self._said["reported"] += 1
        self._decide(self._core.measured, order.id, found, self._said["reported"])

    def _waits(self, order: MeasureOrder, why: str) -> None:
        self._said["waits_for"] = why
        self._decide(self._core.measure_told, order.id, MeasureState.WAITING if why else MeasureState.MEASURING, why)

    def _over(self, order: MeasureOrder, said: Over) -> None:
        self._decide(self._core.measure_over, order.id, said)


def surroundings(before_c: float | None, disturbed: int) -> tuple[str, ...]:
    """Return under which conditions was measured, in words."""
    notes = ["on spare cycles (SCHED_IDLE), one thread's time by the clock"]
    try:
        notes.append(f"frequency governor {GOVERNOR.read_text().strip()[:40]}")
    except OSError:
        notes.append("no frequency governor to be seen")
    after_c = health.temperature_c()
    if before_c is None or after_c is None:
        notes.append("no temperature sensor")
    else:
        notes.append(f"{before_c:.0f} degrees Celsius at the start, {after_c:.0f} at the end")
    if disturbed:
        notes.append(f"{disturbed} rounds were run again: what serves was asked meanwhile")
    return tuple(notes)


def _median(times: list[int]) -> int:
    return sorted(times)[len(times) // 2]
