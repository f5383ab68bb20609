"""Functions of vectors in C: exponential, logarithm, tanh, erf, and the sum and maximum of a vector's lanes.

`@` in a text stands for lanes, `$b` for the bits of a vector in the names of intrinsics.
"""

from __future__ import annotations

# exp: 2^n exp(r) with n = round(x / ln 2), Cephes' polynomial, 2 units in the last place. `power` takes half the work,
# up to 2^127 and with an error of 4e-8 |x| more: 2^n 2^r with a minimax polynomial. tanh and erf: the rational
# approximations of Eigen, 4 units in the last place.
INVERSE = """\
#if defined(HAVE_X86) && defined(__AVX512VL__)
INLINE f32x@ inverse@(f32x@ x) { /* 14 bits, and a step of Newton's */
  f32x@ y = (f32x@)_mm$b_rcp14_ps((__m$b)x);
  return y * (2.f - x * y);
}
#else
INLINE f32x@ inverse@(f32x@ x) { return 1.f / x; }
#endif
"""
MATH = (
    INVERSE
    + """\
INLINE f32x@ power@(f32x@ x) {
  x = min@(max@(x, all@(-87.33654f)), all@(88.37626f));
  f32x@ t = x * 1.44269504f + 12582912.f, n = t - 12582912.f, r = x * 1.44269504f - n;
  f32x@ p = ((((0.00132647273f * r + 0.00967151299f) * r + 0.0555073358f) * r + 0.240222424f) * r
    + 0.693147004f) * r + 1.f;
  return as_real@(as_int@(p) + (as_int@(t) << 23));
}
INLINE f32x@ exp@(f32x@ x) {
  x = min@(max@(x, all@(-87.33654f)), all@(88.72283f));
  f32x@ n = real@(round@(x * 1.44269504f)), r = x - n * 0.693359375f + n * 2.12194440e-4f;
  f32x@ p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r
    + 1.6666665459e-1f) * r;
  p = (p + 5.0000001201e-1f) * r * r + r + 1.f;
  i32x@ e = round@(n), half = e >> 1;
  return p * as_real@((half + 127) << 23) * as_real@((e - half + 127) << 23);
}
INLINE f32x@ log@(f32x@ x) {
  i32x@ bits = as_int@(x), e = (bits >> 23) - 127;
  f32x@ m = as_real@((bits & 0x7fffff) | 0x3f800000);
  i32x@ big = m > 1.41421356f;
  m = select@(big, m * 0.5f, m) - 1.f;
  e -= big;
  f32x@ z = m * m;
  f32x@ p = ((((((((7.0376836292e-2f * m - 1.1514610310e-1f) * m + 1.1676998740e-1f) * m - 1.2420140846e-1f) * m
    + 1.4249322787e-1f) * m - 1.6668057665e-1f) * m + 2.0000714765e-1f) * m - 2.4999993993e-1f) * m
    + 3.3333331174e-1f) * m * z;
  f32x@ r = m + (p + real@(e) * -2.12194440e-4f - 0.5f * z) + real@(e) * 0.693359375f;
  r = select@(x > 0.f, r, select@(x < 0.f, all@(__builtin_nanf("")), all@(-__builtin_inff())));
  return select@(x == __builtin_inff(), x, r);
}
INLINE f32x@ sigmoid@(f32x@ x) { return inverse@(1.f + power@(-x)); }
INLINE f32x@ tanh@(f32x@ x) {
  f32x@ a = min@(max@(x, all@(-7.9053111f)), all@(7.9053111f)), z = a * a;
  f32x@ p = ((((((-2.76076847742355e-16f * z + 2.00018790482477e-13f) * z - 8.60467152213735e-11f) * z
    + 5.12229709037114e-08f) * z + 1.48572235717979e-05f) * z + 6.37261928875436e-04f) * z + 4.89352455891786e-03f) * a;
  f32x@ q = ((1.19825839466702e-06f * z + 1.18534705686654e-04f) * z + 2.26843463243900e-03f) * z
    + 4.89352518554385e-03f;
  return select@(x == x, p * inverse@(q), x);
}
INLINE f32x@ abs@(f32x@ x) { return as_real@(as_int@(x) & 0x7fffffff); }
INLINE f32x@ erf@(f32x@ x) {
  f32x@ a = min@(max@(x, all@(-4.f)), all@(4.f)), z = a * a;
  f32x@ p = ((((((-2.72614225801306e-10f * z + 2.77068142495902e-08f) * z - 2.10102402082508e-06f) * z
    - 5.69250639462346e-05f) * z - 7.34990630326855e-04f) * z - 2.95459980854025e-03f) * z - 1.60960333262415e-02f) * a;
  f32x@ q = (((-1.45660718464996e-05f * z - 2.13374055278905e-04f) * z - 1.68282697438203e-03f) * z
    - 7.37332916720468e-03f) * z - 1.42647390514189e-02f;
  return select@(x == x, p * inverse@(q), x);
}
"""
)
# Where every processor must give the same bits: a true division, and arguments whose results and their inverses are no
# subnormal numbers, which 32-bit NEON takes for zero.
EXACT = {
    INVERSE: "INLINE f32x@ inverse@(f32x@ x) { return 1.f / x; }\n",
    "all@(-87.33654f)), all@(88.37626f)": "all@(-80.f)), all@(87.f)",
}

# By halves: a chain of additions would take each one's full latency.
FOLDS = {
    4: """
INLINE float sum4(f32x4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
INLINE float top4(f32x4 v) {
  f32x4 t = max4(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
  return t[0] > t[1] ? t[0] : t[1];
}
""",
    8: """
INLINE float sum8(f32x8 v) {
  return sum4(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
}
INLINE float top8(f32x8 v) {
  return top4(max4(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7)));
}
""",
    16: """
INLINE float sum16(f32x16 v) {
  return sum8(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7)
    + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}
INLINE float top16(f32x16 v) {
  return top8(max8(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)));
}
""",
}

# One of sixteen floats for each lane, by the low bits of an integer.
LOOKUP = """
#if defined(HAVE_X86) && defined(__AVX512F__)
INLINE f32x16 lookup16(const float *t, i32x16 i) { return (f32x16)_mm512_permutexvar_ps((__m512i)i, load16(t)); }
INLINE f32x8 lookup8(const float *t, i32x8 i) {
  return (f32x8)_mm512_castps512_ps256(_mm512_permutexvar_ps(_mm512_castsi256_si512((__m256i)i), load16(t)));
}
INLINE f32x4 lookup4(const float *t, i32x4 i) {
  return (f32x4)_mm512_castps512_ps128(_mm512_permutexvar_ps(_mm512_castsi128_si512((__m128i)i), load16(t)));
}
#else
INLINE f32x16 lookup16(const float *t, i32x16 i) {
  f32x16 r;
  for (int k = 0; k < 16; k++) r[k] = t[i[k] & 15];
  return r;
}
INLINE f32x8 lookup8(const float *t, i32x8 i) { f32x8 r; for (int k = 0; k < 8; k++) r[k] = t[i[k] & 15]; return r; }
INLINE f32x4 lookup4(const float *t, i32x4 i) { f32x4 r; for (int k = 0; k < 4; k++) r[k] = t[i[k] & 15]; return r; }
#endif
"""
