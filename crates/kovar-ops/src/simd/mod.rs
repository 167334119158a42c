//! Sixteen lanes at a time, on whatever the processor has.
//!
//! An algorithm is written once, as a [`Job`] over [`Simd`], and compiled for each [`Level`]. A value of a type that
//! implements `Simd` exists only where its instructions do, so its methods are safe to call. All levels round alike but
//! for [`Plain`], which has no fused multiply-add; sums over lanes are made in one fixed order.

#[cfg(test)]
pub(crate) mod agreement;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod stored;

pub(crate) use math::{bf16_bits, exp, exp2, f16_bits, fma, largest, sin_cos};
use plain::Plain;
pub(crate) use stored::{Bf16, F16, F32, Stored, Weight};

/// Lanes of 32 bits.
pub(crate) const LANES: usize = 16;

/// Work that runs on any level. `run` must be `#[inline(always)]`, and so must what it calls with the level.
pub(crate) trait Job {
    fn run<S: Simd>(self, simd: S);
}

/// Vectors of sixteen lanes, held in as many registers as it takes.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen words of 32 bits, or 64 bytes.
    type I: Copy;
    /// Sums of products of bytes, four to a lane.
    type Sums: Copy;
    /// Sixteen scales, to be spread over lanes.
    type Scales: Copy;
    /// Whether there are 32 registers that each hold all lanes: chooses the sizes of tiles.
    const WIDE: bool;
    /// Rows of a matrix that are read together at most where memory sets the pace: 1, 2 or 4.
    const STREAMS: usize;
    /// Whether it has a fused multiply-add; without, one would be a call of a library.
    const FUSED: bool;

    /// Runs a job with this level's instructions.
    fn vectorize<J: Job>(self, job: J);

    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; LANES]) -> Self::F;
    fn load_f16(self, from: &[F16; LANES]) -> Self::F;
    fn load_bf16(self, from: &[Bf16; LANES]) -> Self::F;
    fn store(self, value: Self::F, to: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger; `b` where `a` is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// a·b + c.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Sum of all lanes, halves first.
    fn sum(self, a: Self::F) -> f32;
    /// The first lanes; zero in the others.
    fn keep(self, a: Self::F, lanes: usize) -> Self::F;
    fn to_bits(self, a: Self::F) -> Self::I;
    fn of_bits(self, a: Self::I) -> Self::F;

    /// Asks for the cache line of an address, which may lie outside of any memory: nothing is read.
    fn prefetch(self, at: *const u8);
    fn bytes(self, from: &[u8; 64]) -> Self::I;
    fn store_bytes(self, value: Self::I, to: &mut [u8; 64]);
    /// Four bytes in every lane.
    fn splat_word(self, word: [u8; 4]) -> Self::I;
    /// The lower half of each byte.
    fn low_nibbles(self, a: Self::I) -> Self::I;
    /// The upper half of each byte.
    fn high_nibbles(self, a: Self::I) -> Self::I;
    /// The four bits of each lane from `SHIFT` on, as numbers.
    fn nibble<const SHIFT: u32>(self, a: Self::I) -> Self::F;
    /// The same times [`place`](Simd::place), where that is cheaper: the product with something as many times smaller is
    /// the same.
    #[inline(always)]
    fn placed_nibble<const SHIFT: u32>(self, a: Self::I) -> Self::F {
        self.nibble::<SHIFT>(a)
    }
    /// A power of two.
    #[inline(always)]
    fn place(self, _shift: u32) -> f32 {
        1.0
    }
    /// The eight bits of each lane from `SHIFT` on, as numbers.
    fn byte<const SHIFT: u32>(self, a: Self::I) -> Self::F;
    /// Lane i of vector j becomes lane j of vector i.
    fn transpose(self, rows: &mut [Self::I; LANES]);

    /// No products.
    fn none(self) -> Self::Sums;
    /// Adds, in each lane, four products of bytes `w` up to 15 with signed bytes `x`, twice. At most four times, then
    /// [`sums4`](Simd::sums4).
    fn dot4(self, sums: Self::Sums, w: [Self::I; 2], x: [Self::I; 2]) -> Self::Sums;
    fn sums4(self, sums: Self::Sums) -> Self::F;
    /// Adds, in each lane, four products of unsigned bytes `w` with signed bytes `x`.
    fn dot8(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums;
    fn sums8(self, sums: Self::Sums) -> Self::F;
    /// The sums of [`dot8`](Simd::dot8) as words, which wrap.
    fn words(self, sums: Self::Sums) -> Self::I;
    fn of_words(self, words: Self::I) -> Self::Sums;

    fn scales(self, a: Self::F) -> Self::Scales;
    /// Scale `first + i / lanes` in lane i, where `lanes`, a power of two, have one scale.
    fn spread(self, scales: &Self::Scales, first: usize, lanes: usize) -> Self::F;
}

/// The first sixteen elements of a slice, or as many as there are; zero in the other lanes.
#[inline(always)]
pub(crate) fn load_some<S: Simd, T: Stored>(simd: S, from: &[T]) -> S::F {
    match from.first_chunk() {
        Some(whole) => T::load(simd, whole),
        None => {
            let mut part = [T::zeroed(); LANES];
            part[..from.len()].copy_from_slice(from);
            T::load(simd, &part)
        }
    }
}

/// Writes the first sixteen elements of a slice, or as many as there are.
#[inline(always)]
pub(crate) fn store_some<S: Simd>(simd: S, value: S::F, to: &mut [f32]) {
    match to.first_chunk_mut() {
        Some(whole) => simd.store(value, whole),
        None => {
            let mut part = [0.0; LANES];
            simd.store(value, &mut part);
            to.copy_from_slice(&part[..to.len()]);
        }
    }
}

/// Instructions that this processor was seen to have.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Plain(Plain),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2<false>),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(avx2::Avx2<true>),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Level {
    /// The best first; the plain one is always there, and last.
    pub(crate) fn available() -> Vec<Level> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(avx512::Avx512::detect().map(Level::Avx512));
            levels.extend(avx2::Avx2::<true>::detect().map(Level::AvxVnni));
            levels.extend(avx2::Avx2::<false>::detect().map(Level::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        levels.extend(neon::Neon::detect().map(Level::Neon));
        levels.push(Level::Plain(Plain));
        levels
    }

    /// The best of this processor.
    pub(crate) fn best() -> Level {
        Level::available().first().copied().unwrap_or(Level::Plain(Plain))
    }

    #[inline]
    pub(crate) fn run<J: Job>(self, job: J) {
        match self {
            Level::Plain(simd) => simd.vectorize(job),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(simd) => simd.vectorize(job),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni(simd) => simd.vectorize(job),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(simd) => simd.vectorize(job),
            #[cfg(target_arch = "aarch64")]
            Level::Neon(simd) => simd.vectorize(job),
        }
    }
}
