"""What kernels are made of, on every processor: the prelude against numpy, from random and extreme numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.compiler.network import isas
from tests.compiler.network.isas import ISAS, Isa

from skerry_compiler.engines.network.cost import PLAIN, machine_of
from skerry_compiler.engines.network.vectors import prelude
from skerry_targets import shelf

TRIALS = 48
Any32 = NDArray[Any]

# Each takes words from `in` and leaves words in `out`, for vectors of n lanes.
PROGRAM = """
static void trial_@(const int32_t *in, int32_t *out) {
  const uint8_t *const b = (const uint8_t *)in;
  const i32x@ a = loadi@(in), x = loadi@(in + @), w = loadi@(in + 2 * @), e = loadi@(in + 3 * @);
  const u8x# p = loadq#(b + #), q = loadq#(b + 2 * #);
  const f32x@ f = load@((const float *)in + 4 * @), g = load@((const float *)in + 5 * @);
  const f32x@ h = load@((const float *)in + 6 * @), odd = load@((const float *)in + 7 * @);
  const i32x@ near = loadi@(in + 8 * @), low = loadi@(in + 9 * @);
  const i32x@ ints[] = {dot@(a, x, w), sdot@(a, x, w), round@(h), whole@(odd), bytes@(b + 1), as_int@(madd@(f, g, h)),
    lo16_#(p, q), hi16_#(p, q)};
  const u8x# texts[] = {packlanes@(near, e, x, near + 77), pack@(near, e, x, near + 77),
    packlow@(low, low + 5, low, low), lo8_#(p, q), hi8_#(p, q), least#(p, 99), most#(p, 99), mostv#(p, q)};
  copy_bytes(out, ints, sizeof ints);
  copy_bytes(out + 8 * @, texts, sizeof texts);
  const int some = in[10 * @];
  fill_bytes(out + 16 * @, 0, 2 * #);
  partq#((uint8_t *)(out + 16 * @), p, some);
  part@((float *)(out + 17 * @), f, some / 4);
}
"""
WORDS_IN, WORDS_OUT = 11, 18  # vectors of each trial


def program(on: Isa) -> str:
    """Return C that runs every trial of every width."""
    widths = [n for n in (4, 8, 16) if n <= on.machine.lanes]
    parts = [prelude(on.machine), *(PROGRAM.replace("@", str(n)).replace("x#", f"x{4 * n}") for n in widths)]
    parts = [part.replace("_#", f"_{4 * n}") for part, n in zip(parts, [0, *widths], strict=True)]
    for i, n in enumerate(widths, 1):
        for name in ("loadq", "least", "most", "mostv", "partq"):
            parts[i] = parts[i].replace(f"{name}#", f"{name}{4 * n}")
        parts[i] = parts[i].replace("#", str(4 * n))
    calls = "".join(
        f"  for (int i = 0; i < {TRIALS}; i++)\n"
        f"    trial_{n}((const int32_t *)in[{k}] + i * {WORDS_IN * n}, (int32_t *)out[{k}] + i * {WORDS_OUT * n});\n"
        for k, n in enumerate(widths)
    )
    head = "int32_t skerry_run(const void *const *in, void *const *out) {\n"
    return "\n".join([*parts, f"{head}{calls}  return 0;\n}}\n"])


def numbers(n: int) -> Any32:
    """Return what the trials of one width take: int32[TRIALS, WORDS_IN, n]."""
    r = np.random.default_rng(n)
    given = np.zeros((TRIALS, WORDS_IN, n), np.int32)
    given[:, 0] = r.integers(-(1 << 22), 1 << 22, (TRIALS, n))
    given[:, 1] = r.integers(0, 256, (TRIALS, n * 4), np.uint8).view(np.int32)
    given[:, 2] = r.integers(-127, 128, (TRIALS, n * 4), np.int8).view(np.int32)
    given[0, 1], given[0, 2] = -1, 0x7F7F7F7F  # 255 * 127, four times
    given[1, 1], given[1, 2] = np.int32(-0x7F7F7F80), 0x7F7F7F7F  # -128 * 127 where signed
    given[2, 1], given[2, 2] = -1, np.int32(-0x7E7E7E7F)  # 255 * -127
    given[:, 3] = r.integers(-(1 << 31), (1 << 31) - 1, (TRIALS, n))
    given[:, 4] = (12582912 + r.integers(-(1 << 22), 1 << 22, (TRIALS, n))).astype(np.float32).view(np.int32)
    given[:, 5] = np.exp(r.uniform(-8, -2, (TRIALS, n))).astype(np.float32).view(np.int32)
    given[:, 6] = (r.integers(-4000, 4000, (TRIALS, n)) / np.float32(2)).astype(np.float32).view(np.int32)
    odd = r.uniform(-600, 600, (TRIALS, n)).astype(np.float32)
    odd[0, :4] = [np.nan, np.inf, 3e38, 65536.5]
    given[:, 7] = odd.view(np.int32)
    given[:, 8] = r.integers(-600, 600, (TRIALS, n))
    given[:, 9] = 0x4B400000 + r.integers(-30000, 30000, (TRIALS, n))
    given[:, 10, 0] = np.arange(TRIALS) % (4 * n + 2)
    return given


def zipped(p: Any32, q: Any32, size: int, high: bool) -> Any32:
    """Return halves of two vectors of bytes interleaved by 128-bit lane, elements of `size` bytes."""
    lanes = [v.reshape(TRIALS, -1, 2, 8 // size, size)[:, :, int(high)] for v in (p, q)]
    return np.stack(lanes, 3).reshape(TRIALS, -1)


def check(n: int, given: Any32, found: Any32) -> None:
    a, x, e = (given[:, i] for i in (0, 1, 3))
    f, g, h = (given[:, i].copy().view(np.float32) for i in (4, 5, 6))
    p, q = (given[:, i].copy().view(np.uint8) for i in (1, 2))
    xs, ws = p.reshape(TRIALS, n, 4), q.view(np.int8).reshape(TRIALS, n, 4).astype(np.int32)
    equal = np.testing.assert_array_equal
    equal(found[:, 0], a + (xs.astype(np.int32) * ws).sum(2), "dot")
    equal(found[:, 1], a + (xs.view(np.int8).astype(np.int32) * ws).sum(2), "sdot")
    equal(found[:, 2], np.rint(h).astype(np.int32), "round")
    odd = given[:, 7].copy().view(np.float32)
    equal(np.clip(found[:, 3], 0, 255), np.where(odd < 65535, np.clip(np.rint(odd), 0, 255), 255), "whole")
    equal(found[:, 4], given.reshape(TRIALS, -1).view(np.uint8)[:, 1 : n + 1], "bytes")
    exact = f.astype(np.longdouble) * g.astype(np.longdouble) + h.astype(np.longdouble)
    equal(found[:, 5].copy().view(np.float32), exact.astype(np.float32), "madd")
    equal(found[:, 6].copy().view(np.uint8), zipped(p, q, 2, False), "lo16")
    equal(found[:, 7].copy().view(np.uint8), zipped(p, q, 2, True), "hi16")
    near = given[:, 8]
    parts = [np.clip(v, 0, 255).astype(np.uint8) for v in (near, e, x, near + 77)]
    lanes = np.stack([v.reshape(TRIALS, n // 4, 4) for v in parts], 2).reshape(TRIALS, -1)
    low = given[:, 9] - 0x4B400000
    texts = [lanes, np.concatenate(parts, 1)]
    texts.append(np.concatenate([np.clip(v, 0, 255).astype(np.uint8) for v in (low, low + 5, low, low)], 1))
    texts += [zipped(p, q, 1, False), zipped(p, q, 1, True), np.minimum(p, 99), np.maximum(p, 99), np.maximum(p, q)]
    for i, name in enumerate(("packlanes", "pack", "packlow", "lo8", "hi8", "least", "most", "mostv")):
        equal(found[:, 8 + i].copy().view(np.uint8), texts[i], name)
    some = given[:, 10, :1]
    equal(found[:, 16].copy().view(np.uint8), np.where(np.arange(4 * n) < some, p, 0), "partq")
    equal(found[:, 17], np.where(np.arange(n) < some // 4, given[:, 4], 0), "part")


BARE = Isa("plain", PLAIN, isas.X86, "x86_64", flags=("sse2",))


@pytest.mark.parametrize("on", [*ISAS, BARE], ids=lambda each: each.id)
def test_the_prelude_computes_what_numpy_does(on: Isa, tmp_path: Any) -> None:
    if on.missing:
        pytest.skip(on.missing)
    widths = [n for n in (4, 8, 16) if n <= on.machine.lanes]
    given = [numbers(n) for n in widths]
    inputs = [each.view(np.float32) for each in given]
    shapes: list[tuple[int, ...]] = [(TRIALS, WORDS_OUT, n) for n in widths]
    found = isas.outputs(on, program(on), b"", inputs, shapes, tmp_path)
    for n, into, out in zip(widths, given, found, strict=True):
        check(n, into, out.view(np.int32))


def by_id(name: str) -> Isa:
    return next(each for each in ISAS if each.id == name)


WEAKER = [
    ("neon-dotprod", ("qemu-aarch64-static", "-cpu", "cortex-a53"), False),
    ("neon-i8mm", ("qemu-aarch64-static", "-cpu", "cortex-a76"), False),
    ("avx2", ("qemu-x86_64-static", "-cpu", "Nehalem"), False),
    ("ssse3", ("qemu-x86_64-static", "-cpu", "Nehalem"), True),
]


@pytest.mark.emulated
@pytest.mark.parametrize(("name", "command", "runs"), WEAKER)
def test_a_weaker_processor_cannot_run_the_stronger_code(name: Any, command: Any, runs: Any, tmp_path: Any) -> None:
    """What these tests prove rests on it: an emulator refuses instructions that its processor lacks."""
    on = dataclasses.replace(by_id(name), command=command)
    given = numbers(4).view(np.float32)
    shape = (TRIALS, WORDS_OUT, 4)
    narrow = dataclasses.replace(on, machine=dataclasses.replace(on.machine, lanes=4))
    if runs:
        (found,) = isas.outputs(narrow, program(narrow), b"", [given], [shape], tmp_path)
        check(4, numbers(4), found.view(np.int32))
    else:
        with pytest.raises(AssertionError, match=r"\(-4,|\(132,"):  # an illegal instruction
            isas.outputs(narrow, program(narrow), b"", [given], [shape], tmp_path)


def test_boards_get_what_their_processors_have() -> None:
    """By the features of the profile, which are also what a device must have to be offered the variant."""
    wanted = {"x86-64-v2": "SSSE3", "x86-64-v3": "AVX2", "x86-64-v4": "AVX-512", "arm64": "NEON"}
    wanted |= {"raspberry-pi-4": "NEON"}
    profiles = {each.id: each for each in shelf.load_all()}
    assert {name: machine_of(profiles[name]).name for name in wanted} == wanted
    board = profiles["arm64"]
    for feature, name in (("asimddp", "NEON with dot products"), ("i8mm", "NEON with mixed dot products")):
        cpu = dataclasses.replace(board.cpu, features=(*board.cpu.features, feature))
        assert machine_of(dataclasses.replace(board, cpu=cpu)).name == name
