"""Measuring on an enrolled device: a lease of a board from a fleet, candidates up, figures down.

The fleet decides which board and signs what it runs; the board measures in a worker of its own beside what it serves.
What comes back is judged by the gates of a tournament here (`remote_judging.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from skerry_compiler import data, foreign, golden, pack, remote_judging
from skerry_compiler.engines.candidate import Built
from skerry_compiler.errors import CompileError, UsageError
from skerry_compiler.fleet_client import Fleet, LostError
from skerry_compiler.prepared import Prepared
from skerry_compiler.request import ANY, OnDevice, Request
from skerry_contracts import codec
from skerry_contracts.bundle import FORMAT, Contract, Golden, Manifest, Recipe
from skerry_contracts.container import write_container
from skerry_contracts.device import Hardware
from skerry_contracts.errors import ContractError
from skerry_contracts.evidence import Board
from skerry_contracts.measuring import MAX_ANSWERS_BYTES, MAX_CANDIDATES, MODEL, MeasuredCandidate
from skerry_targets import fit
from skerry_targets import profile as profiles

API = "/api/v1/leases"
POLL_S = 1.0
LOST_S = 60.0  # a fleet that starts anew is back by then, and the lease still stands
LEAST_S, MOST_S = 60, 1800
ROUNDS = 8
MAX_ROWS = 256
MAX_ROWS_BYTES = 4 << 20
_UNREACHED_HINT = "ask again, perhaps with another board or a larger --budget"

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """What is measured: rows with the original's answers, and how long it may take."""

    request: Request
    prepared: Prepared
    rows: data.Rows
    folder: Path
    deadline: float


@dataclasses.dataclass(slots=True)
class Lease:
    """A lease while it is held: every question renews it."""

    fleet: Fleet
    id: str
    said: dict[str, Any]

    def ask(self, say: Say, *, results: bool = False) -> dict[str, Any]:
        """Renew it and return where it stands; a fleet that starts anew is waited for.

        Raises:
            CompileError: refused, or no answer for long.
        """
        lost_s = time.monotonic() + LOST_S
        while True:
            try:
                self.said = self.fleet.post(f"{API}/{self.id}/renew", {"results": results})
                return self.said
            except LostError as error:
                if time.monotonic() > lost_s:
                    raise
                say(f"{error}: asking again")
                time.sleep(POLL_S)


def measured(field: Field, built: Sequence[Built], on: OnDevice, say: Say) -> foreign.Outcome:
    """Measure candidates on a board and judge them.

    Raises:
        CompileError: no board, none of the candidates runs there, or it did not come to an end.
    """
    request = field.request
    say("asking the original for its answers")
    rows = _rows(field)
    expected = foreign.original_outputs(field.prepared.original, field.prepared.signature, rows, field.folder)
    with _lease(request, on, say) as lease:
        _granted(lease, say)
        hardware = _hardware(lease)
        sent, left_out = chosen(built, hardware, lease.said["device"])
        manifest, file = _bundle(field, rows, expected, sent, lease.id)
        seconds = int(min(MOST_S, max(LEAST_S, field.deadline - time.monotonic())))
        say(f"sending {len(sent)} candidates, {file.stat().st_size / 1e6:.1f} MB, for {lease.said['device']}")
        lease.said = lease.fleet.upload(f"{API}/{lease.id}/bundle", file, {"seconds": seconds, "rounds": ROUNDS})
        _ended(lease, say)
        found = [codec.from_plain(MeasuredCandidate, each) for each in lease.ask(say, results=True)["results"]]
    board = _board(lease, hardware, found)
    field_ = remote_judging.Field(field.prepared.signature, rows, expected, request.profile, request.objective)
    known = {each.id for each in manifest.variants}
    by_id = {each.id: each for each in found if each.id in known}
    return remote_judging.judge(field_, [*sent], by_id, left_out, board)


def chosen(
    built: Sequence[Built], hardware: Hardware, device: str
) -> tuple[list[Built], dict[tuple[str, str, str], str]]:
    """Return what is sent, the yardstick first, and why others are left out.

    The yardstick is the model as it is, where the board can run it; else the first of the static order. Then the best
    of each engine and precision, as a tournament has them.

    Raises:
        CompileError: none fits the board.
    """
    left_out: dict[tuple[str, str, str], str] = {}
    fitting = []
    for each in built:
        lacks = fit.missing_for(each.variant, hardware)
        if lacks:
            left_out[_about(each)] = f"{device}: {'; '.join(lacks)}"
        else:
            fitting.append(each)
    if not fitting:
        words = "; ".join(f"{about[0]}: {why}" for about, why in left_out.items())[:500]
        raise CompileError(f"no candidate runs on {device}: {words}", hint="install an engine there, or --engines")
    fitting.sort(key=lambda each: (each.variant.id not in remote_judging.ORIGINALS, *foreign.static(each.draft)))
    kinds: set[tuple[str, str]] = set()
    first: list[Built] = []
    rest: list[Built] = []
    for each in fitting:
        kind = (each.variant.engine, each.variant.precision)
        (rest if kind in kinds else first).append(each)
        kinds.add(kind)
    ordered = [*first, *rest]
    for each in ordered[MAX_CANDIDATES:]:
        left_out[_about(each)] = f"not measured: a board measures {MAX_CANDIDATES} at once"
    return ordered[:MAX_CANDIDATES], left_out


def _about(built: Built) -> tuple[str, str, str]:
    return built.variant.id, built.variant.engine, built.variant.precision


