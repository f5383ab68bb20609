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
        registers: vector registers; where there are none, how many groups of `lanes` numbers the others hold.
        family: whose instructions the prelude uses: x86, arm, wasm or plain.
        signed_dot: the dot product of four bytes takes signed activations instead of unsigned ones.
        dot_registers: registers left for blocks of bytes, where dot products need some themselves; 0 for all.
        halves: it multiplies pairs of bfloat16 and adds them to float32.
        folds_loads: instructions take one operand from memory, so that weights need no register of their own.
        l1_bytes, l1_ways: the first data cache and how many lines share a place in it.
        l2_bytes: the second one.
        threads: how many may share one inference.
        compact: code is dearer than calls: layers of one form share it.
    """

    name: str
    lanes: int
    registers: int
    family: str = "x86"
    signed_dot: bool = False
    dot_registers: int = 0
    halves: bool = False
    folds_loads: bool = True
    l1_bytes: int = 32 << 10
    l1_ways: int = 8
    l2_bytes: int = 512 << 10
    threads: int = 1
    compact: bool = False

    @property
    def dot(self) -> str:
        """The prelude's dot product of bytes, without its width."""
        return "sdot" if self.signed_dot else "dot"


AVX512 = Machine("AVX-512", 16, 32, l2_bytes=1 << 20)
AVX2 = Machine("AVX2", 8, 16)
SSE = Machine("SSSE3", 4, 16, signed_dot=True, dot_registers=11)
SSE2 = Machine("SSE2", 4, 16)
NEON = Machine("NEON", 4, 32, "arm", signed_dot=True, folds_loads=False, l1_ways=4)
NEON_DOT = Machine("NEON with dot products", 4, 32, "arm", signed_dot=True, folds_loads=False, l1_ways=4)
NEON_I8MM = Machine("NEON with mixed dot products", 4, 32, "arm", folds_loads=False, l1_ways=4)
NEON_32 = Machine("32-bit NEON", 4, 16, "arm", signed_dot=True, dot_registers=12, folds_loads=False)
HELIUM = Machine("Helium", 4, 8, "arm", signed_dot=True, dot_registers=6, folds_loads=False)
CORTEX_M = Machine("Cortex-M with DSP", 4, 6, "arm", dot_registers=3, folds_loads=False)
WASM = Machine("WebAssembly SIMD", 4, 16, "wasm", folds_loads=False)
PLAIN = Machine("plain C", 4, 7, "plain", dot_registers=3, folds_loads=False)


def machine_of(profile: Profile, threads: int = 1) -> Machine:
    """Return what the generator must know of a board of which one inference takes some threads."""
    return dataclasses.replace(_machine_of(profile), threads=threads, compact=profile.abi.os == "none")


def _machine_of(profile: Profile) -> Machine:
    features = set(profile.cpu.features)
    if profile.abi.machine == "aarch64":
        found = NEON_I8MM if "i8mm" in features else NEON_DOT if "asimddp" in features else NEON
        return dataclasses.replace(found, halves="bf16" in features)
    if profile.abi.machine != "x86_64" or not profile.cpu.vector_bits:
        needed = ((NEON_32, "armv7l", "neon"), (HELIUM, "thumb", "mve.fp"), (CORTEX_M, "thumb", "dsp"))
        for found, machine, feature in (*needed, (WASM, "wasm32", "simd128")):
            if profile.abi.machine == machine and feature in features:
                return found
        return PLAIN
    if profile.cpu.vector_bits == 512:
        return dataclasses.replace(AVX512, halves="avx512_bf16" in features)
    return AVX2 if profile.cpu.vector_bits == 256 else SSE if "ssse3" in features else SSE2


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A register block: rows x columns of pixels by `vectors` of channels."""

    rows: int
    columns: int
    vectors: int


def best_block(
    h: int, w: int, vectors: int, steps: int, machine: Machine, pitch_bytes: int = 0, dots: bool = False
) -> Block:
    """Return the block of least estimated cycles.

    The model: two multiply-adds and two loads a cycle, four cycles of latency, a few instructions to start and finish
    each accumulator, and what pixels cost that push each other out of the first cache.

    Args:
        h, w: pixels.
        vectors: vectors of output channels.
        steps: multiply-adds that each accumulator gets.
        machine: what runs it.
        pitch_bytes: from the source of one pixel to that of the next.
        dots: the multiply-adds are dot products of bytes.
    """
    best: tuple[float, Block] | None = None
    registers = (machine.dot_registers or machine.registers) if dots else machine.registers
    for nr in (n for n in range(1, min(vectors, 8) + 1) if vectors % n == 0):
        for columns in range(1, min(w, 28) + 1):
            for rows in (1,) if columns < w else [r for r in range(1, min(h, 28) + 1) if h % r == 0]:
                pixels = rows * columns
                spare = (nr + 1 if pixels > 1 and nr > 1 else 1) + (1 if machine.lanes == 16 else 0)
                if pixels * nr + spare > registers:
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
