"""Where candidates are measured: on this machine, on a board that a fleet lends, or nowhere."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from pathlib import Path

from skerry_compiler import data, foreign, remote, tournament
from skerry_compiler.emulators import catalogue as emulators
from skerry_compiler.engines.candidate import Built
from skerry_compiler.prepared import Prepared
from skerry_compiler.request import Request
from skerry_compiler.web import trials
from skerry_targets import fit, host
from skerry_targets.profile import Profile

Say = Callable[[str], None]


def runs_here(profile: Profile) -> bool:
    """Return whether this machine can run what is compiled for a profile."""
    facts = host.hardware({}, "")
    return not fit.missing(fit.predicates(profile), facts)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where and on what a compile is measured."""

    request: Request
    prepared: Prepared
    rows: data.Rows
    folder: Path
    deadline: float


def outcome(place: Place, built: list[Built], say: Say) -> foreign.Outcome:
    """Measure on the board that was asked for, else on this machine, else nowhere."""
    on = place.request.on
    if on is not None:
        field = remote.Field(place.request, place.prepared, place.rows, place.folder, place.deadline)
        return remote.measured(field, built, on, say)
    return measured(place, built, say) if runs_here(place.request.profile) else unmeasured(place, built, say)


def where(outcome: foreign.Outcome) -> str:
    """Return the machine that figures are of."""
    if outcome.board is not None:
        return f"{outcome.board.device}, {outcome.board.profile}, {outcome.board.cpu}"
    return f"{platform.machine()} {host.cpu_info().name}"


def measured(place: Place, built: list[Built], say: Say) -> foreign.Outcome:
    """Play the tournament on this machine."""
    request, prepared = place.request, place.prepared
    field = tournament.Field(
        folder=place.folder,
        original=prepared.original,
        original_bytes=request.source.stat().st_size,
        signature=prepared.signature,
        rows=place.rows,
        budget=request.profile.budget,
        objective=request.objective,
        deadline=place.deadline,
        threads=request.threads,
    )
    entries = [tournament.Entry(each.variant, each.size_bytes) for each in built]
    return foreign.from_tournament(tournament.play(field, entries, say), request.profile)


def unmeasured(place: Place, built: list[Built], say: Say) -> foreign.Outcome:
    """Rank by static order; check answers in the emulator where there is one."""
    say("checking answers in the emulator" if emulators.available(place.request.profile) else "ranking by static order")
    request, made = place.request, place.prepared
    field = foreign.Field(request.profile, made.signature, made.original, place.rows, place.folder, request.objective)
    return trials.play(field, built, place.deadline, say)
