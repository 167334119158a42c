//! Arrays, for processors without the instructions that the other levels need. The compiler makes vectors of them where
//! it can.
use std::array::from_fn;

use super::{Bf16, F16, Job, LANES, Simd, Weight};

#[derive(Clone, Copy)]
pub(crate) struct Plain;

fn bytes(word: u32) -> [u8; 4] {
    word.to_le_bytes()
}

impl Simd for Plain {
    type F = [f32; LANES];
    type I = [u32; LANES];
    type Sums = [i32; LANES];
    type Scales = [f32; LANES];
    const WIDE: bool = false;
    const STREAMS: usize = 2;
    const FUSED: bool = false;

    fn vectorize<J: Job>(self, job: J) {
        job.run(self);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        *from
    }

    #[inline(always)]
    fn load_f16(self, from: &[F16; LANES]) -> Self::F {
        from.map(F16::widen)
    }

    #[inline(always)]
    fn load_bf16(self, from: &[Bf16; LANES]) -> Self::F {
        from.map(Bf16::widen)
    }

    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        *to = value;
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let a: [f32; 8] = from_fn(|i| a[i] + a[i + 8]);
        let a: [f32; 4] = from_fn(|i| a[i] + a[i + 4]);
        (a[0] + a[2]) + (a[1] + a[3])
    }

    #[inline(always)]
    fn keep(self, a: Self::F, lanes: usize) -> Self::F {
        from_fn(|i| if i < lanes { a[i] } else { 0.0 })
    }

    #[inline(always)]
    fn to_bits(self, a: Self::F) -> Self::I {
        a.map(f32::to_bits)
    }

    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        a.map(f32::from_bits)
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> Self::I {
        from_fn(|i| u32::from_le_bytes([from[4 * i], from[4 * i + 1], from[4 * i + 2], from[4 * i + 3]]))
    }

    #[inline(always)]
    fn store_bytes(self, value: Self::I, to: &mut [u8; 64]) {
        for (to, value) in to.chunks_exact_mut(4).zip(value) {
            to.copy_from_slice(&value.to_le_bytes());
        }
    }

    #[inline(always)]
    fn splat_word(self, word: [u8; 4]) -> Self::I {
        [u32::from_le_bytes(word); LANES]
    }

    #[inline(always)]
    fn low_nibbles(self, a: Self::I) -> Self::I {
        a.map(|a| a & 0x0f0f_0f0f)
    }

    #[inline(always)]
    fn high_nibbles(self, a: Self::I) -> Self::I {
        a.map(|a| a >> 4 & 0x0f0f_0f0f)
    }

    #[inline(always)]
    fn nibble<const SHIFT: u32>(self, a: Self::I) -> Self::F {
        a.map(|a| (a >> SHIFT & 15) as i32 as f32)
    }

    #[inline(always)]
    fn byte<const SHIFT: u32>(self, a: Self::I) -> Self::F {
        a.map(|a| (a >> SHIFT & 255) as i32 as f32)
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [Self::I; LANES]) {
        *rows = from_fn(|i| from_fn(|j| rows[j][i]));
    }

    #[inline(always)]
    fn none(self) -> Self::Sums {
        [0; LANES]
    }

    #[inline(always)]
    fn dot4(self, sums: Self::Sums, w: [Self::I; 2], x: [Self::I; 2]) -> Self::Sums {
        self.dot8(self.dot8(sums, w[0], x[0]), w[1], x[1])
    }

    #[inline(always)]
    fn sums4(self, sums: Self::Sums) -> Self::F {
        sums.map(|sum| sum as f32)
    }

    #[inline(always)]
    fn dot8(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums {
        from_fn(|i| {
            let products = bytes(w[i]).into_iter().zip(bytes(x[i])).map(|(w, x)| i32::from(w) * i32::from(x as i8));
            sums[i].wrapping_add(products.sum::<i32>())
        })
    }

    #[inline(always)]
    fn sums8(self, sums: Self::Sums) -> Self::F {
        self.sums4(sums)
    }

    #[inline(always)]
    fn words(self, sums: Self::Sums) -> Self::I {
        sums.map(|sum| sum as u32)
    }

    #[inline(always)]
    fn of_words(self, words: Self::I) -> Self::Sums {
        words.map(|word| word as i32)
    }

    #[inline(always)]
    fn scales(self, a: Self::F) -> Self::Scales {
        a
    }

    #[inline(always)]
    fn spread(self, scales: &Self::Scales, first: usize, lanes: usize) -> Self::F {
        let shift = lanes.trailing_zeros();
        from_fn(|i| scales[(first + (i >> shift)) % LANES])
    }
}