@contextlib.contextmanager
def _lease(request: Request, on: OnDevice, say: Say) -> Iterator[Lease]:
    """Hold a lease; however the block is left, it is cancelled unless it is over."""
    profile = request.profile
    say(f"asking {on.fleet.url} for a {profile.id}")
    body = {
        "profile": profile.id,
        "requires": codec.to_plain(fit.predicates(profile)),
        "source_sha256": codec.digest(request.source.read_bytes()),
    }
    if on.device != ANY:
        body["device"] = on.device
    said = on.fleet.post(API, body)
    lease = Lease(on.fleet, str(said["id"]), said)
    try:
        yield lease
    except BaseException as error:
        why = "stopped" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        with contextlib.suppress(CompileError):
            on.fleet.post(f"{API}/{lease.id}/cancel", {"reason": f"its compiler: {why}"[:200]})
        raise


def _granted(lease: Lease, say: Say) -> None:
    """Wait for a board."""
    while lease.said["status"] == "queued":
        say(f"waiting for a board: {lease.said['reason'] or 'none is free'}")
        time.sleep(POLL_S)
        lease.ask(say)
    if lease.said["final"]:
        raise CompileError(f"the lease is {lease.said['status']}: {lease.said['reason']}", hint=_UNREACHED_HINT)


def _ended(lease: Lease, say: Say) -> None:
    """Wait for the board's last word.

    Raises:
        CompileError: it did not come to an end.
    """
    device = lease.said["device"]
    while not lease.said["final"]:
        state, detail = lease.said["state"] or "ordered", lease.said["told_detail"]
        say(f"{device}: {state}" + (f", {detail}" if detail else ""))
        time.sleep(POLL_S)
        lease.ask(say)
    if lease.said["status"] != "done":
        reason = lease.said["reason"] or "no reason was given"
        raise CompileError(f"{device} did not measure: {reason}", hint=_UNREACHED_HINT)


def _hardware(lease: Lease) -> Hardware:
    try:
        return codec.from_plain(Hardware, lease.said["hardware"])
    except ContractError as error:
        raise CompileError(f"{lease.said['device']} said nothing of its hardware: {error}") from error


def _board(lease: Lease, hardware: Hardware, found: Sequence[MeasuredCandidate]) -> Board:
    reference = next((each.against for each in found if each.against), "")
    alone = next((each.id for each in found if each.p50_ns), "")
    notes = [str(each) for each in lease.said["notes"]]
    if lease.said["reason"]:
        notes.append(f"it stopped: {lease.said['reason']}")
    return Board(
        hardware.profile,
        lease.said["device"],
        hardware.cpu,
        hardware.agent_version,
        int(lease.said["told_ms"] / 1000),
        reference or alone,
        lease.id,
        dict(hardware.engines),
        tuple(notes),
    )


def _rows(field: Field) -> data.Rows:
    """Return as many rows as a report of answers, and a download, may have."""
    signature = field.prepared.signature
    given = sum(spec.size_bytes for spec in signature.inputs)
    answers = sum(spec.size_bytes for spec in signature.outputs)
    most = min(MAX_ROWS, MAX_ROWS_BYTES // max(1, given), MAX_ANSWERS_BYTES // max(1, answers))
    return field.rows.head(max(1, most))


def _bundle(
    field: Field, rows: data.Rows, expected: Sequence[Any], sent: Sequence[Built], lease: str
) -> tuple[Manifest, Path]:
    """Write the candidates as a bundle that only this lease can have measured."""
    request = field.request
    inputs, outputs = rows.to_bytes(), data.Rows(tuple(expected)).to_bytes()
    manifest = Manifest(
        format=FORMAT,
        model=MODEL,
        version=lease,
        release=0,
        target=request.profile.id,
        signature=field.prepared.signature,
        variants=tuple(each.variant for each in sent),
        golden=Golden(len(rows), golden.blob(inputs), golden.blob(outputs), 0.0, 0.0, False),
        contract=Contract(),
        baseline=(),
        recipe=Recipe(
            f"skerry {pack.version('skerry')}",
            codec.digest(request.source.read_bytes()),
            field.prepared.form,
            request.profile.id,
            profiles.digest(request.profile),
        ),
    )
    contents = {codec.digest(each): each for each in (inputs, outputs)}
    for built in sent:
        contents |= {codec.digest(each): each for each in built.blobs.values()}
    path = field.folder / "candidates.skerry"
    with path.open("wb") as file:
        write_container(file, codec.encode(manifest), contents.items())
    return manifest, path


def fleet_of(url: str | None, key: str | None, environment: dict[str, str]) -> Fleet:
    """Return the fleet that flags and environment name; a key is text, or a file that holds it.

    Raises:
        UsageError: one is missing, or cannot be.
    """
    address = url or environment.get("SKERRY_FLEET_URL")
    if not address:
        raise UsageError("--on-device needs --fleet URL", hint="or SKERRY_FLEET_URL; the fleet lends the board")
    said = key or environment.get("SKERRY_FLEET_KEY")
    if not said:
        hint = "or SKERRY_FLEET_KEY; `skerry fleet key create NAME --role measurer` makes one"
        raise UsageError("--on-device needs --fleet-key KEY", hint=hint)
    if not said.startswith("sk1_"):
        try:
            said = Path(said).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--fleet-key: cannot read {said!r:.80}", hint="give a key, or a file with one") from error
    return Fleet(address, said)
