"""The update that came by file and lies in the agent's folder until it is installed; the running agent's part of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from skerry_agent.disk import Disk
from skerry_agent.errors import StorageError
from skerry_agent.memory import Memory
from skerry_agent.records import Stage
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment, Envelope
from skerry_contracts.carried_update import CarriedUpdate
from skerry_contracts.errors import ContractError

UPDATE = "carried.update"


def assignment(root: Path, disk: Disk, memory: Memory) -> bytes | None:
    """Return the envelope of the assignment in the file, unverified; None where there is no file. One that is installed
    already, or that cannot be read, is removed: it only takes up space. So is one whose copying was cut off.
    """
    _remove(disk, f"{UPDATE}.part")
    try:
        with (root / UPDATE).open("rb") as file:
            envelope = CarriedUpdate(file).assignment
        sequence = codec.decode(Assignment, codec.decode(Envelope, envelope).payload).sequence
    except FileNotFoundError:
        return None
    except (OSError, ContractError):
        _remove(disk, UPDATE)
        return None
    busy = any(each.stage is not Stage.IDLE or each.retry_at_s is not None for each in memory.records.values())
    if sequence > memory.sequence or (sequence == memory.sequence and busy):
        return envelope
    _remove(disk, UPDATE)
    return None


def _remove(disk: Disk, path: str) -> None:
    """Remove a file; a disk that does not let us must not keep the agent from serving."""
    with contextlib.suppress(StorageError):
        disk.unlink(path)
