"""What the generator must know of a processor, and how it sizes register blocks for it."""

from __future__ import annotations

import dataclasses
import math

from skerry_targets.profile import Profile

LINE_BYTES = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """A processor to generate for.

    Attributes:
        name: For comments.
        lanes: float32 lanes of one vector register (16, 8 or 4).
        registers: vector registers.
        signed_dot: the dot product of four bytes takes signed activations (ARM's SDOT) instead of unsigned ones.
        folds_loads: instructions take one operand from memory, so that weights need no register of their own.
        l1_bytes, l1_ways: the first data cache and how many lines share a place in it.
        l2_bytes: the second one.
    """

    name: str
    lanes: int
    registers: int
    signed_dot: bool = False
    folds_loads: bool = True
    l1_bytes: int = 32 << 10
    l1_ways: int = 8
    l2_bytes: int = 512 << 10


AVX512 = Machine("AVX-512", 16, 32, l2_bytes=1 << 20)
AVX2 = Machine("AVX2", 8, 16)
SSE = Machine("SSE", 4, 16)
NEON = Machine("NEON", 4, 32, folds_loads=False, l1_ways=4)
NEON_DOT = Machine("NEON with dot products", 4, 32, signed_dot=True, folds_loads=False, l1_ways=4)


def machine_of(profile: Profile) -> Machine:
    """Return what the generator must know of a board."""
    cpu = profile.cpu
    if profile.abi.machine == "aarch64":
        return NEON_DOT if "asimddp" in cpu.features else NEON
    return {512: AVX512, 256: AVX2}.get(cpu.vector_bits, SSE)


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A register block: rows x columns of pixels by `vectors` of channels."""

    rows: int
    columns: int
    vectors: int


def best_block(h: int, w: int, vectors: int, steps: int, machine: Machine, pitch_bytes: int = 0) -> Block:
    """Return the block of least estimated cycles.

    The model: two multiply-adds and two loads a cycle, four cycles of latency, a few instructions to start and finish
    each accumulator, and what pixels cost that push each other out of the first cache.

    Args:
        h, w: pixels.
        vectors: vectors of output channels.
        steps: multiply-adds that each accumulator gets.
        machine: what runs it.
        pitch_bytes: from the source of one pixel to that of the next.
    """
    best: tuple[float, Block] | None = None
    for nr in (n for n in range(1, min(vectors, 8) + 1) if vectors % n == 0):
        for columns in range(1, min(w, 28) + 1):
            for rows in (1,) if columns < w else [r for r in range(1, min(h, 28) + 1) if h % r == 0]:
                pixels = rows * columns
                spare = (nr + 1 if pixels > 1 and nr > 1 else 1) + (1 if machine.lanes == 16 else 0)
                if pixels * nr + spare > machine.registers:
                    continue
                full, rest = divmod(w, columns)
                misses = steps * crowding(pixels, pitch_bytes, machine)
                cycles = full * (block_cycles(pixels, nr, steps) + misses)
                cycles += block_cycles(rest * rows, nr, steps) if rest else 0
                total = cycles * (h // rows) * (vectors // nr)
                if best is None or total < best[0]:
                    best = (total, Block(rows, columns, nr))
    return best[1] if best else Block(1, 1, 1)


def crowding(pixels: int, pitch_bytes: int, machine: Machine) -> float:
    """Return the estimated cycles lost in each step because pixels a power of two apart share places in the first
    cache: a line is then fetched anew (about 16 cycles) for every 16 steps of each pixel.
    """
    way = machine.l1_bytes // machine.l1_ways
    apart = math.gcd(pitch_bytes, way)
    places = way // max(apart, LINE_BYTES)
    return float(pixels) if -(-pixels // places) > machine.l1_ways - 2 else 0.0


def block_cycles(pixels: int, vectors: int, steps: int) -> float:
    """Return the estimated cycles of one block."""
    accumulators = pixels * vectors
    chains = max(1, min(4, 8 // accumulators))
    step = max(accumulators / 2, (pixels + vectors) / 2, 4 / chains)
    return steps * step + 2 * accumulators + 10
