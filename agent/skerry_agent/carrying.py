"""Telemetry by file, for a device that no network reaches: what waits is handed out, and stays until an answer says
that the fleet has it.

Handing out changes nothing on the device, so it may be done while the agent runs and as often as one likes: the fleet
counts a message once for each (device, boot, seq), whichever way it came.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from skerry_agent import identity
from skerry_agent.config import AgentConfig
from skerry_agent.disk import RealDisk
from skerry_agent.errors import ConfigError, StorageError, TrustError
from skerry_agent.ledger import SqliteLedger
from skerry_agent.memory import Memory
from skerry_agent.spool import Spool
from skerry_agent.this_device import lock
from skerry_agent.trust import signing
from skerry_agent.trust.enrol import private_key
from skerry_agent.work import Work
from skerry_contracts import codec
from skerry_contracts.carried import (
    CARRIED_ACK_TYPE,
    CARRIED_TYPE,
    MESSAGE_BYTES,
    PART_BYTES,
    Carried,
    CarriedAck,
    CarriedMessage,
    read_lines,
)
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError

LEDGER = "state.db"


def carry_out(root: Path, file: Path) -> int:
    """Write everything that waits in the spool to a file, signed with the device's key; returns how many messages.

    The file appears whole or not at all, readable to its owner alone: samples are what the device saw. Where nothing
    waits, none is written.

    Raises:
        ConfigError: the device is not enrolled.
        StorageError: the ledger cannot be read, or the file cannot be written.
    """
    disk = RealDisk(root)
    enrolment = identity.load(disk).enrolment
    key = private_key(disk.read(identity.CREDENTIALS) or b"", identity.CREDENTIALS)
    count = 0
    arriving = file.with_name(f"{file.name}.part")
    try:
        arriving.unlink(missing_ok=True)
        with os.fdopen(os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            for part, (messages, last) in enumerate(_parts(_spooled(root / LEDGER))):
                said = Carried(enrolment.tenant, enrolment.device, part, last, messages)
                out.write(codec.encode(signing.sign(CARRIED_TYPE, codec.encode(said), key)) + b"\n")
                count += len(messages)
            out.flush()
            os.fsync(out.fileno())
        if count:
            arriving.replace(file)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}", hint="give a path that this user may write") from error
    finally:
        arriving.unlink(missing_ok=True)
    return count


@dataclasses.dataclass(frozen=True, slots=True)
class Forgotten:
    """What an answer came to: messages that the device may forget now, and those that still wait."""

    removed: int
    waiting: int


def carry_in(config: AgentConfig, file: Path) -> Forgotten:
    """Forget what the fleet's answer says it has. All of the file is verified before any of it counts.

    Raises:
        ConfigError: the device is not enrolled, or an agent runs in this root.
        TrustError: UNSIGNED (not the director's word, or damaged) or WRONG_DEVICE.
        StorageError: the file cannot be read, or the ledger cannot be written.
    """
    disk = RealDisk(config.root)
    enrolment, trust = identity.load(disk).enrolment, identity.load_trust(disk)
    acked = []
    try:
        with file.open("rb") as opened:
            for line, told in read_lines(opened):
                if isinstance(told, Carried):
                    hint = "import it with skerry fleet device carry-in, and bring its answer here"
                    raise ConfigError(f"{file} is what a device handed out, not an answer", hint=hint)
                signing.verify_director(line, CARRIED_ACK_TYPE, trust.director_keys_pem)
                acked += _acked(told, enrolment.tenant, enrolment.device)
    except ContractError as error:
        hint = error.hint or "give what skerry fleet device carry-in wrote"
        raise TrustError(f"{file}: {error}", reason=Reason.UNSIGNED, hint=hint) from error
    except TrustError as error:
        hint = error.hint or "import the device's file again, and bring the new answer"
        raise TrustError(f"{file}: {error}", reason=error.reason, hint=hint) from error
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}", hint="give the path of the fleet's answer") from error
    held = lock(config.root)
    try:
        return _forget(config, disk, acked)
    finally:
        os.close(held)


def _acked(told: CarriedAck, tenant: str, device: str) -> list[tuple[str, int]]:
    if (told.tenant, told.device) != (tenant, device):
        said = f"an answer to {told.tenant}/{told.device}, and this is {tenant}/{device}"
        raise TrustError(said, reason=Reason.WRONG_DEVICE, hint="carry it to that device")
    return [(each.boot_id, seq) for each in told.received for seq in each.seqs]


def _forget(config: AgentConfig, disk: RealDisk, acked: list[tuple[str, int]]) -> Forgotten:
    """Take the acknowledgements as the running agent takes those of the link: one transaction, counted."""
    ledger = SqliteLedger(config.root / LEDGER, disk)
    try:
        spool = Spool(
            ledger,
            quota_bytes=config.spool_quota_bytes,
            in_flight=config.spool_in_flight,
            redeliver_s=config.redeliver_s,
        )
        memory = Memory(ledger, spool, config)
        memory.load()
        before = spool.health.acked
        memory.acknowledge(acked, 0.0)
        memory.commit(Work())
        return Forgotten(spool.health.acked - before, spool.health.waiting)
    finally:
        ledger.close()


def _spooled(path: Path) -> Iterator[CarriedMessage]:
    """Yield what waits, in the order it was made, from one moment's view of a ledger that may be in use."""
    if not path.exists():
        return
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            for channel, payload in db.execute("SELECT channel, payload FROM spool ORDER BY number"):
                yield CarriedMessage(channel, bytes(payload))
        finally:
            db.close()
    except sqlite3.Error as error:
        raise StorageError(f"ledger: {error}", hint="skerry agent doctor") from error


def _parts(messages: Iterable[CarriedMessage]) -> Iterator[tuple[tuple[CarriedMessage, ...], bool]]:
    """Yield the messages in parts that fit one request each, and whether a part is the last."""
    held: list[CarriedMessage] = []
    size = 0
    for message in messages:
        cost = len(message.payload) + MESSAGE_BYTES
        if held and size + cost > PART_BYTES:
            yield tuple(held), False
            held, size = [], 0
        held.append(message)
        size += cost
    if held:
        yield tuple(held), True
