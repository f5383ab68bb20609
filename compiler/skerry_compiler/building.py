"""From drafts to variants: the C that engines wrote goes through the pinned compiler, a few at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from skerry_compiler import golden, ranking
from skerry_compiler.engines.candidate import Built, Draft, megabytes
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import LimitError, ToolError
from skerry_contracts.bundle import Variant
from skerry_contracts.evidence import Candidate, Verdict
from skerry_targets.profile import Profile

MAX_AT_ONCE = 8

Say = Callable[[str], None]


def build_all(
    drafts: Sequence[Draft], profile: Profile, deadline: float | None, say: Say
) -> tuple[list[Built], list[Candidate]]:
    """Compile the drafts that are still C; return every variant, in the drafts' order, and the verdicts of those that
    were not made.

    Args:
        drafts: all of them.
        profile: the board.
        deadline: of time.monotonic: what has not begun by then is not built, except the first draft of each engine and
            precision. None: build all.
        say: told of each.
    """
    first = ranking.leads([(each.id, each.engine, each.precision) for each in drafts])
    machine = Machine.of(profile)
    done = 0

    def one(draft: Draft) -> Built | Candidate:
        nonlocal done
        about = (draft.id, draft.engine, draft.precision)
        if deadline is not None and time.monotonic() > deadline and draft.id not in first:
            words = "not built: the time was up; a larger --budget builds it"
            return Candidate(*about, Verdict.UNMEASURED, words)
        try:
            say(f"building {len(drafts)} candidates: {done} done, now {draft.id}")
            return finish(draft, machine)
        except (LimitError, ToolError) as error:
            return Candidate(*about, Verdict.FAILED, f"not built: {error}")
        finally:
            done += 1

    in_turn = sorted(drafts, key=lambda each: each.id not in first)
    with ThreadPoolExecutor(min(MAX_AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        made = dict(zip((each.id for each in in_turn), pool.map(one, in_turn), strict=True))
    answers = [made[draft.id] for draft in drafts]
    built = [each for each in answers if isinstance(each, Built)]
    return built, [each for each in answers if isinstance(each, Candidate)]


def finish(draft: Draft, machine: Machine) -> Built:
    """Return a draft as a variant, its C compiled.

    Raises:
        ToolError, LimitError: the C compiler failed.
    """
    blobs, memory = dict(draft.files), draft.memory_bytes
    if draft.c_text is not None:
        weights = blobs.pop("weights", None)  # part of the library, not a file of its own
        blobs["library"] = build.artifact(draft.c_text, machine, weights)
        memory = max(memory, megabytes(len(blobs["library"])))
    records = {role: golden.blob(content) for role, content in blobs.items()}
    variant = Variant(draft.id, draft.engine, draft.precision, records, draft.requires, memory, draft.options)
    return Built(draft, variant, blobs)
