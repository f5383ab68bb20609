"""The C prelude: vector types of the width the network was generated for, and what kernels are made of.

Everything exists in plain GCC/Clang vector extensions; intrinsics replace what compilers do badly (minimum, byte
conversion, dot products of bytes, saturating packs). They are chosen by what the C compiler was told of the processor,
so a library never holds an instruction that its target lacks, and every choice computes the same. `@` in a text stands
for lanes, `#` for 4 x lanes bytes.
"""

from __future__ import annotations

import re

from skerry_compiler.engines.native.build import ROUNDED
from skerry_compiler.engines.network import vectors_arm, vectors_x86
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.vector_math import EXACT, FOLDS, LOOKUP, MATH
from skerry_compiler.engines.network.vectors_plain import PACK, PLAIN

BYTES = re.compile(r"#(?!if|define|undef|endif|else|elif|include)")
INCLUDES = {
    "x86": "#if defined(__x86_64__)\n#include <immintrin.h>\n#define HAVE_X86\n#endif",
    "arm": (
        "#if defined(__ARM_NEON)\n#include <arm_neon.h>\n#elif defined(__ARM_FEATURE_MVE)\n#include <arm_mve.h>\n"
        "#elif defined(__ARM_FEATURE_SIMD32)\n#include <arm_acle.h>\n#endif"
    ),
    "wasm": "#if defined(__wasm_simd128__)\n#include <wasm_simd128.h>\n#endif",
    "plain": "/* plain vector extensions: the compiler makes of them what the processor has */",
}

HEAD = """\
#include <stdint.h>
$include
#define INLINE static inline __attribute__((always_inline, unused))
#define copy_bytes __builtin_memcpy
#define fill_bytes __builtin_memset
/* The compiler may call these; there is no C library to have them from. */
typedef uint8_t chunk __attribute__((vector_size(32), aligned(1), may_alias));
#define HIDDEN __attribute__((visibility("hidden"), used, noinline))
HIDDEN void *memcpy(void *restrict to, const void *restrict from, __SIZE_TYPE__ n) {
  uint8_t *t = to;
  const uint8_t *f = from;
  for (; n >= 32; n -= 32, t += 32, f += 32) *(chunk *)t = *(const chunk *)f;
  for (; n; n--) *t++ = *f++;
  return to;
}
HIDDEN void *memmove(void *to, const void *from, __SIZE_TYPE__ n) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if (t <= f) for (__SIZE_TYPE__ i = 0; i < n; i++) t[i] = f[i];
  else for (; n; n--) t[n - 1] = f[n - 1];
  return to;
}
HIDDEN void *memset(void *to, int value, __SIZE_TYPE__ n) {
  uint8_t *t = to;
  for (; n >= 32; n -= 32, t += 32) *(chunk *)t = (uint8_t)value - (chunk){};
  for (; n; n--) *t++ = (uint8_t)value;
  return to;
}
"""
# What bare ARM compilers call instead; a firmware's own win.
EABI = """\
#if defined(__ARM_EABI__) && !defined(__linux__)
#define SPARE __attribute__((weak, used, noinline))
#define MEMORY(n) \\
  SPARE void __aeabi_memcpy##n(void *to, const void *from, __SIZE_TYPE__ size) { memcpy(to, from, size); } \\
  SPARE void __aeabi_memmove##n(void *to, const void *from, __SIZE_TYPE__ size) { memmove(to, from, size); } \\
  SPARE void __aeabi_memset##n(void *to, __SIZE_TYPE__ size, int value) { memset(to, value, size); } \\
  SPARE void __aeabi_memclr##n(void *to, __SIZE_TYPE__ size) { memset(to, 0, size); }
MEMORY() MEMORY(4) MEMORY(8)
#endif
"""

