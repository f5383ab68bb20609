"""What must be so on a device's folder after its power went, whatever the moment: before a start, after it, and after
the next update.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from skerry_agent import identity
from skerry_agent.carried import UPDATE
from skerry_agent.disk import RealDisk
from skerry_agent.errors import AgentError
from skerry_agent.ledger import MIRROR, SqliteLedger
from skerry_agent.store import BLOBS, BUNDLES, PARTIAL, Store
from skerry_agent.trust import renew
from skerry_contracts import codec
from skerry_contracts.carried_update import CarriedUpdate
from skerry_contracts.errors import ContractError
from skerry_simulators import storage as storages
from skerry_simulators.blocklog import Fact
from skerry_simulators.catalogue import MODEL
from skerry_simulators.errors import SimulatorError
from skerry_simulators.power import Plug
from skerry_simulators.power_fleet import LIFE_DAYS
from skerry_simulators.power_life import DEVICE, LAST, Life, state_digest

REST_S, GAP_S = 30.0, 60.0
SEQUENCES = 1000  # what a life numbers at most
EXPECTED = {"identity", "store", "tuf", "run", "state.db", "state.db-wal", "state.db-shm", MIRROR, "lost+found"}


@dataclasses.dataclass(slots=True)
class Known:
    """What the device had made durable, and what the fleet had, when the power went."""

    at: float = 0.0
    chapter: str = ""
    stage: str = "idle"
    state: str = ""
    floor: int = 0
    sequence: int = 0
    clock: float = 0.0
    renewed: int = 0
    promoted: int = 0
    carried: str = ""
    roles: dict[str, int] = dataclasses.field(default_factory=dict)
    added: set[tuple[str, int]] = dataclasses.field(default_factory=set)
    stored: set[tuple[str, int]] = dataclasses.field(default_factory=set)

    @property
    def phase(self) -> str:
        """Where in its life the device was."""
        return f"{self.chapter}/{self.stage}"

    def learn(self, fact: Fact) -> None:
        """Take up one more fact."""
        for name in ("at", "chapter", "stage", "state", "carried"):
            setattr(self, name, fact.get(name, getattr(self, name)))
        for name in ("floor", "sequence", "clock", "renewed", "promoted"):
            setattr(self, name, max(getattr(self, name), fact.get(name, 0)))
        for role, version in fact.get("roles", {}).items():
            self.roles[role] = max(version, self.roles.get(role, 0))
        self.added |= {(boot, seq) for boot, seq in fact.get("added", ())}
        if "stored" in fact:
            self.stored.add((fact["stored"][0], fact["stored"][1]))


def known(facts: Iterable[Fact]) -> Known:
    """Return what facts come to."""
    found = Known()
    for fact in facts:
        found.learn(fact)
    return found


def check(life: Life, before: Known, following: str | None) -> str:
    """Start on what a cut left in the life's folder and bring it to the next release; return what is wrong, or nothing.

    `following`: the ledger's state after the transaction that was under way, if that is known; None: any state that
    keeps every promise will do.
    """
    try:
        wrong = _files(life, before) or _ledger(life, before, following)
        if wrong:
            return wrong
        life.clock.now_s = max(life.clock.now_s, before.at + GAP_S)
        life.sequence = SEQUENCES
        life.invariants.stored.setdefault(DEVICE, set()).update(before.stored)
        life.start()
        return _promises(life, before) or _onwards(life) or _tidy(life)
    except (AgentError, SimulatorError, ContractError) as error:
        hint = getattr(error, "hint", "")
        return f"{error} ({hint})" if hint else str(error)


def _files(life: Life, before: Known) -> str:
    """Look at the files that are whole or not there."""
    disk = RealDisk(life.root)
    for name in disk.names(BLOBS):
        if disk.digest(f"{BLOBS}/{name}") != name:
            return f"blob {name[:12]} is torn"
    for name in disk.names(BUNDLES):
        data = disk.read(f"{BUNDLES}/{name}/manifest.json")
        if data is not None and codec.digest(data) != name:
            return f"the manifest of {name[:12]} is torn"
    mirror = disk.read(MIRROR)
    if mirror is not None:
        try:
            json.loads(mirror)
        except ValueError:
            return "the ledger's mirror is torn"
    return _identity(life, disk, before) or _carried(life.root / UPDATE, before)


def _identity(life: Life, disk: RealDisk, before: Known) -> str:
    identity.load(disk)
    if disk.read(identity.TRUST) != life.fleet.office.trust_document:
        return "what the device believes in has changed"
    numbers = {pem: number for number, pem in enumerate(life.fleet.certificates, start=1)}
    found = {}
    for slot in (identity.CREDENTIALS, identity.NEXT):
        data = disk.read(slot)
        if data is None:
            continue
        _, fits = renew.inspect(data)
        pem = data[data.index(b"-----BEGIN CERTIFICATE") :].decode()
        if not fits or pem not in numbers:
            return f"{slot} holds a key and a certificate that do not belong together"
        found[slot] = numbers[pem]
    if found.get(identity.CREDENTIALS, 0) < max(1, before.promoted) or max(found.values()) < before.renewed:
        return f"certificates {found}, after number {before.renewed} came and {before.promoted} was proven"
    return ""


def _carried(path: Path, before: Known) -> str:
    if not path.exists():
        return "the update that came by file is gone" if before.carried else ""
    with path.open("rb") as file:
        CarriedUpdate(file)
    if before.carried and codec.digest(path.read_bytes()) != before.carried:
        return "the update that came by file has changed"
    return ""


def _ledger(life: Life, before: Known, following: str | None) -> str:
    """Look at the ledger before the agent starts: it must be sound, and hold exactly what was committed."""
    kept = storages.real(life.root, Plug())
    assert isinstance(kept.ledger, SqliteLedger)
    try:
        if kept.ledger.damage is not None:
            return f"the ledger is damaged: {kept.ledger.damage}"
        found = state_digest(kept)
        if following is not None and found not in (before.state, following):
            return f"the ledger holds neither state {before.state} nor {following}, but {found}"
        kept_rows = {row.key for row in kept.ledger.head(1 << 20)}
        if missing := before.added - before.stored - kept_rows:
            return f"{len(missing)} kept messages are gone, such as {min(missing)}"
    finally:
        kept.ledger.close()
    return ""


def _promises(life: Life, before: Known) -> str:
    """Compare what the core took up with what was promised."""
    core = life.device.core
    if core is None:
        return "the device did not boot"
    memory = core.memory
    floor = memory.records[MODEL].floor
    if floor < before.floor or memory.sequence < before.sequence or memory.clock_floor_s < before.clock:
        return f"a floor fell: release {floor}, sequence {memory.sequence}, clock {memory.clock_floor_s}; {before}"
    if lower := [role for role, version in before.roles.items() if memory.floors.get(role, 0) < version]:
        return f"the floor of role {lower[0]} fell"
    return ""


def _onwards(life: Life) -> str:
    """Let the device live on: it rests, takes the newest release, and gets its next certificate."""
    life.run(REST_S)
    last = life.bundles[LAST]
    life.offer(last)
    life.updated(last)
    said, _, words = life.device.child("renew", now_s=life.clock.wall_s() + LIFE_DAYS * 86400 * 0.9)
    if words or not said["renewed"]:
        return f"no new certificate: {words}"
    identity.promote(RealDisk(life.root))
    core = life.device.core
    if core is not None and core.degraded:
        return f"degraded: {core.degraded}"
    return ""


def _tidy(life: Life) -> str:
    """Look for what a cut may leave behind for ever, once the device has started again."""
    life.stop()
    life.start()
    life.run(REST_S)
    disk, core = RealDisk(life.root), life.device.core
    store = Store(disk)
    assert core is not None
    kept = core.memory.bundles() | set(store.factory().values())
    used = {digest for each in kept if (manifest := store.manifest(each)) is not None for digest in manifest.blobs()}
    left = [f"{BUNDLES}/{each}" for each in disk.names(BUNDLES) if each not in kept]
    left += [f"{BLOBS}/{each}" for each in disk.names(BLOBS) if each not in used]
    left += [f"{PARTIAL}/{each}" for each in disk.names(PARTIAL)]
    left += [each for each in disk.names("") if each.removesuffix(".new") not in EXPECTED]
    left += [f"tuf/{each.name}" for each in (life.root / "tuf").glob("tmp*")]
    return f"left behind for ever: {', '.join(left)[:300]}" if left else ""
