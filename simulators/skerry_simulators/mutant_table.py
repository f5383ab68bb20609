"""Seeded safety bugs: one line of the agent taken away or turned round, and the tests that must notice."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands exactly once in `file` (below agent/skerry_agent) and becomes `new`; one of `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_CUTS = ("tests/journeys/test_power_cut_at_every_durable_write.py",)
_DISK = ("tests/simulators/test_sim_disk.py",)  # an update gets over it since manifests are fetched again
_STORE = ("tests/agent/test_store.py",)
_CORE = ("tests/agent/test_core.py", "tests/agent/test_policies.py")
_MACHINE = ("tests/agent/test_machine.py",)
_SIGNING = ("tests/agent/test_signing.py",)
_TRANSFER = ("tests/agent/test_transfer.py",)
_SPOOL = ("tests/agent/test_spool.py",)
_RUNTIME = ("tests/agent/test_runtime.py",)

TABLE = (
    Mutant("fsync of a blob", "store.py", "self.disk.fsync(partial)", "pass", _CUTS),
    Mutant("fsync of the blobs' folder", "store.py", "self.disk.fsync_dir(BLOBS)", "pass", _CUTS),
    Mutant("fsync of a replaced file", "disk.py", "disk.fsync(temporary)", "pass", _CUTS),
    Mutant("fsync of its folder", "disk.py", 'disk.fsync_dir(path.rpartition("/")[0])', "pass", _DISK),
    Mutant("digest of a download", "store.py", "if self.disk.digest(partial) != blob.sha256:", "if False:", _STORE),
    Mutant("digest at every load", "store.py", "if found == blob.sha256:", "if found is not None:", _STORE),
    Mutant(
        "digest of a manifest",
        "store.py",
        " and codec.digest(data) == bundle else None",
        " else None",
        _STORE,
    ),
    Mutant("digest in the worker's start", "blobs.py", "found.hexdigest() != blob.sha256 or ", "", _RUNTIME),
    Mutant("size of a blob", "store.py", "!= blob.size_bytes]", "is None]", _STORE),
    Mutant("size of a download", "store.py", "return size if size <= blob.size_bytes else 0", "return size", _STORE),
    Mutant(
        "garbage collection spares the factory model",
        "store.py",
        "keep = keep | set(self.marked().values())",
        "pass",
        _STORE,
    ),
    Mutant(
        "signature of an assignment",
        "trust/signing.py",
        "if key is not None and _holds(",
        "if key is None or _holds(",
        _SIGNING,
    ),
    Mutant(
        "kind of a signed document", "trust/signing.py", "if found.payload_type != payload_type:", "if False:", _SIGNING
    ),
    Mutant("resume offset", "trust/transfer.py", 'startswith(f"bytes {offset}-")', 'startswith("bytes ")', _TRANSFER),
    Mutant("bound of an answer", "trust/transfer.py", "if received > max_bytes:", "if False:", _TRANSFER),
    Mutant(
        "device of an assignment",
        "acceptance.py",
        "if (assignment.tenant, assignment.device) != (tenant, device):",
        "if False:",
        _CORE,
    ),
    Mutant("sequence", "acceptance.py", "if assignment.sequence <= adopted:", "if False:", _CORE),
    Mutant("expiry", "acceptance.py", "if assignment.expires_s < now_s:", "if False:", _CORE),
    Mutant(
        "release that was promised",
        "acceptance.py",
        "if (manifest.model, manifest.version, manifest.release) != promised:",
        "if False:",
        _CORE,
    ),
    Mutant(
        "predicates",
        "acceptance.py",
        "variants = fit.fitting(manifest.variants, hardware)",
        "variants = manifest.variants",
        _CORE,
    ),
    Mutant("maintenance window", "acceptance.py", "return window is None or ", "return True or ", _CORE),
    Mutant(
        "clock that was set", "acceptance.py", "self._believed_from_s = monotonic_s + CLOCK_SETTLE_S", "pass", _CORE
    ),
    Mutant("release floor", "steps.py", "order.assigned.release < record.floor and", "False and", _MACHINE),
    Mutant("rise of the floor", "steps.py", "floor=max(record.floor, active.release)", "floor=record.floor", _MACHINE),
    Mutant("rollback", "steps.py", "idle(record), active=instead, ", "idle(record), ", _MACHINE),
    Mutant("golden vectors", "golden.py", "if not (a == b or ", "if not (True or ", ("tests/agent/test_golden.py",)),
    Mutant(
        "acknowledgement forgotten",
        "spool.py",
        "acks = sum(key in gone for key in dict.fromkeys(acked))",
        "acks = len(acked)",
        _SPOOL,
    ),
    Mutant(
        "sent again",
        "spool.py",
        "        self._sent = {}\n        self._unsent = True\n        return",
        "        return",
        _SPOOL,
    ),
    Mutant("quota of the spool", "spool.py", "if size > self._quota_bytes:", "if False:", _SPOOL),
    Mutant(
        "decided before it is durable",
        "deciding.py",
        "                return []\n            self.memory.owe",
        "                return told\n            self.memory.owe",
        ("tests/agent/test_core_storage.py", *_CORE),
    ),
    Mutant("NaN", "worker.py", "    if bad:", "    if False:", _RUNTIME),
    Mutant(
        "deadline of an inference",
        "deadline.py",
        "self._missed(self._given_s)",
        "pass",
        _RUNTIME,
    ),
    Mutant(
        "bound of a queue",
        "waiting.py",
        "if self._count >= self.bound:",
        "if False:",
        ("tests/agent/test_waiting.py", "tests/agent/test_overload.py"),
    ),
    Mutant(
        "clients take turns",
        "waiting.py",
        "self._turns.move_to_end(client)",
        "pass",
        ("tests/agent/test_waiting.py",),
    ),
    Mutant(
        "what lies behind a dying worker's inference",
        "process.py",
        "flight.tell(None if self._flights else self.dead)",
        "flight.tell(self.dead)",
        ("tests/agent/test_flights.py",),
    ),
    Mutant(
        "memory of a further worker",
        "room.py",
        "return not budget_bytes or taken_bytes + slot.instance_bytes() <= budget_bytes",
        "return True",
        ("tests/agent/test_instances.py",),
    ),
    Mutant("system call filter", "sandbox.py", "seccomp.install(lines)", "pass", ("tests/agent/test_sandbox.py",)),
    Mutant(
        "limits of a worker",
        "sandbox.py",
        "resource.setrlimit(kind, (value, value))",
        "pass",
        ("tests/agent/test_sandbox.py",),
    ),
)
