"""An update by file, as a command: judge it, and lay it where the agent will take it up at its next start.

What is judged here is only told early. The running agent believes none of it: it asks the file what it would ask the
fleet, and verifies the same things in the same places (update repository, assignment, digests, predicates, floors).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from skerry_agent import acceptance, identity
from skerry_agent.carried import UPDATE
from skerry_agent.config import AgentConfig
from skerry_agent.disk import RealDisk
from skerry_agent.errors import StorageError, TrustError
from skerry_agent.ledger import SqliteLedger
from skerry_agent.memory import Memory
from skerry_agent.spool import Spool
from skerry_agent.this_device import lock
from skerry_agent.trust import signing
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment
from skerry_contracts.carried_update import CHUNK_BYTES, CarriedUpdate
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError

MAGIC = b'{"assignment":'  # how canonical JSON with these fields begins


def is_update(file: Path) -> bool:
    """Say whether a file claims to be an update."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def carry_update_in(config: AgentConfig, file: Path, wall_s: float) -> Assignment:
    """Check an update file and put it into the agent's folder, durably; returns the assignment in it.

    Raises:
        ConfigError: the device is not enrolled, or an agent runs in this root.
        TrustError: UNSIGNED, WRONG_DEVICE, REPLAYED, EXPIRED or CORRUPT.
        StorageError: the file cannot be read, or there is no space.
    """
    disk = RealDisk(config.root)
    enrolment, trust = identity.load(disk).enrolment, identity.load_trust(disk)
    held = lock(config.root)
    try:
        with file.open("rb") as opened:
            update = CarriedUpdate(opened)
            payload = signing.verify_assignment(update.assignment, trust.director_keys_pem)
            assignment = codec.decode(Assignment, payload)
            adopted, now_s = _known(config, disk, wall_s)
            # The adopted one again is fine: perhaps its download never came to an end.
            acceptance.check_assignment(
                assignment, tenant=enrolment.tenant, device=enrolment.device, adopted=adopted - 1, now_s=now_s
            )
            _check(update)
            _put(config, disk, opened.fileno())
            return assignment
    except ContractError as error:
        raise TrustError(f"{file}: {error}", reason=Reason.CORRUPT, hint=error.hint or "copy the file again") from error
    except TrustError as error:
        hint = error.hint or "ask the fleet again: skerry fleet device carry-out DEVICE -o UPDATE"
        raise TrustError(f"{file}: {error}", reason=error.reason, hint=hint) from error
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}", hint="check the path, and the space on the disk") from error
    finally:
        os.close(held)


def _known(config: AgentConfig, disk: RealDisk, wall_s: float) -> tuple[int, float]:
    """Return the adopted sequence and the trusted time."""
    ledger = SqliteLedger(config.root / "state.db", disk)
    try:
        quota, window, redeliver_s = config.spool_quota_bytes, config.spool_in_flight, config.redeliver_s
        spool = Spool(ledger, quota_bytes=quota, in_flight=window, redeliver_s=redeliver_s)
        memory = Memory(ledger, spool, config)
        memory.load()
        return memory.sequence, memory.trusted_s(wall_s)
    finally:
        ledger.close()


def _check(update: CarriedUpdate) -> None:
    """Compare everything that is named by its digest with its name."""
    for path in update.paths():
        if path.startswith("/tuf/metadata/"):
            continue
        running = hashlib.sha256()
        for piece in update.read(path):
            running.update(piece)
        if running.hexdigest() != path.rpartition("/")[2].partition(".")[0]:
            raise TrustError(f"{path[:40]} is damaged", reason=Reason.CORRUPT, hint="copy the file again")


def _put(config: AgentConfig, disk: RealDisk, source: int) -> None:
    """Copy the file into the agent's folder, whole or not at all; what lay there before is replaced."""
    size, arriving = os.fstat(source).st_size, config.root / f"{UPDATE}.part"
    if size > disk.free_bytes() - config.reserve_free_bytes:
        raise StorageError(f"{size} bytes needed for the file", reason=Reason.NO_SPACE, hint="free some space")
    try:
        with arriving.open("wb") as out:
            os.lseek(source, 0, os.SEEK_SET)
            while piece := os.read(source, CHUNK_BYTES):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        arriving.replace(config.root / UPDATE)
        disk.fsync_dir("")
    finally:
        arriving.unlink(missing_ok=True)
