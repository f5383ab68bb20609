"""The C prelude: vector types of the width the network was generated for, and what kernels are made of.

Everything exists in plain GCC/Clang vector extensions; intrinsics replace what compilers do badly (minimum, byte
conversion, dot products of bytes, saturating packs). `@` in a text stands for lanes, `#` for 4 x lanes bytes.
"""

from __future__ import annotations

import re

from skerry_compiler.engines.network.vector_math import FOLDS, LOOKUP, MATH

BYTES = re.compile(r"#(?!if|define|endif|else|elif|include)")

HEAD = """\
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
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

# AVX-512 with byte instructions, at all three widths.
AVX512 = """
#if defined(__AVX512VL__) && defined(__AVX512BW__)
#define HAVE@
INLINE f32x@ max@(f32x@ a, f32x@ b) { return (f32x@)_mm$b_max_ps((__m$b)a, (__m$b)b); }
INLINE f32x@ min@(f32x@ a, f32x@ b) { return (f32x@)_mm$b_min_ps((__m$b)a, (__m$b)b); }
INLINE f32x@ sqrt@(f32x@ a) { return (f32x@)_mm$b_sqrt_ps((__m$b)a); }
INLINE void part@(float *p, f32x@ v, int n) {
  _mm$b_mask_storeu_ps(p, n >= @ ? (1u << @) - 1 : (1u << n) - 1, (__m$b)v);
}
INLINE i32x@ bytes@(const uint8_t *p) {
  __m128i v = _mm_setzero_si128();
  copy_bytes(&v, p, @);
  return (i32x@)_mm$b_cvtepu8_epi32(v);
}
INLINE i32x@ round@(f32x@ v) { return (i32x@)_mm$b_cvtps_epi32((__m$b)v); }
INLINE u8x# least#(u8x# a, int b) { return (u8x#)_mm$b_min_epu8((__m$bi)a, _mm$b_set1_epi8((char)b)); }
INLINE u8x# most#(u8x# a, int b) { return (u8x#)_mm$b_max_epu8((__m$bi)a, _mm$b_set1_epi8((char)b)); }
INLINE u8x# mostv#(u8x# a, u8x# b) { return (u8x#)_mm$b_max_epu8((__m$bi)a, (__m$bi)b); }
INLINE void partq#(uint8_t *p, u8x# v, int n) {
  _mm$b_mask_storeu_epi8(p, n >= # ? ~0ull >> (64 - #) : (1ull << n) - 1, (__m$bi)v);
}
/* saturated bytes, the four vectors interleaved by 128-bit lane */
INLINE u8x# packlanes@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  return (u8x#)_mm$b_packus_epi16(_mm$b_packs_epi32((__m$bi)a, (__m$bi)b), _mm$b_packs_epi32((__m$bi)c, (__m$bi)d));
}
INLINE u8x# lo8_#(u8x# a, u8x# b) { return (u8x#)_mm$b_unpacklo_epi8((__m$bi)a, (__m$bi)b); }
INLINE u8x# hi8_#(u8x# a, u8x# b) { return (u8x#)_mm$b_unpackhi_epi8((__m$bi)a, (__m$bi)b); }
INLINE i32x@ lo16_#(u8x# a, u8x# b) { return (i32x@)_mm$b_unpacklo_epi16((__m$bi)a, (__m$bi)b); }
INLINE i32x@ hi16_#(u8x# a, u8x# b) { return (i32x@)_mm$b_unpackhi_epi16((__m$bi)a, (__m$bi)b); }
#endif
#if defined(__AVX512VL__) && defined(__AVX512VNNI__)
#define DOT@
INLINE i32x@ dot@(i32x@ a, i32x@ x, i32x@ w) { return (i32x@)_mm$b_dpbusd_epi32((__m$bi)a, (__m$bi)x, (__m$bi)w); }
#endif
"""

NEON = """
#if defined(__ARM_NEON) && defined(__aarch64__)
#define HAVE_MINMAX4
INLINE f32x4 max4(f32x4 a, f32x4 b) { return (f32x4)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE f32x4 min4(f32x4 a, f32x4 b) { return (f32x4)vminq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE f32x4 sqrt4(f32x4 a) { return (f32x4)vsqrtq_f32((float32x4_t)a); }
#endif
#if defined(__ARM_FEATURE_DOTPROD)
#define DOT4
INLINE i32x4 dot4(i32x4 a, i32x4 x, i32x4 w) { return (i32x4)vdotq_s32((int32x4_t)a, (int8x16_t)x, (int8x16_t)w); }
#endif
"""

AVX2 = """
#if !defined(HAVE@) && @ == 8 && defined(__AVX2__)
#define HAVE_MINMAX8
INLINE f32x8 max8(f32x8 a, f32x8 b) { return (f32x8)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE f32x8 min8(f32x8 a, f32x8 b) { return (f32x8)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE f32x8 sqrt8(f32x8 a) { return (f32x8)_mm256_sqrt_ps((__m256)a); }
#endif
#if !defined(DOT@) && @ == 8 && defined(__AVX2__)
#define DOT8
INLINE i32x8 dot8(i32x8 a, i32x8 x, i32x8 w) { /* even and odd bytes as 16-bit pairs: exact, unlike maddubs */
  __m256i m = _mm256_set1_epi32(0x00ff00ff), xe = _mm256_and_si256((__m256i)x, m);
  __m256i xo = _mm256_and_si256(_mm256_srli_epi32((__m256i)x, 8), m);
  __m256i we = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)w, 8), 8), wo = _mm256_srai_epi16((__m256i)w, 8);
  return a + (i32x8)_mm256_madd_epi16(xe, we) + (i32x8)_mm256_madd_epi16(xo, wo);
}
#endif
#if !defined(HAVE@) && @ == 4 && defined(__SSE2__)
#define HAVE_MINMAX4
INLINE f32x4 max4(f32x4 a, f32x4 b) { return (f32x4)_mm_max_ps((__m128)a, (__m128)b); }
INLINE f32x4 min4(f32x4 a, f32x4 b) { return (f32x4)_mm_min_ps((__m128)a, (__m128)b); }
INLINE f32x4 sqrt4(f32x4 a) { return (f32x4)_mm_sqrt_ps((__m128)a); }
#endif
#if !defined(DOT@) && @ == 4 && defined(__SSE2__)
#define DOT4
INLINE i32x4 dot4(i32x4 a, i32x4 x, i32x4 w) {
  __m128i m = _mm_set1_epi32(0x00ff00ff), xe = _mm_and_si128((__m128i)x, m);
  __m128i xo = _mm_and_si128(_mm_srli_epi32((__m128i)x, 8), m);
  __m128i we = _mm_srai_epi16(_mm_slli_epi16((__m128i)w, 8), 8), wo = _mm_srai_epi16((__m128i)w, 8);
  return a + (i32x4)_mm_madd_epi16(xe, we) + (i32x4)_mm_madd_epi16(xo, wo);
}
#endif
"""

PLAIN = """
#if !defined(HAVE@) && !defined(HAVE_MINMAX@)
INLINE f32x@ max@(f32x@ a, f32x@ b) { return select@(a > b, a, b); }
INLINE f32x@ min@(f32x@ a, f32x@ b) { return select@(a < b, a, b); }
INLINE f32x@ sqrt@(f32x@ a) { f32x@ r; for (int i = 0; i < @; i++) r[i] = __builtin_sqrtf(a[i]); return r; }
#endif
#ifndef HAVE@
INLINE void part@(float *p, f32x@ v, int n) { for (int i = 0; i < @; i++) if (i < n) p[i] = v[i]; }
INLINE i32x@ bytes@(const uint8_t *p) { u8x@ v; copy_bytes(&v, p, @); return __builtin_convertvector(v, i32x@); }
INLINE i32x@ round@(f32x@ v) { /* to even, by the weight of the last bit */
  v = min@(max@(v, all@(-2097152.f)), all@(2097152.f)) + 12582912.f;
  return (i32x@)v - 0x4b400000;
}
INLINE u8x# least#(u8x# a, int b) { u8x# t = (uint8_t)b - (u8x#){}, m = (u8x#)(a < t); return (a & m) | (t & ~m); }
INLINE u8x# most#(u8x# a, int b) { u8x# t = (uint8_t)b - (u8x#){}, m = (u8x#)(a > t); return (a & m) | (t & ~m); }
INLINE u8x# mostv#(u8x# a, u8x# b) { u8x# m = (u8x#)(a > b); return (a & m) | (b & ~m); }
INLINE void partq#(uint8_t *p, u8x# v, int n) { for (int i = 0; i < #; i++) if (i < n) p[i] = v[i]; }
INLINE u8x@ narrow@(i32x@ v) {
  i32x@ low = v > 0, high = v > 255;
  return __builtin_convertvector((v & low & ~high) | (high & 255), u8x@);
}
INLINE u8x# packlanes@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  u8x@ t[4] = {narrow@(a), narrow@(b), narrow@(c), narrow@(d)};
  u8x# r;
  for (int l = 0; l < @ / 4; l++)
    for (int j = 0; j < 4; j++) copy_bytes((uint8_t *)&r + 16 * l + 4 * j, (uint8_t *)&t[j] + 4 * l, 4);
  return r;
}
INLINE u8x# zip_#(u8x# a, u8x# b, int n, int high) {
  u8x# r;
  for (int l = 0; l < #; l += 16)
    for (int i = 0; i < 16; i++) r[l + i] = ((i / n) % 2 ? b : a)[l + high * 8 + i / (2 * n) * n + i % n];
  return r;
}
INLINE u8x# lo8_#(u8x# a, u8x# b) { return zip_#(a, b, 1, 0); }
INLINE u8x# hi8_#(u8x# a, u8x# b) { return zip_#(a, b, 1, 1); }
INLINE i32x@ lo16_#(u8x# a, u8x# b) { return (i32x@)zip_#(a, b, 2, 0); }
INLINE i32x@ hi16_#(u8x# a, u8x# b) { return (i32x@)zip_#(a, b, 2, 1); }
#endif
#ifndef DOT@
INLINE i32x@ dot@(i32x@ a, i32x@ x, i32x@ w) {
  for (int i = 0; i < 4; i++) a += (x >> 8 * i & 255) * (w << 8 * (3 - i) >> 24);
  return a;
}
#endif
"""

PACK = """
typedef int16_t i16x$twice __attribute__((vector_size(#)));
/* the same for the bit patterns of 1.5 * 2^23 + byte; their low halves are the bytes as 16-bit integers */
#if defined(__AVX512VL__) && defined(__AVX512BW__)
INLINE u8x# packlowlanes@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  i16x$twice l = __builtin_shufflevector((i16x$twice)a, (i16x$twice)b, $pairs);
  i16x$twice h = __builtin_shufflevector((i16x$twice)c, (i16x$twice)d, $pairs);
  return (u8x#)_mm$b_packus_epi16((__m$bi)l, (__m$bi)h);
}
#else
INLINE u8x# packlowlanes@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  return packlanes@(a - 0x4b400000, b - 0x4b400000, c - 0x4b400000, d - 0x4b400000);
}
#endif
INLINE u8x# packlow@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  i32x@ v = (i32x@)packlowlanes@(a, b, c, d);
  return (u8x#)__builtin_shufflevector(v, v, $order);
}
INLINE u8x# loadq#(const uint8_t *p) { u8x# v; copy_bytes(&v, p, #); return v; }
INLINE void storeq#(uint8_t *p, u8x# v) { copy_bytes(p, &v, #); }
INLINE void half#(uint8_t *p, u8x# v, int i) { copy_bytes(p, (const uint8_t *)&v + 2 * @ * i, 2 * @); }
INLINE void quarter#(uint8_t *p, u8x# v, int i) { copy_bytes(p, (const uint8_t *)&v + @ * i, @); }
INLINE void quarterpart#(uint8_t *p, u8x# v, int i, int n) {
#if defined(__AVX512VL__) && defined(__AVX512BW__)
  __m128i s = _mm_setzero_si128();
  copy_bytes(&s, (const uint8_t *)&v + @ * i, @);
  _mm_mask_storeu_epi8(p, n >= @ ? (1u << @) - 1 : (1u << n) - 1, s);
#else
  const uint8_t *s = (const uint8_t *)&v + @ * i;
  if (n >= @) copy_bytes(p, s, @); else for (int k = 0; k < n; k++) p[k] = s[k];
#endif
}
/* saturated bytes of four vectors, one after the other */
INLINE u8x# pack@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  return (u8x#)__builtin_shufflevector((i32x@)packlanes@(a, b, c, d), (i32x@)packlanes@(a, b, c, d), $order);
}
INLINE void storeu@(uint8_t *p, f32x@ v) { i32x@ q = round@(v); u8x# r = pack@(q, q, q, q); copy_bytes(p, &r, @); }
INLINE void partu@(uint8_t *p, f32x@ v, int n) {
  i32x@ q = round@(v);
  quarterpart#(p, pack@(q, q, q, q), 0, n);
}
INLINE f32x@ loadu@(const uint8_t *p) { return real@(bytes@(p)); }
"""


def prelude(lanes: int) -> str:
    """Return the prelude for kernels of this many float lanes and all narrower ones."""
    parts = [HEAD]
    for n in (n for n in (4, 8, 16) if n <= lanes):
        bits = {16: "512", 8: "256", 4: ""}[n]
        order = ", ".join(str(lane * 4 + vector) for vector in range(4) for lane in range(n // 4))
        low = [2 * (4 * lane + i) + 2 * n * side for lane in range(n // 4) for side in (0, 1) for i in range(4)]
        pairs = ", ".join(map(str, low))
        for text in (TYPES, AVX512, NEON if n == 4 else "", AVX2, PLAIN, PACK, FOLDS[n], MATH):
            text = text.replace("$twice", str(2 * n)).replace("$pairs", pairs)
            text = (
                text.replace("__m$b", f"__m{bits or '128'}").replace("_mm$b_", f"_mm{bits}_").replace("$order", order)
            )
            parts.append(BYTES.sub(str(4 * n), text.replace("@", str(n))))
    return "".join(parts) + (LOOKUP if lanes == 16 else "")
