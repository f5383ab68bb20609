"""`skerry agent doctor`: one screen that says whether this device is well, and what to do where it is not.

Every check looks for itself and changes nothing that lasts; it works while the agent runs and while it does not. A
check that breaks is a finding like any other, so that one ill part never hides the rest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from skerry_agent import doctor_fleet, doctor_host, ledger_look
from skerry_agent.clock import SystemClock, system_rng
from skerry_agent.config import AgentConfig
from skerry_agent.disk import RealDisk
from skerry_agent.errors import AgentError, WorkerError
from skerry_agent.findings import Finding, Verdict, note, well, wrong
from skerry_agent.records import Installed, Record
from skerry_agent.runtime import Runtime
from skerry_agent.serving import Serving
from skerry_agent.store import BLOBS, Store
from skerry_agent.supervision import RuntimeConfig
from skerry_agent.this_device import this_hardware
from skerry_contracts import codec
from skerry_contracts.errors import ContractError

CLOCK_SLACK_S = 86400.0  # what a clock may be behind without a window being refused (acceptance.ClockWatch)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What several checks look at: settings, the ledger's entries, and what the running agent says (None: none)."""

    config: AgentConfig
    disk: RealDisk
    keys: Mapping[str, bytes]
    status: Mapping[str, Any] | None


def examine(config: AgentConfig) -> Iterator[Finding]:
    """Run every check, in the order in which one depends on another, and give each finding as it is made."""
    disk = RealDisk(config.root)
    yield _guarded("folder", lambda: doctor_host.folder(disk))
    yield _guarded("space", lambda: doctor_host.space(disk, config.reserve_free_bytes))
    keys: dict[str, bytes] = {}
    yield _guarded("ledger", lambda: _ledger(config, keys))
    running, finding = doctor_host.running(config.root)
    yield finding
    case = Case(config, disk, keys, running)
    yield _guarded("clock", lambda: _clock(case))
    yield _guarded("identity", lambda: doctor_fleet.credentials(disk, _trusted_s(case)))
    yield _guarded("fleet", lambda: doctor_fleet.reached(disk))
    yield _guarded("link", lambda: doctor_fleet.linked(disk, running))
    yield _guarded("sandbox", doctor_host.sandboxed)
    yield _guarded("engines", doctor_host.engines)
    yield from models(case)
    yield _guarded("temperature", lambda: doctor_host.temperature(config.hot_c))


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except AgentError as error:
        return wrong(name, str(error), error.hint or "see docs/agent.md")
    except (OSError, ContractError, ValueError) as error:
        return wrong(name, f"could not be checked: {error}", "see docs/agent.md")


def _ledger(config: AgentConfig, keys: dict[str, bytes]) -> Finding:
    """Check the ledger without repairing it, and fill `keys` with what it holds."""
    path = config.root / "state.db"
    if not path.exists():
        return note("ledger", "none yet", "the first start of the agent makes it")
    try:
        keys.update(ledger_look.inspect(path))
    except sqlite3.Error as error:
        hint = "restart the agent: it sets the damaged file aside and rebuilds it from its mirror"
        return wrong("ledger", f"{path.name}: {error}", hint)
    damaged = path.with_name(f"{path.name}.damaged")
    if damaged.exists():
        return note("ledger", f"sound; rebuilt once, {damaged.name} is kept", "remove it when you have looked at it")
    return well("ledger", f"sound, {len(keys)} entries")


def _floor_s(case: Case) -> float:
    try:
        return max(float(case.config.clock_floor_s), float(case.keys.get("clock", b"0")))
    except ValueError:
        return float(case.config.clock_floor_s)


def _trusted_s(case: Case) -> float:
    return max(time.time(), _floor_s(case))


def _clock(case: Case) -> Finding:
    now_s, floor_s = time.time(), _floor_s(case)
    said, known = (time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(each)) for each in (now_s, floor_s))
    if now_s < floor_s - CLOCK_SLACK_S:
        hint = "set the clock (timedatectl set-ntp true); until then no maintenance window opens"
        return wrong("clock", f"shows {said}, but {known} is known to be past", hint)
    return well("clock", f"{said}, not before {known}")


def models(case: Case) -> Iterator[Finding]:
    """Load the active bundle of every model in a worker of its own, one after the other, and ask its golden vectors."""
    try:
        found = _installed(case)
    except AgentError as error:
        yield wrong("models", str(error), error.hint)
        return
    for model, active in sorted(found.items()):
        yield _guarded(f"model {model}", functools.partial(_model, case, model, active))
    if not found:
        yield note("models", "none installed", "assign a bundle in the fleet, or: skerry agent import B.skerry")


def _installed(case: Case) -> dict[str, Installed | None]:
    """Return what serves of each model: by the ledger, else by the store, as a start of the agent would have it."""
    serving = Serving(Store(case.disk), system_rng(), SystemClock())
    hardware = this_hardware()
    found: dict[str, Installed | None] = {**({} if case.keys else serving.newest(hardware))}
    found |= serving.factory(hardware)
    for key, value in case.keys.items():
        kind, _, model = key.partition(":")
        if kind == "model" and (active := codec.decode(Record, value).active or found.get(model)) is not None:
            found[model] = active
        elif kind == "model":
            found[model] = None
    return found


def _model(case: Case, model: str, active: Installed | None) -> Finding:
    name = f"model {model}"
    if active is None:
        return note(name, "nothing serves yet", "see its progress in the fleet")
    manifest = Store(case.disk).manifest(active.bundle)
    again = "restart the agent: it fetches what is damaged anew; a factory model: import it again"
    if manifest is None:
        return wrong(name, f"bundle {active.bundle[:12]}: its manifest is missing or damaged", again)
    variant = next((each for each in manifest.variants if each.id == active.measured.variant), None)
    if variant is None:
        return wrong(name, f"bundle {active.bundle[:12]} has no variant {active.measured.variant!r:.60}", again)

    async def test() -> str:
        runtime = Runtime(RuntimeConfig(threads=case.config.threads))
        blobs = case.config.root / BLOBS
        try:
            await runtime.start(model, blobs, variant, manifest, bundle=active.bundle)
            result = await runtime.golden(model, manifest, blobs, runs=1)
        finally:
            await runtime.close()
        if not result.ok:
            raise WorkerError(f"{result.passed} of {result.count} golden vectors: {result.failures[0]}", hint=again)
        return f"{result.passed} of {result.count} golden vectors, {variant.id}, version {manifest.version}"

    try:
        return well(name, asyncio.run(test()))
    except WorkerError as error:
        return wrong(name, str(error), error.hint or again)


class Tally(StrEnum):
    """The words of the last line."""

    WELL = "all is well"
    ILL = "something is wrong"


def lines(findings: list[Finding], width: int = 14) -> Iterator[str]:
    """Give the screen: a line a finding, its next step below it, and the verdict last."""
    for each in findings:
        yield f"{each.verdict.value:<6} {each.name:<{width}} {each.says}"
        if each.hint:
            yield f"{'':<6} {'':<{width}} -> {each.hint}"
    yield Tally.WELL if healthy(findings) else Tally.ILL


def healthy(findings: list[Finding]) -> bool:
    """Return whether nothing is wrong; notes are no fault."""
    return all(each.verdict is not Verdict.WRONG for each in findings)
