"""What kernels are made of on ARM and in WebAssembly, at four lanes.

NEON: `sdot` by SDOT where there is one, else by widening products whose pairs fit 16 bits (2 * 128 * 127 < 2^15);
`dot` by USDOT (i8mm). Cortex-M's DSP extension: SMLAD on pairs of 16 bits, for one channel after the other. Helium:
products of even and odd bytes, added as 16 bits. WebAssembly: products of 16-bit pairs.
"""

NEON = """
#if defined(__ARM_NEON)
#define HAVE4
#define HAVE_BYTES4
#define HAVE_ZIP4
INLINE f32x4 max4(f32x4 a, f32x4 b) { return (f32x4)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE f32x4 min4(f32x4 a, f32x4 b) { return (f32x4)vminq_f32((float32x4_t)a, (float32x4_t)b); }
#if defined(__aarch64__)
INLINE f32x4 sqrt4(f32x4 a) { return (f32x4)vsqrtq_f32((float32x4_t)a); }
INLINE i32x4 round4(f32x4 v) { return (i32x4)vcvtnq_s32_f32((float32x4_t)v); }
#else
INLINE f32x4 sqrt4(f32x4 a) { f32x4 r; for (int i = 0; i < 4; i++) r[i] = __builtin_sqrtf(a[i]); return r; }
INLINE i32x4 round4(f32x4 v) { /* to even, by the weight of the last bit */
  v = min4(max4(v, all4(-2097152.f)), all4(2097152.f)) + 12582912.f;
  return (i32x4)v - 0x4b400000;
}
#endif
INLINE i32x4 bytes4(const uint8_t *p) {
  uint32_t v;
  copy_bytes(&v, p, 4);
  return (i32x4)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(v))));
}
INLINE u8x16 least16(u8x16 a, int b) { return (u8x16)vminq_u8((uint8x16_t)a, vdupq_n_u8((uint8_t)b)); }
INLINE u8x16 most16(u8x16 a, int b) { return (u8x16)vmaxq_u8((uint8x16_t)a, vdupq_n_u8((uint8_t)b)); }
INLINE u8x16 mostv16(u8x16 a, u8x16 b) { return (u8x16)vmaxq_u8((uint8x16_t)a, (uint8x16_t)b); }
INLINE u8x16 packlanes4(i32x4 a, i32x4 b, i32x4 c, i32x4 d) { /* saturated bytes */
  const int16x8_t l = vcombine_s16(vqmovn_s32((int32x4_t)a), vqmovn_s32((int32x4_t)b));
  const int16x8_t h = vcombine_s16(vqmovn_s32((int32x4_t)c), vqmovn_s32((int32x4_t)d));
  return (u8x16)vcombine_u8(vqmovun_s16(l), vqmovun_s16(h));
}
INLINE u8x16 lo8_16(u8x16 a, u8x16 b) { return (u8x16)vzipq_u8((uint8x16_t)a, (uint8x16_t)b).val[0]; }
INLINE u8x16 hi8_16(u8x16 a, u8x16 b) { return (u8x16)vzipq_u8((uint8x16_t)a, (uint8x16_t)b).val[1]; }
INLINE i32x4 lo16_16(u8x16 a, u8x16 b) { return (i32x4)vzipq_u16((uint16x8_t)a, (uint16x8_t)b).val[0]; }
INLINE i32x4 hi16_16(u8x16 a, u8x16 b) { return (i32x4)vzipq_u16((uint16x8_t)a, (uint16x8_t)b).val[1]; }
#define SDOT4
#if defined(__ARM_FEATURE_DOTPROD)
INLINE i32x4 sdot4(i32x4 a, i32x4 x, i32x4 w) { return (i32x4)vdotq_s32((int32x4_t)a, (int8x16_t)x, (int8x16_t)w); }
#else
INLINE i32x4 sdot4(i32x4 a, i32x4 x, i32x4 w) { /* products in 16 bits, added in pairs, then again in 32 bits */
  const int16x8_t l = vmull_s8(vget_low_s8((int8x16_t)x), vget_low_s8((int8x16_t)w));
  const int16x8_t h = vmull_s8(vget_high_s8((int8x16_t)x), vget_high_s8((int8x16_t)w));
  const int16x4_t first = vpadd_s16(vget_low_s16(l), vget_high_s16(l));
  const int16x4_t second = vpadd_s16(vget_low_s16(h), vget_high_s16(h));
  return (i32x4)vpadalq_s16((int32x4_t)a, vcombine_s16(first, second));
}
#endif
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define HALVES4
INLINE f32x4 pairs4(f32x4 a, i32x4 x, i32x4 w) {
  return (f32x4)vbfdotq_f32((float32x4_t)a, (bfloat16x8_t)w, (bfloat16x8_t)x);
}
INLINE void to_halves4(uint16_t *p, f32x4 v) {
  const bfloat16x4_t h = vcvt_bf16_f32((float32x4_t)v);
  copy_bytes(p, &h, 8);
}
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define DOT4
INLINE i32x4 dot4(i32x4 a, i32x4 x, i32x4 w) { return (i32x4)vusdotq_s32((int32x4_t)a, (uint8x16_t)x, (int8x16_t)w); }
#endif
#endif
"""

