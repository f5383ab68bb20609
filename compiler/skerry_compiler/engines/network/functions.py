"""Scalar functions in C for rare operators: only those that a network uses are written, with what they call.

Transcendental ones compute in double, so that their float32 result is right to the last place without a C library.
"""

from __future__ import annotations

import re

NAME = re.compile(r"\bfn_[a-z0-9_]+")
# Types that may share the arena's memory with any other type.
TYPES = "".join(
    f"typedef {c} {name}_m __attribute__((may_alias));\n"
    for c, name in [("double", "double"), *((f"{u}int{b}_t", f"{u}int{b}") for u in ("", "u") for b in (16, 32, 64))]
)
FAULT = "static int32_t fault; /* 1: an index out of range, 2: an integer divided by zero */\n"

FUNCTIONS = {
    # IEEE 754 binary16 from and to binary32; halves between two go to the even one.
    "fn_half": """
INLINE float fn_half(uint16_t h) {
  const uint32_t sign = (uint32_t)(h >> 15) << 31, e = h >> 10 & 31, m = h & 1023;
  uint32_t b = e == 31 ? 0x7f800000u | m << 13 : (e + 112) << 23 | m << 13;
  float f = (float)m * 5.9604644775390625e-8f;
  if (e == 0) copy_bytes(&b, &f, 4);
  b |= sign;
  copy_bytes(&f, &b, 4);
  return f;
}""",
    "fn_to_half": """
INLINE uint16_t fn_to_half(float x) {
  uint32_t b;
  copy_bytes(&b, &x, 4);
  const uint32_t sign = b >> 16 & 0x8000u, a = b & 0x7fffffffu;
  if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (a >= 0x38800000u) return (uint16_t)(sign | (a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13);
  const float small = (x < 0.f ? -x : x) + 0.5f;
  copy_bytes(&b, &small, 4);
  return (uint16_t)(sign | (b - 0x3f000000u));
}""",
    "fn_index": """
INLINE int fn_index(int64_t i, int64_t n) {
  i += i < 0 ? n : 0;
  if (i >= 0 && i < n) return (int)i;
  fault = 1;
  return 0;
}""",
    "fn_bits": "INLINE uint64_t fn_bits(double x) { uint64_t b; copy_bytes(&b, &x, 8); return b; }",
    "fn_real": "INLINE double fn_real(uint64_t b) { double x; copy_bytes(&x, &b, 8); return x; }",
    "fn_trunc": """
INLINE double fn_trunc(double x) {
  if (!(x > -4503599627370496. && x < 4503599627370496.)) return x;
  const double t = (double)(int64_t)x;
  return t == 0. ? (x < 0. || fn_bits(x) >> 63 ? -0. : 0.) : t;
}""",
    "fn_floor": "INLINE double fn_floor(double x) { const double t = fn_trunc(x); return t > x ? t - 1. : t; }",
    "fn_ceil": "INLINE double fn_ceil(double x) { return -fn_floor(-x); }",
    # Halves go to the even neighbour.
    "fn_round": """
INLINE double fn_round(double x) {
  const double f = fn_floor(x), r = x - f;
  if (!(r == r)) return x;
  if (r != 0.5) return r > 0.5 ? f + 1. : f;
  return fn_floor(f * 0.5) * 2. == f ? f : f + 1.;
}""",
    "fn_exp": """
INLINE double fn_exp(double x) {
  if (!(x == x)) return x;
  if (x > 709.78) return __builtin_inf();
  if (x < -745.) return 0.;
  const double n = fn_round(x * 1.4426950408889634074);
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 1. / 6227020800.;
  p = p * r + 1. / 479001600.; p = p * r + 1. / 39916800.; p = p * r + 1. / 3628800.; p = p * r + 1. / 362880.;
  p = p * r + 1. / 40320.; p = p * r + 1. / 5040.; p = p * r + 1. / 720.; p = p * r + 1. / 120.;
  p = p * r + 1. / 24.; p = p * r + 1. / 6.; p = p * r + 0.5; p = p * r + 1.; p = p * r + 1.;
  const int64_t e = (int64_t)n, half = e / 2;
  return p * fn_real((uint64_t)(half + 1023) << 52) * fn_real((uint64_t)(e - half + 1023) << 52);
}""",
    "fn_log": """
INLINE double fn_log(double x) {
  if (!(x > 0.)) return x == 0. ? -__builtin_inf() : __builtin_nan("");
  if (x == __builtin_inf()) return x;
  double k = 0.;
  if (x < 2.2250738585072014e-308) x *= 18014398509481984., k = -54.;
  uint64_t b = fn_bits(x);
  k += (double)((int64_t)(b >> 52) - 1023);
  double m = fn_real((b & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) m *= 0.5, k += 1.;
  const double s = (m - 1.) / (m + 1.), z = s * s;
  double p = 2. / 21.;
  p = p * z + 2. / 19.; p = p * z + 2. / 17.; p = p * z + 2. / 15.; p = p * z + 2. / 13.; p = p * z + 2. / 11.;
  p = p * z + 2. / 9.; p = p * z + 2. / 7.; p = p * z + 2. / 5.; p = p * z + 2. / 3.; p = p * z + 2.;
  return k * 0.693147180559945309417 + s * p;
}""",
    "fn_sqrt": "INLINE double fn_sqrt(double x) { return __builtin_sqrt(x); }",
    "fn_expm1": """
INLINE double fn_expm1(double x) { /* a series where the subtraction would cancel */
  return x > -1e-3 && x < 1e-3 ? x * (1. + x * (0.5 + x * (1. / 6. + x / 24.))) : fn_exp(x) - 1.;
}""",
    "fn_log1p": """
INLINE double fn_log1p(double x) {
  return x > -1e-4 && x < 1e-4 ? x * (1. - x * (0.5 - x * (1. / 3. - x * 0.25))) : fn_log(1. + x);
}""",
    "fn_sinh": "INLINE double fn_sinh(double x) { return 0.5 * (fn_expm1(x) - fn_expm1(-x)); }",
    "fn_cosh": "INLINE double fn_cosh(double x) { return 0.5 * (fn_exp(x) + fn_exp(-x)); }",
    "fn_tanh": """
INLINE double fn_tanh(double x) {
  const double e = fn_expm1(x > 0. ? -2. * x : 2. * x), t = -e / (e + 2.);
  return x > 0. ? t : -t;
}""",
    "fn_asinh": """
INLINE double fn_asinh(double x) {
  const double a = x < 0. ? -x : x, s = a * a / (1. + fn_sqrt(1. + a * a));
  const double r = a > 1e150 ? fn_log(a) + 0.6931471805599453 : fn_log1p(a + s);
  return x < 0. ? -r : r;
}""",
    "fn_acosh": "INLINE double fn_acosh(double x) { return fn_log(x + fn_sqrt(x * x - 1.)); }",
    "fn_atanh": "INLINE double fn_atanh(double x) { return 0.5 * (fn_log1p(x) - fn_log1p(-x)); }",
    # Sine and cosine of x less a multiple of pi / 2 in two parts; Taylor series up to pi / 4.
    "fn_turn": """
INLINE double fn_turn(double x, int quarter) {
  if (!(x > -1e15 && x < 1e15)) return x - x == 0. ? 0. : __builtin_nan("");
  const double n = fn_round(x * 0.63661977236758134308);
  const double r = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11, z = r * r;
  double s = 1. - z / 210., c = 1. - z / 182.;
  for (int k = 13; k > 1; k -= 2) s = 1. - z / (k * (k - 1)) * s, c = 1. - z / ((k - 1) * (k - 2)) * c;
  s *= r;
  const int64_t q = ((int64_t)n + quarter) & 3;
  const double v = q & 1 ? c : s;
  return q & 2 ? -v : v;
}""",
    "fn_sin": "INLINE double fn_sin(double x) { return fn_turn(x, 0); }",
    "fn_cos": "INLINE double fn_cos(double x) { return fn_turn(x, 1); }",
    "fn_tan": "INLINE double fn_tan(double x) { return fn_turn(x, 0) / fn_turn(x, 1); }",
    # The argument is halved three times by atan(x) = 2 atan(x / (1 + sqrt(1 + x^2))), then a series.
    "fn_atan": """
INLINE double fn_atan(double x) {
  if (x > 1e16 || x < -1e16) return x > 0. ? 1.5707963267948966 : -1.5707963267948966;
  for (int i = 0; i < 3; i++) x = x / (1. + fn_sqrt(1. + x * x));
  const double z = x * x;
  double p = 0.;
  for (int k = 23; k > 0; k -= 2) p = 1. / k - z * p;
  return 8. * x * p;
}""",
    "fn_asin": """
INLINE double fn_asin(double x) {
  if (x >= 1. || x <= -1.) return x == 1. ? 1.5707963267948966 : x == -1. ? -1.5707963267948966 : __builtin_nan("");
  return fn_atan(x / fn_sqrt((1. - x) * (1. + x)));
}""",
    "fn_acos": """
INLINE double fn_acos(double x) {
  if (!(x >= -1. && x <= 1.)) return __builtin_nan("");
  return x == -1. ? 3.141592653589793 : 2. * fn_atan(fn_sqrt((1. - x) / (1. + x)));
}""",
    "fn_pow": """
INLINE double fn_pow(double x, double y) {
  if (y == 0. || x == 1.) return 1.;
  if (!(x == x && y == y)) return x + y;
  const int whole = fn_trunc(y) == y, odd = whole && fn_trunc(y * 0.5) * 2. != y;
  const double a = x < 0. ? -x : x;
  double r;
  if (a == 0.) r = y < 0. ? __builtin_inf() : 0.;
  else if (whole && y <= 64. && y >= -64.) {
    r = 1.;
    for (int i = 0; i < (int)(y < 0. ? -y : y); i++) r *= a;
    r = y < 0. ? 1. / r : r;
  } else {
    const double l = fn_log(a) * y;
    r = a == __builtin_inf() || y - y != 0. ? (l > 0. ? __builtin_inf() : l < 0. ? 0. : 1.) : fn_exp(l);
  }
  if (x < 0. && !whole) return a == __builtin_inf() ? r : __builtin_nan("");
  return x < 0. && odd ? -r : r;
}""",
    "fn_ipow": """
INLINE int64_t fn_ipow(int64_t x, int64_t n) { /* wraps around as the processor does */
  if (n < 0) return x == 1 ? 1 : x == -1 ? (n & 1 ? -1 : 1) : 0;
  uint64_t r = 1, b = (uint64_t)x;
  for (; n; n >>= 1, b *= b) r *= n & 1 ? b : 1;
  return (int64_t)r;
}""",
    "fn_fmod": """
INLINE double fn_fmod(double x, double y) { /* by long division: every step is exact */
  if (!(x == x && y == y) || y == 0. || x - x != 0.) return __builtin_nan("");
  double a = x < 0. ? -x : x;
  const double b = y < 0. ? -y : y;
  while (a >= b) {
    double t = b;
    const int64_t e = (int64_t)(fn_bits(a) >> 52) - (int64_t)(fn_bits(b) >> 52);
    if (e > 0) t = fn_real(fn_bits(b) + ((uint64_t)e << 52));
    if (t > a) t *= 0.5;
    a -= t;
  }
  return x < 0. ? -a : a;
}""",
    "fn_div": """
INLINE int64_t fn_div(int64_t a, int64_t b) {
  if (b == 0) { fault = 2; return 0; }
  return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}""",
    "fn_udiv": "INLINE uint64_t fn_udiv(uint64_t a, uint64_t b) { if (b) return a / b; fault = 2; return 0; }",
    "fn_rem": """
INLINE int64_t fn_rem(int64_t a, int64_t b) {
  if (b == 0) { fault = 2; return 0; }
  return b == -1 ? 0 : a % b;
}""",
    "fn_mod": """
INLINE int64_t fn_mod(int64_t a, int64_t b) { /* the sign of the divisor, as Python has it */
  const int64_t r = fn_rem(a, b);
  return r && (r < 0) != (b < 0) ? r + b : r;
}""",
    "fn_whole": """
INLINE int64_t fn_whole(double x) { /* towards zero; what does not fit is the end of the range, as on most processors */
  if (!(x > -9223372036854775808.)) return INT64_MIN;
  return x < 9223372036854775808. ? (int64_t)x : INT64_MAX;
}""",
    # To even, by the weight of the last bit; beyond 22 bits it saturates.
    "fn_near": """
INLINE int32_t fn_near(float x) {
  x = !(x > -4194303.f) ? -4194303.f : x < 4194303.f ? x : 4194303.f;
  const float v = x + 12582912.f;
  int32_t b;
  copy_bytes(&b, &v, 4);
  return b - 0x4b400000;
}""",
    "fn_limit": """
INLINE int32_t fn_limit(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }""",
    "fn_clamp": """
INLINE int32_t fn_clamp(double x, int32_t low, int32_t high) {
  return !(x > low) ? low : x < high ? (int32_t)x : high;
}""",
    # Rows of p become columns of q: interleaving row i with row i + n / 2 turns a square after log2(n) rounds.
    "fn_turn4": """
INLINE void fn_turn4(const float *p, int ps, float *q, int qs) {
  f32x4 r[4], t[4];
  for (int i = 0; i < 4; i++) r[i] = load4(p + i * ps);
  for (int k = 0; k < 2; k++) {
    for (int i = 0; i < 2; i++) {
      t[2 * i] = __builtin_shufflevector(r[i], r[i + 2], 0, 4, 1, 5);
      t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 2], 2, 6, 3, 7);
    }
    for (int i = 0; i < 4; i++) r[i] = t[i];
  }
  for (int i = 0; i < 4; i++) store4(q + i * qs, r[i]);
}""",
    "fn_turn8": """
INLINE void fn_turn8(const float *p, int ps, float *q, int qs) {
  f32x8 r[8], t[8];
  for (int i = 0; i < 8; i++) r[i] = load8(p + i * ps);
  for (int k = 0; k < 3; k++) {
    for (int i = 0; i < 4; i++) {
      t[2 * i] = __builtin_shufflevector(r[i], r[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i++) r[i] = t[i];
  }
  for (int i = 0; i < 8; i++) store8(q + i * qs, r[i]);
}""",
    # The series converges for the arguments that are left.
    "fn_erf": """
INLINE double fn_erf(double x) {
  const double a = x < 0. ? -x : x;
  if (!(a < 6.)) return x == x ? (x < 0. ? -1. : 1.) : x;
  double term = a, sum = a;
  for (int n = 1; n < 120; n++) term *= 2. * a * a / (2 * n + 1), sum += term;
  const double r = 1.1283791670955126 * fn_exp(-a * a) * sum;
  return x < 0. ? -r : r;
}""",
}


def used(text: str) -> str:
    """Return the C of the functions that a text calls, callees first."""
    wanted: set[str] = set()
    todo = set(NAME.findall(text))
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo |= set(NAME.findall(FUNCTIONS[name]))
    order: list[str] = []

    def visit(name: str) -> None:
        for callee in sorted(set(NAME.findall(FUNCTIONS[name])) - {name}):
            if callee not in order:
                visit(callee)
        if name not in order:
            order.append(name)

    for name in sorted(wanted):
        visit(name)
    return "\n".join(FUNCTIONS[name].strip() for name in order)