TYPES = """
typedef float f32x@ __attribute__((vector_size(#)));
typedef int32_t i32x@ __attribute__((vector_size(#)));
typedef uint32_t u32x@ __attribute__((vector_size(#)));
typedef uint8_t u8x# __attribute__((vector_size(#)));
typedef uint8_t u8x@ __attribute__((vector_size(@)));
INLINE f32x@ load@(const float *p) { f32x@ v; copy_bytes(&v, p, #); return v; }
INLINE i32x@ loadi@(const void *p) { i32x@ v; copy_bytes(&v, p, #); return v; }
INLINE void store@(float *p, f32x@ v) { copy_bytes(p, &v, #); }
INLINE f32x@ all@(float v) { return v - (f32x@){}; }
INLINE i32x@ word@(const uint8_t *p) { int32_t v; copy_bytes(&v, p, 4); return v - (i32x@){}; }
INLINE f32x@ real@(i32x@ v) { return __builtin_convertvector(v, f32x@); }
INLINE f32x@ as_real@(i32x@ v) { return (f32x@)v; }
INLINE i32x@ as_int@(f32x@ v) { return (i32x@)v; }
INLINE f32x@ select@(i32x@ m, f32x@ a, f32x@ b) { return (f32x@)(((i32x@)a & m) | ((i32x@)b & ~m)); }
"""


def prelude(machine: Machine, exact: bool = False) -> str:
    """Return the prelude for kernels of a machine's width and all narrower ones; `exact`: with functions that give the
    same bits on every processor.
    """
    family, functions = machine.family, MATH
    for old, new in EXACT.items() if exact else ():
        functions = functions.replace(old, new)
    parts = [
        f"{ROUNDED}\n" if exact else "",
        HEAD.replace("$include", INCLUDES[family]),
        EABI if family in ("arm", "plain") else "",
    ]
    for n in (n for n in (4, 8, 16) if n <= machine.lanes):
        texts = [TYPES, *_special(n, family), PLAIN, "typedef int16_t i16x$twice __attribute__((vector_size(#)));\n"]
        texts += [vectors_x86.PACKLOW if family == "x86" else "", PACK, FOLDS[n], functions]
        parts.append(BYTES.sub(str(4 * n), _filled("".join(texts), n)))
    return "".join(parts) + (LOOKUP if machine.lanes == 16 else "")


def _special(n: int, family: str) -> list[str]:
    """Return the texts of one width that hold a family's instructions."""
    if family == "x86":
        return [vectors_x86.X86, vectors_x86.DOTS]
    if n > 4:
        return []
    return {"arm": [vectors_arm.NEON, vectors_arm.CORTEX_M], "wasm": [vectors_arm.WASM]}.get(family, [])


def _filled(text: str, n: int) -> str:
    """Return a text with its placeholders but `#` filled in for n lanes."""
    bits = {16: "512", 8: "256", 4: ""}[n]
    low = [2 * (4 * lane + i) + 2 * n * side for lane in range(n // 4) for side in (0, 1) for i in range(4)]
    lists = {
        "$order": [lane * 4 + vector for vector in range(4) for lane in range(n // 4)],
        "$pairs": low,
        "$low8": _zip(n, 1, 0),
        "$high8": _zip(n, 1, 8),
        "$low16": _zip(n, 2, 0),
        "$high16": _zip(n, 2, 8),
    }
    for name, numbers in lists.items():
        text = text.replace(name, ", ".join(map(str, numbers)))
    text = text.replace("$twice", str(2 * n)).replace("$wide", vectors_x86.WIDE[n])
    return text.replace("__m$b", f"__m{bits or '128'}").replace("_mm$b_", f"_mm{bits}_").replace("@", str(n))


def _zip(n: int, size: int, start: int) -> list[int]:
    """Return the order that interleaves half of two vectors, elements of this many bytes, by 128-bit lane."""
    return [
        (i // size % 2) * 4 * n + lane + start + i // (2 * size) * size + i % size
        for lane in range(0, 4 * n, 16)
        for i in range(16)
    ]
