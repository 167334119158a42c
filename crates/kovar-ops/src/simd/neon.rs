//! NEON with dot products of bytes: four registers hold all lanes.
use std::arch::aarch64::*;
use std::arch::asm;

use super::{Bf16, F16, Job, LANES, Simd};

#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// An intrinsic, or some.
macro_rules! op {
    ($value:expr) => {
        // SAFETY: a value of `Neon` is made by `detect` only, where the processor has the features; memory is reached
        // through references to as many bytes as are read or written.
        unsafe { $value }
    };
}

/// Four registers, each made by the same expression. (A closure would be a function without the features.)
macro_rules! four {
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
            {
                let $i = 2usize;
                $value
            },
            {
                let $i = 3usize;
                $value
            },
        ]
    };
}

impl Neon {
    pub(crate) fn detect() -> Option<Neon> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Neon(()))
    }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "neon,dotprod")]
unsafe fn run<J: Job>(simd: Neon, job: J) {
    job.run(simd);
}

/// Adds, in each lane of 32 bits, four products of signed bytes.
///
/// # Safety
/// The processor has the feature `dotprod`.
#[inline(always)]
unsafe fn sdot(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut result = sums;
    // SAFETY: the instruction exists (promise of the caller) and touches registers alone.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) result,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    result
}

