"""What kernels are made of on x86-64: SSE2 to AVX-512 at 4, 8 and 16 lanes.

Dot products of bytes without VNNI must be exact, and `pmaddubsw` saturates at 16 bits: two products of 255 * 127 do
not fit. So `dot`, of unsigned activations, goes through 16 bits; and `sdot`, of signed ones, multiplies their magnitude
(at most 128) by the weight (at most 127) that took over the sign: two of these fit. Measured, the second is the faster
one at four lanes and the slower one above. `$wide` is the condition under which a width has its instructions.
"""

WIDE = {
    4: "defined(__SSE2__)",
    8: "defined(__AVX2__)",
    16: "defined(__AVX512BW__) && defined(__AVX512VL__)",
}

X86 = """
#if $wide
#define HAVE@
#define HAVE_ZIP@
INLINE f32x@ max@(f32x@ a, f32x@ b) { return (f32x@)_mm$b_max_ps((__m$b)a, (__m$b)b); }
INLINE f32x@ min@(f32x@ a, f32x@ b) { return (f32x@)_mm$b_min_ps((__m$b)a, (__m$b)b); }
INLINE f32x@ sqrt@(f32x@ a) { return (f32x@)_mm$b_sqrt_ps((__m$b)a); }
INLINE i32x@ round@(f32x@ v) { return (i32x@)_mm$b_cvtps_epi32((__m$b)v); }
INLINE u8x# least#(u8x# a, int b) { return (u8x#)_mm$b_min_epu8((__m$bi)a, _mm$b_set1_epi8((char)b)); }
INLINE u8x# most#(u8x# a, int b) { return (u8x#)_mm$b_max_epu8((__m$bi)a, _mm$b_set1_epi8((char)b)); }
INLINE u8x# mostv#(u8x# a, u8x# b) { return (u8x#)_mm$b_max_epu8((__m$bi)a, (__m$bi)b); }
/* saturated bytes, the four vectors interleaved by 128-bit lane */
INLINE u8x# packlanes@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  return (u8x#)_mm$b_packus_epi16(_mm$b_packs_epi32((__m$bi)a, (__m$bi)b), _mm$b_packs_epi32((__m$bi)c, (__m$bi)d));
}
INLINE u8x# lo8_#(u8x# a, u8x# b) { return (u8x#)_mm$b_unpacklo_epi8((__m$bi)a, (__m$bi)b); }
INLINE u8x# hi8_#(u8x# a, u8x# b) { return (u8x#)_mm$b_unpackhi_epi8((__m$bi)a, (__m$bi)b); }
INLINE i32x@ lo16_#(u8x# a, u8x# b) { return (i32x@)_mm$b_unpacklo_epi16((__m$bi)a, (__m$bi)b); }
INLINE i32x@ hi16_#(u8x# a, u8x# b) { return (i32x@)_mm$b_unpackhi_epi16((__m$bi)a, (__m$bi)b); }
#if @ > 4 || defined(__SSE4_1__)
#define HAVE_BYTES@
INLINE i32x@ bytes@(const uint8_t *p) {
  __m128i v = _mm_setzero_si128();
  copy_bytes(&v, p, @);
  return (i32x@)_mm$b_cvtepu8_epi32(v);
}
#endif
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define HAVE_PART@
INLINE void part@(float *p, f32x@ v, int n) {
  _mm$b_mask_storeu_ps(p, n >= @ ? (1u << @) - 1 : (1u << n) - 1, (__m$b)v);
}
INLINE void partq#(uint8_t *p, u8x# v, int n) {
  _mm$b_mask_storeu_epi8(p, n >= # ? ~0ull >> (64 - #) : (1ull << n) - 1, (__m$bi)v);
}
INLINE void quarterpart#(uint8_t *p, u8x# v, int i, int n) {
  __m128i s = _mm_setzero_si128();
  copy_bytes(&s, (const uint8_t *)&v + @ * i, @);
  _mm_mask_storeu_epi8(p, n >= @ ? (1u << @) - 1 : (1u << n) - 1, s);
}
#endif
"""

DOTS = """
#if defined(__AVX512VL__) && defined(__AVX512BF16__)
#define HALVES@
typedef __bf16 b16x$twice __attribute__((vector_size(#)));
INLINE f32x@ pairs@(f32x@ a, i32x@ x, i32x@ w) {
  return (f32x@)_mm$b_dpbf16_ps((__m$b)a, (b16x$twice)w, (b16x$twice)x);
}
INLINE void to_halves@(uint16_t *p, f32x@ v) {
  const __auto_type h = _mm$b_cvtneps_pbh((__m$b)v);
  copy_bytes(p, &h, 2 * @);
}
#endif
#if defined(__AVX512VL__) && defined(__AVX512VNNI__)
#define DOT@
INLINE i32x@ dot@(i32x@ a, i32x@ x, i32x@ w) { return (i32x@)_mm$b_dpbusd_epi32((__m$bi)a, (__m$bi)x, (__m$bi)w); }
#elif @ < 16 && defined(__AVXVNNI__)
#define DOT@
INLINE i32x@ dot@(i32x@ a, i32x@ x, i32x@ w) { return (i32x@)_mm$b_dpbusd_avx_epi32((__m$bi)a, (__m$bi)x, (__m$bi)w); }
#elif $wide
#define DOT@
INLINE i32x@ dot@(i32x@ a, i32x@ x, i32x@ w) { /* even and odd bytes as 16-bit pairs */
  const __m$bi xe = (__m$bi)(x & 0x00ff00ff), xo = _mm$b_srli_epi16((__m$bi)x, 8);
  const __m$bi we = _mm$b_srai_epi16(_mm$b_slli_epi16((__m$bi)w, 8), 8), wo = _mm$b_srai_epi16((__m$bi)w, 8);
  return a + (i32x@)_mm$b_madd_epi16(xe, we) + (i32x@)_mm$b_madd_epi16(xo, wo);
}
#endif
#if @ == 4 && defined(__SSSE3__)
#define SDOT@
INLINE i32x@ sdot@(i32x@ a, i32x@ x, i32x@ w) { /* |x| times w with the sign of x */
  const __m$bi pairs = _mm$b_maddubs_epi16(_mm$b_abs_epi8((__m$bi)x), _mm$b_sign_epi8((__m$bi)w, (__m$bi)x));
  return a + (i32x@)_mm$b_madd_epi16(pairs, _mm$b_set1_epi16(1));
}
#endif
"""

PACKLOW = """
#if defined(__AVX512VL__) && defined(__AVX512BW__)
#define HAVE_PACKLOW@
INLINE u8x# packlowlanes@(i32x@ a, i32x@ b, i32x@ c, i32x@ d) {
  i16x$twice l = __builtin_shufflevector((i16x$twice)a, (i16x$twice)b, $pairs);
  i16x$twice h = __builtin_shufflevector((i16x$twice)c, (i16x$twice)d, $pairs);
  return (u8x#)_mm$b_packus_epi16((__m$bi)l, (__m$bi)h);
}
#endif
"""
