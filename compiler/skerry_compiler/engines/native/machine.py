"""What generated code may count on: vector width, registers, and how its compiler is called."""

from __future__ import annotations

import dataclasses

from skerry_targets.profile import Profile

_GENERAL_REGISTERS = {"x86_64": 16, "aarch64": 31, "riscv64": 31, "i686": 8}


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """The processor as the emitters see it. `lanes`: float32 elements of one vector register; 1 means no vectors."""

    lanes: int
    vector_registers: int
    general_registers: int
    vector_bits: int
    triple: str
    cpu: str

    @classmethod
    def of(cls, profile: Profile) -> Machine:
        """Return the machine that a target's profile describes."""
        return cls(
            lanes=max(1, profile.cpu.vector_bits // 32),
            vector_registers=profile.cpu.vector_registers or 8,
            general_registers=_GENERAL_REGISTERS.get(profile.abi.machine, 16),
            vector_bits=profile.cpu.vector_bits,
            triple=profile.toolchain.triple,
            cpu=profile.cpu.compiler,
        )