/// # Safety
/// The processor has the feature `neon`.
#[inline(always)]
unsafe fn widen_f16(from: *const u8) -> float32x4_t {
    let result: float32x4_t;
    // SAFETY: the caller passes four elements of two bytes; conversion of halves is part of every AArch64.
    unsafe {
        let halves = vld1_u8(from);
        asm!(
            "fcvtl {result:v}.4s, {halves:v}.4h",
            result = lateout(vreg) result,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    result
}

impl Simd for Neon {
    type F = [float32x4_t; 4];
    type I = [uint32x4_t; 4];
    type Sums = [int32x4_t; 4];
    type Scales = [f32; LANES];
    const WIDE: bool = false;
    const STREAMS: usize = 2;
    const FUSED: bool = true;

    fn vectorize<J: Job>(self, job: J) {
        op!(run(self, job));
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        op!([vdupq_n_f32(value); 4])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        let from = from.as_ptr();
        four!(i => op!(vld1q_f32(from.add(4 * i))))
    }

    #[inline(always)]
    fn load_f16(self, from: &[F16; LANES]) -> Self::F {
        let from = from.as_ptr().cast::<u8>();
        four!(i => op!(widen_f16(from.add(8 * i))))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[Bf16; LANES]) -> Self::F {
        let from = from.as_ptr().cast::<u8>();
        four!(i => op!({
            let words = vreinterpret_u16_u8(vld1_u8(from.add(8 * i)));
            vreinterpretq_f32_u32(vshll_n_u16::<16>(words))
        }))
    }

    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        four!(i => op!(vst1q_f32(to.add(4 * i), value[i])));
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => op!(vaddq_f32(a[i], b[i])))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => op!(vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i])))
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => op!(vmulq_f32(a[i], b[i])))
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        four!(i => op!(vfmaq_f32(c[i], a[i], b[i])))
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        op!({
            let a = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let a = vadd_f32(vget_low_f32(a), vget_high_f32(a));
            vget_lane_f32::<0>(a) + vget_lane_f32::<1>(a)
        })
    }

    #[inline(always)]
    fn keep(self, a: Self::F, lanes: usize) -> Self::F {
        const NUMBERS: [i32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        op!({
            let left = vdupq_n_s32(lanes as i32);
            four!(i => {
                let kept = vcgtq_s32(left, vld1q_s32(NUMBERS.as_ptr().add(4 * i)));
                vreinterpretq_f32_u32(vandq_u32(kept, vreinterpretq_u32_f32(a[i])))
            })
        })
    }

    #[inline(always)]
    fn to_bits(self, a: Self::F) -> Self::I {
        four!(i => op!(vreinterpretq_u32_f32(a[i])))
    }

    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        four!(i => op!(vreinterpretq_f32_u32(a[i])))
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a hint, which touches neither memory nor registers and does not fault.
        unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) };
    }

    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> Self::I {
        let from = from.as_ptr();
        four!(i => op!(vreinterpretq_u32_u8(vld1q_u8(from.add(16 * i)))))
    }

    #[inline(always)]
    fn store_bytes(self, value: Self::I, to: &mut [u8; 64]) {
        let to = to.as_mut_ptr();
        four!(i => op!(vst1q_u8(to.add(16 * i), vreinterpretq_u8_u32(value[i]))));
    }

    #[inline(always)]
    fn splat_word(self, word: [u8; 4]) -> Self::I {
        op!([vdupq_n_u32(u32::from_le_bytes(word)); 4])
    }

    #[inline(always)]
    fn low_nibbles(self, a: Self::I) -> Self::I {
        four!(i => op!(vandq_u32(a[i], vdupq_n_u32(0x0f0f_0f0f))))
    }

    #[inline(always)]
    fn high_nibbles(self, a: Self::I) -> Self::I {
        four!(i => op!(vandq_u32(vshrq_n_u32::<4>(a[i]), vdupq_n_u32(0x0f0f_0f0f))))
    }

    #[inline(always)]
    fn nibble<const SHIFT: u32>(self, a: Self::I) -> Self::F {
        op!({
            let shift = vdupq_n_s32(-(SHIFT as i32));
            four!(i => vcvtq_f32_u32(vandq_u32(vshlq_u32(a[i], shift), vdupq_n_u32(15))))
        })
    }

    #[inline(always)]
    fn byte<const SHIFT: u32>(self, a: Self::I) -> Self::F {
        op!({
            let shift = vdupq_n_s32(-(SHIFT as i32));
            four!(i => vcvtq_f32_u32(vandq_u32(vshlq_u32(a[i], shift), vdupq_n_u32(255))))
        })
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [Self::I; LANES]) {
        // Sixteen squares of four; square (i, j) goes to (j, i).
        let old = *rows;
        for i in 0..4 {
            for j in 0..4 {
                let [a, b, c, d] = [old[4 * i][j], old[4 * i + 1][j], old[4 * i + 2][j], old[4 * i + 3][j]];
                op!({
                    let (ac, bd) = (vzip1q_u32(a, c), vzip1q_u32(b, d));
                    rows[4 * j][i] = vzip1q_u32(ac, bd);
                    rows[4 * j + 1][i] = vzip2q_u32(ac, bd);
                    let (ac, bd) = (vzip2q_u32(a, c), vzip2q_u32(b, d));
                    rows[4 * j + 2][i] = vzip1q_u32(ac, bd);
                    rows[4 * j + 3][i] = vzip2q_u32(ac, bd);
                });
            }
        }
    }

    #[inline(always)]
    fn none(self) -> Self::Sums {
        op!([vdupq_n_s32(0); 4])
    }

    #[inline(always)]
    fn dot4(self, sums: Self::Sums, w: [Self::I; 2], x: [Self::I; 2]) -> Self::Sums {
        four!(i => op!({
            let sums = sdot(sums[i], vreinterpretq_s8_u32(w[0][i]), vreinterpretq_s8_u32(x[0][i]));
            sdot(sums, vreinterpretq_s8_u32(w[1][i]), vreinterpretq_s8_u32(x[1][i]))
        }))
    }

    #[inline(always)]
    fn sums4(self, sums: Self::Sums) -> Self::F {
        four!(i => op!(vcvtq_f32_s32(sums[i])))
    }

    #[inline(always)]
    fn dot8(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums {
        // The product is of signed bytes: 128 less, and twice 64 times the sum of x more.
        four!(i => op!({
            let less = vreinterpretq_s8_u32(veorq_u32(w[i], vdupq_n_u32(0x8080_8080)));
            let x = vreinterpretq_s8_u32(x[i]);
            let more = vdupq_n_s8(64);
            sdot(sdot(sdot(sums[i], less, x), more, x), more, x)
        }))
    }

    #[inline(always)]
    fn sums8(self, sums: Self::Sums) -> Self::F {
        four!(i => op!(vcvtq_f32_s32(sums[i])))
    }

    #[inline(always)]
    fn words(self, sums: Self::Sums) -> Self::I {
        four!(i => op!(vreinterpretq_u32_s32(sums[i])))
    }

    #[inline(always)]
    fn of_words(self, words: Self::I) -> Self::Sums {
        four!(i => op!(vreinterpretq_s32_u32(words[i])))
    }

    #[inline(always)]
    fn scales(self, a: Self::F) -> [f32; LANES] {
        let mut scales = [0.0; LANES];
        self.store(a, &mut scales);
        scales
    }

    #[inline(always)]
    fn spread(self, scales: &[f32; LANES], first: usize, lanes: usize) -> Self::F {
        let shift = lanes.trailing_zeros();
        four!(i => op!(vdupq_n_f32(scales[(first + ((4 * i) >> shift)) % LANES])))
    }
}
