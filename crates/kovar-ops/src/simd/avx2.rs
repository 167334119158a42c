//! AVX2 with FMA and half conversion: two registers hold all lanes. `VNNI`: with the products of bytes of AVX-VNNI.
use std::arch::x86_64::*;
use std::is_x86_feature_detected as has;

use super::{Bf16, F16, Job, LANES, Simd};

#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

/// An intrinsic, or some.
macro_rules! op {
    ($value:expr) => {
        // SAFETY: a value of `Avx2` is made by `detect` only, where the processor has the features, and those of VNNI
        // are used only with `VNNI`; memory is reached through references to as many bytes as are read or written.
        unsafe { $value }
    };
}

/// Two registers, each made by the same expression. (A closure would be a function without the features.)
macro_rules! both {
    ($i:ident => $value:expr) => {
        [
            {
                let $i = 0usize;
                $value
            },
            {
                let $i = 1usize;
                $value
            },
        ]
    };
}

impl<const VNNI: bool> Avx2<VNNI> {
    pub(crate) fn detect() -> Option<Avx2<VNNI>> {
        let there = has!("avx2") && has!("fma") && has!("f16c") && (!VNNI || has!("avxvnni"));
        there.then_some(Avx2(()))
    }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<J: Job>(simd: Avx2<false>, job: J) {
    job.run(simd);
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn run_vnni<J: Job>(simd: Avx2<true>, job: J) {
    job.run(simd);
}

type F = [__m256; 2];
type I = [__m256i; 2];

/// Both halves of an array.
fn halves<T>(from: &[T; LANES]) -> [*const T; 2] {
    let (low, high) = from.split_at(LANES / 2);
    [low.as_ptr(), high.as_ptr()]
}

fn byte_halves(from: &[u8; 64]) -> [*const __m256i; 2] {
    let (low, high) = from.split_at(32);
    [low.as_ptr().cast(), high.as_ptr().cast()]
}

/// Eight rows of eight lanes.
#[inline(always)]
fn transpose8(mut rows: [__m256i; 8]) -> [__m256i; 8] {
    for i in [0, 2, 4, 6] {
        let (a, b) = (rows[i], rows[i + 1]);
        (rows[i], rows[i + 1]) = op!((_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)));
    }
    for i in [0, 4] {
        let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
        (rows[i], rows[i + 1]) = op!((_mm256_unpacklo_epi64(a, c), _mm256_unpackhi_epi64(a, c)));
        (rows[i + 2], rows[i + 3]) = op!((_mm256_unpacklo_epi64(b, d), _mm256_unpackhi_epi64(b, d)));
    }
    for i in [0, 1, 2, 3] {
        let (a, b) = (rows[i], rows[i + 4]);
        rows[i] = op!(_mm256_permute2x128_si256::<0x20>(a, b));
        rows[i + 4] = op!(_mm256_permute2x128_si256::<0x31>(a, b));
    }
    rows
}

macro_rules! simd {
    ($vnni:literal, $run:ident) => {
        impl Simd for Avx2<$vnni> {
            type F = F;
            type I = I;
            /// Without VNNI, `dot4` keeps sums of two products in lanes of 16 bits.
            type Sums = I;
            type Scales = [f32; LANES];
            const WIDE: bool = false;
            const STREAMS: usize = 1;
            const FUSED: bool = true;

            fn vectorize<J: Job>(self, job: J) {
                op!($run(self, job));
            }

            #[inline(always)]
            fn splat(self, value: f32) -> F {
                op!([_mm256_set1_ps(value); 2])
            }

            #[inline(always)]
            fn load(self, from: &[f32; LANES]) -> F {
                let from = halves(from);
                both!(i => op!(_mm256_loadu_ps(from[i])))
            }

            #[inline(always)]
            fn load_f16(self, from: &[F16; LANES]) -> F {
                let from = halves(from);
                both!(i => op!(_mm256_cvtph_ps(_mm_loadu_si128(from[i].cast()))))
            }

            #[inline(always)]
            fn load_bf16(self, from: &[Bf16; LANES]) -> F {
                let from = halves(from);
                both!(i => op!({
                    let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from[i].cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
                }))
            }

            #[inline(always)]
            fn store(self, value: F, to: &mut [f32; LANES]) {
                let (low, high) = to.split_at_mut(LANES / 2);
                op!(_mm256_storeu_ps(low.as_mut_ptr(), value[0]));
                op!(_mm256_storeu_ps(high.as_mut_ptr(), value[1]));
            }

            #[inline(always)]
            fn add(self, a: F, b: F) -> F {
                both!(i => op!(_mm256_add_ps(a[i], b[i])))
            }

            #[inline(always)]
            fn max(self, a: F, b: F) -> F {
                both!(i => op!(_mm256_max_ps(a[i], b[i])))
            }

            #[inline(always)]
            fn mul(self, a: F, b: F) -> F {
                both!(i => op!(_mm256_mul_ps(a[i], b[i])))
            }

            #[inline(always)]
            fn fma(self, a: F, b: F, c: F) -> F {
                both!(i => op!(_mm256_fmadd_ps(a[i], b[i], c[i])))
            }

            #[inline(always)]
            fn sum(self, a: F) -> f32 {
                op!({
                    let a = _mm256_add_ps(a[0], a[1]);
                    let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                    let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
                    _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
                })
            }

            #[inline(always)]
            fn keep(self, a: F, lanes: usize) -> F {
                op!({
                    let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                    both!(i => {
                        let left = _mm256_set1_epi32(lanes as i32 - 8 * i as i32);
                        _mm256_and_ps(a[i], _mm256_castsi256_ps(_mm256_cmpgt_epi32(left, lane)))
                    })
                })
            }

            #[inline(always)]
            fn to_bits(self, a: F) -> I {
                both!(i => op!(_mm256_castps_si256(a[i])))
            }

            #[inline(always)]
            fn of_bits(self, a: I) -> F {
                both!(i => op!(_mm256_castsi256_ps(a[i])))
            }

            #[inline(always)]
            fn prefetch(self, at: *const u8) {
                op!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
            }

            #[inline(always)]
            fn bytes(self, from: &[u8; 64]) -> I {
                let from = byte_halves(from);
                both!(i => op!(_mm256_loadu_si256(from[i])))
            }

            #[inline(always)]
            fn store_bytes(self, value: I, to: &mut [u8; 64]) {
                let (low, high) = to.split_at_mut(32);
                op!(_mm256_storeu_si256(low.as_mut_ptr().cast(), value[0]));
                op!(_mm256_storeu_si256(high.as_mut_ptr().cast(), value[1]));
            }

            #[inline(always)]
            fn splat_word(self, word: [u8; 4]) -> I {
                op!([_mm256_set1_epi32(i32::from_le_bytes(word)); 2])
            }

            #[inline(always)]
            fn low_nibbles(self, a: I) -> I {
                both!(i => op!(_mm256_and_si256(a[i], _mm256_set1_epi8(15))))
            }

            #[inline(always)]
            fn high_nibbles(self, a: I) -> I {
                both!(i => op!(_mm256_and_si256(_mm256_srli_epi32::<4>(a[i]), _mm256_set1_epi8(15))))
            }

            #[inline(always)]
            fn nibble<const SHIFT: u32>(self, a: I) -> F {
                both!(i => op!({
                    let shifted = _mm256_srl_epi32(a[i], _mm_cvtsi32_si128(SHIFT as i32));
                    _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(15)))
                }))
            }

            #[inline(always)]
            fn placed_nibble<const SHIFT: u32>(self, a: I) -> F {
                // Where it is, but for the last, which has the sign.
                if SHIFT == 28 {
                    return self.nibble::<SHIFT>(a);
                }
                both!(i => op!(_mm256_cvtepi32_ps(_mm256_and_si256(a[i], _mm256_set1_epi32(15 << SHIFT)))))
            }

            #[inline(always)]
            fn place(self, shift: u32) -> f32 {
                if shift == 28 { 1.0 } else { (1u32 << shift) as f32 }
            }

            #[inline(always)]
            fn byte<const SHIFT: u32>(self, a: I) -> F {
                both!(i => op!({
                    let shifted = _mm256_srl_epi32(a[i], _mm_cvtsi32_si128(SHIFT as i32));
                    _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(255)))
                }))
            }

            #[inline(always)]
            fn transpose(self, rows: &mut [I; LANES]) {
                // Four squares; those off the diagonal change places.
                let (mut low, mut high) = ([[rows[0][0]; 8]; 2], [[rows[0][0]; 8]; 2]);
                for r in 0..8 {
                    (low[0][r], low[1][r]) = (rows[r][0], rows[8 + r][0]);
                    (high[0][r], high[1][r]) = (rows[r][1], rows[8 + r][1]);
                }
                let low = [transpose8(low[0]), transpose8(low[1])];
                let high = [transpose8(high[0]), transpose8(high[1])];
                for r in 0..8 {
                    rows[r] = [low[0][r], low[1][r]];
                    rows[8 + r] = [high[0][r], high[1][r]];
                }
            }

            #[inline(always)]
            fn none(self) -> I {
                op!([_mm256_setzero_si256(); 2])
            }

            #[inline(always)]
            fn dot4(self, sums: I, w: [I; 2], x: [I; 2]) -> I {
                both!(i => {
                    if $vnni {
                        op!(_mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(sums[i], w[0][i], x[0][i]), w[1][i], x[1][i]))
                    } else {
                        // Each adds at most 2·15·127 = 3810, so eight fit into 16 bits.
                        let low = op!(_mm256_maddubs_epi16(w[0][i], x[0][i]));
                        let high = op!(_mm256_maddubs_epi16(w[1][i], x[1][i]));
                        op!(_mm256_add_epi16(sums[i], _mm256_add_epi16(low, high)))
                    }
                })
            }

            #[inline(always)]
            fn sums4(self, sums: I) -> F {
                both!(i => {
                    let sums = if $vnni { sums[i] } else { op!(_mm256_madd_epi16(sums[i], _mm256_set1_epi16(1))) };
                    op!(_mm256_cvtepi32_ps(sums))
                })
            }

            #[inline(always)]
            fn dot8(self, sums: I, w: I, x: I) -> I {
                both!(i => {
                    if $vnni {
                        op!(_mm256_dpbusd_avx_epi32(sums[i], w[i], x[i]))
                    } else {
                        // Sums of two products of bytes may not fit into 16 bits: widen even and odd bytes first.
                        op!({
                            let even = _mm256_and_si256(w[i], _mm256_set1_epi16(255));
                            let even = _mm256_madd_epi16(even, _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x[i])));
                            let odd = _mm256_srli_epi16::<8>(w[i]);
                            let odd = _mm256_madd_epi16(odd, _mm256_srai_epi16::<8>(x[i]));
                            _mm256_add_epi32(sums[i], _mm256_add_epi32(even, odd))
                        })
                    }
                })
            }

            #[inline(always)]
            fn sums8(self, sums: I) -> F {
                both!(i => op!(_mm256_cvtepi32_ps(sums[i])))
            }

            #[inline(always)]
            fn words(self, sums: I) -> I {
                sums
            }

            #[inline(always)]
            fn of_words(self, words: I) -> I {
                words
            }

            #[inline(always)]
            fn scales(self, a: F) -> [f32; LANES] {
                let mut scales = [0.0; LANES];
                self.store(a, &mut scales);
                scales
            }

            #[inline(always)]
            fn spread(self, scales: &[f32; LANES], first: usize, lanes: usize) -> F {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| scales[(first + i) % LANES]);
                match lanes {
                    4 => op!([_mm256_set_m128(_mm_set1_ps(b), _mm_set1_ps(a)), _mm256_set_m128(_mm_set1_ps(d), _mm_set1_ps(c))]),
                    8 => op!([_mm256_set1_ps(a), _mm256_set1_ps(b)]),
                    _ => op!([_mm256_set1_ps(a); 2]),
                }
            }
        }
    };
}

simd!(false, run);
simd!(true, run_vnni);
