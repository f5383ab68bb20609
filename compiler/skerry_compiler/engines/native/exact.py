"""Functions in C that compute in double, for operators too rare to have vector forms: cosine and powers."""

from __future__ import annotations

PRELUDE = r"""
// cos(x + quarter * pi / 2): x less a multiple of pi / 2 in two parts, then Taylor series up to pi / 4.
INLINE float skerry_turn(float given, int quarter)
{
    const double x = given;
    if (!(x > -1e9 && x < 1e9)) return x - x == 0. ? 0.0f : __builtin_nanf("");
    const double turns = x * 0.63661977236758134308, near = turns < 0. ? turns - 0.5 : turns + 0.5;
    const int64_t n = (int64_t)near, q = (n + 1 + quarter) & 3;
    const double r = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11, z = r * r;
    double s = 1. - z / 210., c = 1. - z / 182.;
    for (int k = 13; k > 1; k -= 2) s = 1. - z / (k * (k - 1)) * s, c = 1. - z / ((k - 1) * (k - 2)) * c;
    const double v = q & 1 ? c : s * r;
    return (float)(q & 2 ? -v : v);
}

// x to the power y for x >= 0, and no number below, as powf has it for powers that are not whole.
INLINE float skerry_pow(float x, double y)
{
    if (!(x > 0.0f)) return x == 0.0f ? (y > 0. ? 0.0f : y == 0. ? 1.0f : __builtin_inff()) : __builtin_nanf("");
    if (x == __builtin_inff()) return y > 0. ? x : y == 0. ? 1.0f : 0.0f;
    union { double d; uint64_t i; } bits = { .d = (double)x };
    double k = (double)((int64_t)(bits.i >> 52) - 1023);
    bits.i = (bits.i & 0xfffffffffffffull) | 0x3ff0000000000000ull;
    double m = bits.d;
    if (m > 1.4142135623730951) m *= 0.5, k += 1.;
    const double s = (m - 1.) / (m + 1.), z = s * s;
    double p = 2. / 17.;
    p = p * z + 2. / 15.;
    p = p * z + 2. / 13.;
    p = p * z + 2. / 11.;
    p = p * z + 2. / 9.;
    p = p * z + 2. / 7.;
    p = p * z + 2. / 5.;
    p = p * z + 2. / 3.;
    p = p * z + 2.;
    const double t = y * (k * 0.693147180559945309417 + s * p);
    if (t > 89.) return __builtin_inff();
    if (t < -104.) return 0.0f;
    const double turns = t * 1.4426950408889634074;
    const int64_t n = (int64_t)(turns < 0. ? turns - 0.5 : turns + 0.5);
    const double r = t - n * 0.69314718055994530942;
    double e = 1.;
    for (int i = 11; i > 0; i--) e = 1. + r / i * e;
    bits.i = (uint64_t)(n + 1023) << 52;
    return (float)(e * bits.d);
}
"""