CORTEX_M = """
#if defined(__ARM_FEATURE_MVE)
#define SDOT4
INLINE i32x4 sdot4(i32x4 a, i32x4 x, i32x4 w) { /* pairs of products fit 16 bits */
  const int16x8_t even = vmullbq_int_s8((int8x16_t)x, (int8x16_t)w), odd = vmulltq_int_s8((int8x16_t)x, (int8x16_t)w);
  const int16x8_t pairs = vaddq_s16(even, odd);
  return a + (i32x4)vmovlbq_s16(pairs) + (i32x4)vmovltq_s16(pairs);
}
#elif defined(__ARM_FEATURE_SIMD32) && !defined(__ARM_NEON)
#define DOT4
INLINE i32x4 dot4(i32x4 a, i32x4 x, i32x4 w) {
  for (int i = 0; i < 4; i++) {
    const int32_t even = __smlad(__uxtb16((uint32_t)x[i]), __sxtb16((uint32_t)w[i]), a[i]);
    a[i] = __smlad(__uxtb16(__ror((uint32_t)x[i], 8)), __sxtb16(__ror((uint32_t)w[i], 8)), even);
  }
  return a;
}
#endif
"""

WASM = """
#if defined(__wasm_simd128__)
#define HAVE4
#define HAVE_BYTES4
INLINE f32x4 max4(f32x4 a, f32x4 b) { return (f32x4)wasm_f32x4_pmax((v128_t)b, (v128_t)a); }
INLINE f32x4 min4(f32x4 a, f32x4 b) { return (f32x4)wasm_f32x4_pmin((v128_t)b, (v128_t)a); }
INLINE f32x4 sqrt4(f32x4 a) { return (f32x4)wasm_f32x4_sqrt((v128_t)a); }
INLINE i32x4 round4(f32x4 v) { return (i32x4)wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest((v128_t)v)); }
INLINE i32x4 bytes4(const uint8_t *p) {
  return (i32x4)wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p)));
}
INLINE u8x16 least16(u8x16 a, int b) { return (u8x16)wasm_u8x16_min((v128_t)a, wasm_i8x16_splat((int8_t)b)); }
INLINE u8x16 most16(u8x16 a, int b) { return (u8x16)wasm_u8x16_max((v128_t)a, wasm_i8x16_splat((int8_t)b)); }
INLINE u8x16 mostv16(u8x16 a, u8x16 b) { return (u8x16)wasm_u8x16_max((v128_t)a, (v128_t)b); }
INLINE u8x16 packlanes4(i32x4 a, i32x4 b, i32x4 c, i32x4 d) { /* saturated bytes */
  const v128_t l = wasm_i16x8_narrow_i32x4((v128_t)a, (v128_t)b), h = wasm_i16x8_narrow_i32x4((v128_t)c, (v128_t)d);
  return (u8x16)wasm_u8x16_narrow_i16x8(l, h);
}
#define DOT4
INLINE i32x4 dot4(i32x4 a, i32x4 x, i32x4 w) { /* even and odd bytes as 16-bit pairs */
  const v128_t m = wasm_i32x4_splat(0x00ff00ff);
  const v128_t xe = wasm_v128_and((v128_t)x, m), xo = wasm_v128_and(wasm_u32x4_shr((v128_t)x, 8), m);
  const v128_t we = wasm_i16x8_shr(wasm_i16x8_shl((v128_t)w, 8), 8), wo = wasm_i16x8_shr((v128_t)w, 8);
  return a + (i32x4)wasm_i32x4_dot_i16x8(xe, we) + (i32x4)wasm_i32x4_dot_i16x8(xo, wo);
}
#endif
"""
