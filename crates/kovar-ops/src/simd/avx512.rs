//! AVX-512 with VNNI: one register holds all lanes.
use std::arch::x86_64::*;
use std::is_x86_feature_detected as has;

use super::{Bf16, F16, Job, LANES, Simd};

#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// An intrinsic, or some.
macro_rules! op {
    ($value:expr) => {
        // SAFETY: a value of `Avx512` is made by `detect` only, where the processor has the features; memory is
        // reached through references to as many bytes as are read or written.
        unsafe { $value }
    };
}

impl Avx512 {
    pub(crate) fn detect() -> Option<Avx512> {
        let there = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vnni");
        there.then_some(Avx512(()))
    }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn run<J: Job>(simd: Avx512, job: J) {
    job.run(simd);
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type Sums = __m512i;
    type Scales = __m512;
    const WIDE: bool = true;
    const STREAMS: usize = 4;
    const FUSED: bool = true;

    fn vectorize<J: Job>(self, job: J) {
        op!(run(self, job));
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        op!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        op!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn load_f16(self, from: &[F16; LANES]) -> __m512 {
        op!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[Bf16; LANES]) -> __m512 {
        let words = op!(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast())));
        op!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
    }

    #[inline(always)]
    fn store(self, value: __m512, to: &mut [f32; LANES]) {
        op!(_mm512_storeu_ps(to.as_mut_ptr(), value));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        op!({
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        })
    }

    #[inline(always)]
    fn keep(self, a: __m512, lanes: usize) -> __m512 {
        let mask = ((1u32 << lanes.min(LANES)) - 1) as __mmask16;
        op!(_mm512_maskz_mov_ps(mask, a))
    }

    #[inline(always)]
    fn to_bits(self, a: __m512) -> __m512i {
        op!(_mm512_castps_si512(a))
    }

    #[inline(always)]
    fn of_bits(self, a: __m512i) -> __m512 {
        op!(_mm512_castsi512_ps(a))
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        op!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
    }

    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> __m512i {
        op!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn store_bytes(self, value: __m512i, to: &mut [u8; 64]) {
        op!(_mm512_storeu_si512(to.as_mut_ptr().cast(), value));
    }

    #[inline(always)]
    fn splat_word(self, word: [u8; 4]) -> __m512i {
        op!(_mm512_set1_epi32(i32::from_le_bytes(word)))
    }

    #[inline(always)]
    fn low_nibbles(self, a: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, _mm512_set1_epi8(15)))
    }

    #[inline(always)]
    fn high_nibbles(self, a: __m512i) -> __m512i {
        op!(_mm512_and_si512(_mm512_srli_epi32::<4>(a), _mm512_set1_epi8(15)))
    }

    #[inline(always)]
    fn nibble<const SHIFT: u32>(self, a: __m512i) -> __m512 {
        // A table of sixteen: the permutation looks at the lowest four bits of each lane.
        op!({
            let table = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
            _mm512_permutexvar_ps(_mm512_srli_epi32::<SHIFT>(a), table)
        })
    }

    #[inline(always)]
    fn byte<const SHIFT: u32>(self, a: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32::<SHIFT>(a), _mm512_set1_epi32(255))))
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [__m512i; LANES]) {
        // Squares of four within each block of four lanes, then blocks: a step swaps one bit of row and lane.
        for i in [0, 2, 4, 6, 8, 10, 12, 14] {
            let (a, b) = (rows[i], rows[i + 1]);
            (rows[i], rows[i + 1]) = op!((_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)));
        }
        for i in [0, 4, 8, 12] {
            let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
            (rows[i], rows[i + 1]) = op!((_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c)));
            (rows[i + 2], rows[i + 3]) = op!((_mm512_unpacklo_epi64(b, d), _mm512_unpackhi_epi64(b, d)));
        }
        for i in [0, 1, 2, 3, 8, 9, 10, 11] {
            let (a, b) = (rows[i], rows[i + 4]);
            rows[i] = op!(_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b));
            rows[i + 4] = op!(_mm512_shuffle_i32x4::<0b11_01_11_01>(a, b));
        }
        for i in [0, 1, 2, 3, 4, 5, 6, 7] {
            let (a, b) = (rows[i], rows[i + 8]);
            rows[i] = op!(_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b));
            rows[i + 8] = op!(_mm512_shuffle_i32x4::<0b11_01_11_01>(a, b));
        }
    }

    #[inline(always)]
    fn none(self) -> __m512i {
        op!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn dot4(self, sums: __m512i, w: [__m512i; 2], x: [__m512i; 2]) -> __m512i {
        op!(_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sums, w[0], x[0]), w[1], x[1]))
    }

    #[inline(always)]
    fn sums4(self, sums: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(sums))
    }

    #[inline(always)]
    fn dot8(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        op!(_mm512_dpbusd_epi32(sums, w, x))
    }

    #[inline(always)]
    fn sums8(self, sums: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(sums))
    }

    #[inline(always)]
    fn words(self, sums: __m512i) -> __m512i {
        sums
    }

    #[inline(always)]
    fn of_words(self, words: __m512i) -> __m512i {
        words
    }

    #[inline(always)]
    fn scales(self, a: __m512) -> __m512 {
        a
    }

    #[inline(always)]
    fn spread(self, scales: &__m512, first: usize, lanes: usize) -> __m512 {
        op!({
            let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let shift = _mm_cvtsi32_si128(lanes.trailing_zeros() as i32);
            let index = _mm512_add_epi32(_mm512_srl_epi32(lane, shift), _mm512_set1_epi32(first as i32));
            _mm512_permutexvar_ps(index, *scales)
        })
    }
}
