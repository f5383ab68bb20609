"""Which board of the catalogue would do where another does not: for words that tell a person the next step."""

from __future__ import annotations

from skerry_targets import shelf
from skerry_targets.profile import Profile


def roomier(profile: Profile, artifact_bytes: int, memory_bytes: int) -> Profile | None:
    """Return the board nearest to a profile with room for a model of so many bytes: of its family where there is one
    (the processor most like its own, then the least room), else the smallest with Linux; None: none has room.
    """
    others = [
        each
        for each in shelf.load_all()
        if each.budget.artifact_bytes >= artifact_bytes
        and each.budget.memory_bytes >= memory_bytes
        and (each.family == profile.family or (each.abi.os == "linux" and each.gpu is None))
        and each.id != profile.id
    ]

    def apart(other: Profile) -> tuple[bool, bool, int, int, int, str]:
        strange = other.family != profile.family
        floats = not strange and other.abi.float_abi != profile.abi.float_abi
        differs = 0 if strange else len(set(other.cpu.features) ^ set(profile.cpu.features))
        return strange, floats, differs, other.budget.artifact_bytes, other.budget.memory_bytes, other.id

    return min(others, key=apart, default=None)


def with_room(profile: Profile, artifact_bytes: int, memory_bytes: int) -> str:
    """Return in words which board has room for a model that a profile has none for."""
    found = roomier(profile, artifact_bytes, memory_bytes)
    if found is None:
        return "no board of the catalogue has room for it"
    budget = found.budget
    return (
        f"{found.id} is the nearest with room: {kilobytes(budget.artifact_bytes)} and {kilobytes(budget.memory_bytes)}"
    )


def kilobytes(size_bytes: int) -> str:
    """Return a size as a person reads it, in units of 1024."""
    return f"{size_bytes / 1024:.1f} kB" if size_bytes < 10 << 20 else f"{size_bytes / (1 << 20):.0f} MB"
