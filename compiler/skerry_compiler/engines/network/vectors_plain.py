"""What kernels are made of where a processor has no instruction for it, in GCC's and Clang's vector extensions."""

PLAIN = """
#ifndef HAVE@
INLINE f32x@ max@(f32x@ a, f32x@ b) { return select@(a > b, a, b); }
INLINE f32x@ min@(f32x@ a, f32x@ b) { return select@(a < b, a, b); }
INLINE f32x@ sqrt@(f32x@ a) { f32x@ r; for (int i = 0; i < @; i++) r[i] = __builtin_sqrtf(a[i]); return r; }
INLINE i32x@ round@(f32x@ v) { /* to even, by the weight of the last bit */
  v = min@(max@(v, all@(-2097152.f)), all@(2097152.f)) + 12582912.f;
  return (i32x@)v - 0x4b400000;
}
INLINE u8x# least#(u8x# a, int b) { u8x# t = (uint8_t)b - (u8x#){}, m = (u8x#)(a < t); return (a & m) | (t & ~m); }
INLINE u8x# most#(u8x# a, int b) { u8x# t = (uint8_t)b - (u8x#){}, m = (u8x#)(a > t); return (a & m) | (t & ~m); }
INLINE u8x# mostv#(u8x# a, u8x# b) { u8x# m = (u8x#)(a > b); return (a & m) | (b & ~m); }
INLINE u8x@ narrow@(i32x@ v) {
  i32x@ low = v > 0, high = v > 255;
  return __builtin_convertvector((v & low & ~high) | (high & 255), u8x@);
}
/* saturated bytes, the four vectors interleaved by 128-bit lane */
INLINE u8x# packlanes@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  u8x@ t[4] = {narrow@(a), narrow@(b), narrow@(c), narrow@(d)};
  u8x# r;
  for (int l = 0; l < @ / 4; l++)
    for (int j = 0; j < 4; j++) copy_bytes((uint8_t *)&r + 16 * l + 4 * j, (uint8_t *)&t[j] + 4 * l, 4);
  return r;
}
#endif
#ifndef HAVE_BYTES@
INLINE i32x@ bytes@(const uint8_t *p) { u8x@ v; copy_bytes(&v, p, @); return __builtin_convertvector(v, i32x@); }
#endif
#ifndef HAVE_ZIP@
INLINE u8x# lo8_#(u8x# a, u8x# b) { return __builtin_shufflevector(a, b, $low8); }
INLINE u8x# hi8_#(u8x# a, u8x# b) { return __builtin_shufflevector(a, b, $high8); }
INLINE i32x@ lo16_#(u8x# a, u8x# b) { return (i32x@)__builtin_shufflevector(a, b, $low16); }
INLINE i32x@ hi16_#(u8x# a, u8x# b) { return (i32x@)__builtin_shufflevector(a, b, $high16); }
#endif
#ifndef HAVE_PART@
INLINE void part@(float *p, f32x@ v, int n) {
  if (n >= @) copy_bytes(p, &v, #);
  else for (int i = 0; i < n; i++) p[i] = ((const float *)&v)[i];
}
INLINE void partq#(uint8_t *p, u8x# v, int n) {
  if (n >= #) copy_bytes(p, &v, #);
  else for (int i = 0; i < n; i++) p[i] = ((const uint8_t *)&v)[i];
}
INLINE void quarterpart#(uint8_t *p, u8x# v, int i, int n) {
  const uint8_t *s = (const uint8_t *)&v + @ * i;
  if (n >= @) copy_bytes(p, s, @); else for (int k = 0; k < n; k++) p[k] = s[k];
}
#endif
/* dot products of four bytes: dot of unsigned, sdot of signed activations, always exact */
#ifndef DOT@
INLINE i32x@ dot@(i32x@ a, i32x@ x, i32x@ w) {
  for (int i = 0; i < 4; i++) a += (x >> 8 * i & 255) * (w << 8 * (3 - i) >> 24);
  return a;
}
#endif
#ifndef SDOT@
INLINE i32x@ sdot@(i32x@ a, i32x@ x, i32x@ w) {
  for (int i = 0; i < 4; i++) a += (x << 8 * (3 - i) >> 24) * (w << 8 * (3 - i) >> 24);
  return a;
}
#endif
/* products of two bfloat16 in each lane; float32 rounded to bfloat16, ties to even */
#ifndef HALVES@
INLINE f32x@ pairs@(f32x@ a, i32x@ x, i32x@ w) {
  a += as_real@(x << 16) * as_real@(w << 16);
  return a + as_real@(x & (int32_t)0xffff0000) * as_real@(w & (int32_t)0xffff0000);
}
INLINE void to_halves@(uint16_t *p, f32x@ v) {
  const u32x@ bits = (u32x@)select@(v == v, v, all@(__builtin_nanf("")));
  const u32x@ h = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  for (int i = 0; i < @; i++) p[i] = (uint16_t)h[i];
}
#endif
/* a * b + c rounded once, also where there is no such instruction: what becomes a byte is the same byte everywhere */
#if defined(__FMA__) || defined(__aarch64__) || defined(__ARM_FEATURE_FMA) || defined(__riscv_flen)
#if defined(__clang__)
INLINE f32x@ madd@(f32x@ a, f32x@ b, f32x@ c) { return __builtin_elementwise_fma(a, b, c); }
#else
INLINE f32x@ madd@(f32x@ a, f32x@ b, f32x@ c) { return a * b + c; } /* fused, with -ffp-contract=fast */
#endif
#else
typedef double f64x@ __attribute__((vector_size(2 * #)));
#define wide64(v) __builtin_convertvector(v, f64x@)
INLINE f32x@ madd@(f32x@ a, f32x@ b, f32x@ c) {
  return __builtin_convertvector(wide64(a) * wide64(b) + wide64(c), f32x@);
}
#undef wide64
#endif
/* numbers on their way to bytes: too large ones, and what is no number, end as 255 */
INLINE i32x@ whole@(f32x@ v) { return round@(select@(v < 65535.f, v, all@(65535.f))); }
"""

PACK = """
#ifndef HAVE_PACKLOW@
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
/* saturated bytes of four vectors, one after the other */
INLINE u8x# pack@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  const i32x@ v = (i32x@)packlanes@(a, b, c, d);
  return (u8x#)__builtin_shufflevector(v, v, $order);
}
INLINE void storeu@(uint8_t *p, f32x@ v) { i32x@ q = whole@(v); u8x# r = pack@(q, q, q, q); copy_bytes(p, &r, @); }
INLINE void partu@(uint8_t *p, f32x@ v, int n) {
  i32x@ q = whole@(v);
  quarterpart#(p, pack@(q, q, q, q), 0, n);
}
INLINE f32x@ loadu@(const uint8_t *p) { return real@(bytes@(p)); }
"""
