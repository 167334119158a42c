//! One row of activations times a quantised matrix.
use std::ops::Range;

use super::round::Rounded;
use super::rows::{CHUNK, Rows};
use crate::simd::{Job, LANES, Simd, Stored};

/// Bytes of codes between those in use and those that memory is asked for, in whole rows.
const AHEAD: usize = 4096;

/// Products of rounded activations with some rows.
pub(super) struct FastVec<'a, T> {
    pub(super) rows: &'a Rows<'a, T>,
    pub(super) range: Range<usize>,
    pub(super) x: &'a Rounded,
    pub(super) y: &'a mut [f32],
}

/// Products of f32 activations with some rows.
pub(super) struct ExactVec<'a, T> {
    pub(super) rows: &'a Rows<'a, T>,
    pub(super) range: Range<usize>,
    pub(super) x: &'a Spread,
    pub(super) y: &'a mut [f32],
}

/// How one chunk is multiplied, sixteen partial products to a vector, without the scales of the weights.
trait Chunks {
    /// What of x belongs to a chunk.
    type X<S: Simd>: Copy;
    fn x<S: Simd>(&self, simd: S, chunk: usize) -> Self::X<S>;
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F;
    /// Applies the scales of the weights and adds.
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, x: Self::X<S>, sum: S::F) -> S::F;
    /// Sums of x by group.
    fn sums(&self) -> &[[f32; LANES]];
}

struct Fast4<'a>(&'a Rounded);
struct Fast8<'a>(&'a Rounded);
struct Exact4<'a>(&'a Spread);
struct Exact8<'a>(&'a Spread);

impl Chunks for Fast4<'_> {
    type X<S: Simd> = ([S::I; 2], S::F);

    #[inline(always)]
    fn x<S: Simd>(&self, simd: S, chunk: usize) -> Self::X<S> {
        let codes = &self.0.codes;
        ([simd.bytes(&codes[2 * chunk]), simd.bytes(&codes[2 * chunk + 1])], simd.load(&self.0.scales[chunk]))
    }

    #[inline(always)]
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F {
        let codes = simd.bytes(codes);
        simd.sums4(simd.dot4(simd.none(), [simd.low_nibbles(codes), simd.high_nibbles(codes)], x.0))
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, x: Self::X<S>, sum: S::F) -> S::F {
        simd.fma(dot, simd.mul(scales, x.1), sum)
    }

    #[inline(always)]
    fn sums(&self) -> &[[f32; LANES]] {
        &self.0.sums
    }
}

impl Chunks for Fast8<'_> {
    type X<S: Simd> = (S::I, S::F);

    #[inline(always)]
    fn x<S: Simd>(&self, simd: S, chunk: usize) -> Self::X<S> {
        (simd.bytes(&self.0.codes[chunk]), simd.load(&self.0.scales[chunk]))
    }

    #[inline(always)]
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F {
        simd.sums8(simd.dot8(simd.none(), simd.bytes(codes), x.0))
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, x: Self::X<S>, sum: S::F) -> S::F {
        simd.fma(dot, simd.mul(scales, x.1), sum)
    }

    #[inline(always)]
    fn sums(&self) -> &[[f32; LANES]] {
        &self.0.sums
    }
}

impl Chunks for Exact4<'_> {
    type X<S: Simd> = [S::F; 8];

    #[inline(always)]
    fn x<S: Simd>(&self, simd: S, chunk: usize) -> Self::X<S> {
        let x = &self.0.vectors[8 * chunk..8 * chunk + 8];
        [
            simd.load(&x[0]),
            simd.load(&x[1]),
            simd.load(&x[2]),
            simd.load(&x[3]),
            simd.load(&x[4]),
            simd.load(&x[5]),
            simd.load(&x[6]),
            simd.load(&x[7]),
        ]
    }

    #[inline(always)]
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F {
        let q = simd.bytes(codes);
        let mut sum = simd.mul(simd.nibble::<0>(q), x[0]);
        sum = simd.fma(simd.nibble::<4>(q), x[1], sum);
        sum = simd.fma(simd.nibble::<8>(q), x[2], sum);
        sum = simd.fma(simd.nibble::<12>(q), x[3], sum);
        sum = simd.fma(simd.nibble::<16>(q), x[4], sum);
        sum = simd.fma(simd.nibble::<20>(q), x[5], sum);
        sum = simd.fma(simd.nibble::<24>(q), x[6], sum);
        simd.fma(simd.nibble::<28>(q), x[7], sum)
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, _: Self::X<S>, sum: S::F) -> S::F {
        simd.fma(dot, scales, sum)
    }

    #[inline(always)]
    fn sums(&self) -> &[[f32; LANES]] {
        &self.0.sums
    }
}

impl Chunks for Exact8<'_> {
    type X<S: Simd> = [S::F; 4];

    #[inline(always)]
    fn x<S: Simd>(&self, simd: S, chunk: usize) -> Self::X<S> {
        let x = &self.0.vectors[4 * chunk..4 * chunk + 4];
        [simd.load(&x[0]), simd.load(&x[1]), simd.load(&x[2]), simd.load(&x[3])]
    }

    #[inline(always)]
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F {
        let q = simd.bytes(codes);
        let mut sum = simd.mul(simd.byte::<0>(q), x[0]);
        sum = simd.fma(simd.byte::<8>(q), x[1], sum);
        sum = simd.fma(simd.byte::<16>(q), x[2], sum);
        simd.fma(simd.byte::<24>(q), x[3], sum)
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, _: Self::X<S>, sum: S::F) -> S::F {
        simd.fma(dot, scales, sum)
    }

    #[inline(always)]
    fn sums(&self) -> &[[f32; LANES]] {
        &self.0.sums
    }
}

/// `R` rows from `first` on, together: they share the loads of x, and their sums do not wait for each other.
#[inline(always)]
fn rows_dot<S: Simd, T: Stored, C: Chunks, const R: usize>(
    simd: S,
    rows: &Rows<'_, T>,
    first: usize,
    x: &C,
    y: &mut [f32],
) {
    let shape = rows.shape();
    let (chunks, groups) = (shape.chunks(), shape.groups());
    let (per_chunk, per_vector, lanes) = (shape.per_chunk(), shape.chunks_per_vector(), shape.lanes_per_scale());
    let mut row = [rows.row(first); R];
    #[allow(clippy::needless_range_loop)]
    for r in 1..R {
        row[r] = rows.row(first + r);
    }
    for row in &row {
        // Said once, so that the loads below need no check.
        assert!(row.codes.len() == chunks);
    }
    // The same places of rows to come: memory is read in order, but as `R` streams too short to be seen as such.
    let next = (AHEAD / shape.row_bytes()).max(1);
    let mut sums = [simd.splat(0.0); R];
    for (v, x_sums) in x.sums().iter().enumerate() {
        let left = groups - v * LANES;
        let x_sums = simd.load(x_sums);
        let mut scales = [simd.scales(simd.splat(0.0)); R];
        for r in 0..R {
            let (mut s, mut b) = (T::load(simd, &row[r].scales[v]), T::load(simd, &row[r].biases[v]));
            simd.prefetch(row[r].scales[v].as_ptr().wrapping_add(next * groups).cast());
            simd.prefetch(row[r].biases[v].as_ptr().wrapping_add(next * groups).cast());
            if left < LANES {
                (s, b) = (simd.keep(s, left), simd.keep(b, left));
            }
            scales[r] = simd.scales(s);
            sums[r] = simd.fma(b, x_sums, sums[r]);
        }
        for c in v * per_vector..((v + 1) * per_vector).min(chunks) {
            let x = x.x(simd, c);
            let group = c * per_chunk / shape.group;
            for r in 0..R {
                simd.prefetch(row[r].codes[c].as_ptr().wrapping_add(next * shape.row_bytes()));
                let dot = C::dot(simd, &row[r].codes[c], x);
                sums[r] = C::scaled(simd, dot, simd.spread(&scales[r], group % LANES, lanes), x, sums[r]);
            }
        }
    }
    for r in 0..R {
        y[r] = simd.sum(sums[r]);
    }
}

/// All rows of a range, as many at a time as there are registers for.
#[inline(always)]
fn all_dot<S: Simd, T: Stored, C: Chunks, const R: usize>(
    simd: S,
    rows: &Rows<'_, T>,
    range: Range<usize>,
    x: &C,
    y: &mut [f32],
) {
    let (together, single) = y.as_chunks_mut::<R>();
    for (i, y) in together.iter_mut().enumerate() {
        rows_dot::<S, T, C, R>(simd, rows, range.start + R * i, x, y);
    }
    for (row, y) in (range.end - single.len()..range.end).zip(single) {
        rows_dot::<S, T, C, 1>(simd, rows, row, x, std::slice::from_mut(y));
    }
}

impl<T: Stored> Job for FastVec<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match (self.rows.shape().bits, S::WIDE) {
            // Two, not four: memory sets the pace, and fewer streams suit it better.
            (4, true) => all_dot::<S, T, _, 2>(simd, self.rows, self.range, &Fast4(self.x), self.y),
            (4, false) => all_dot::<S, T, _, 2>(simd, self.rows, self.range, &Fast4(self.x), self.y),
            (_, true) => all_dot::<S, T, _, 4>(simd, self.rows, self.range, &Fast8(self.x), self.y),
            (_, false) => all_dot::<S, T, _, 2>(simd, self.rows, self.range, &Fast8(self.x), self.y),
        }
    }
}

impl<T: Stored> Job for ExactVec<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match (self.rows.shape().bits, S::WIDE) {
            (4, true) => all_dot::<S, T, _, 4>(simd, self.rows, self.range, &Exact4(self.x), self.y),
            (4, false) => all_dot::<S, T, _, 1>(simd, self.rows, self.range, &Exact4(self.x), self.y),
            (_, true) => all_dot::<S, T, _, 4>(simd, self.rows, self.range, &Exact8(self.x), self.y),
            (_, false) => all_dot::<S, T, _, 1>(simd, self.rows, self.range, &Exact8(self.x), self.y),
        }
    }
}

/// A row of f32 for products with the chunks of a matrix: lane j of vector i of a chunk is multiplied with code i of
/// word j.
#[derive(Default)]
pub(super) struct Spread {
    pub(super) vectors: Vec<[f32; LANES]>,
    /// The sum of each group.
    pub(super) sums: Vec<[f32; LANES]>,
}

/// Fills a `Spread`.
pub(super) struct SpreadVec<'a> {
    pub(super) shape: super::rows::Shape,
    pub(super) x: &'a [f32],
    pub(super) to: &'a mut Spread,
}

impl Job for SpreadVec<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let SpreadVec { shape, x, to } = self;
        let per_word = 32 / shape.bits;
        to.vectors.resize(shape.chunks() * per_word, [0.0; LANES]);
        to.sums.resize(shape.scale_vectors(), [0.0; LANES]);
        for (chunk, x) in to.vectors.chunks_exact_mut(per_word).zip(x.chunks(shape.per_chunk())) {
            for (j, word) in x.chunks_exact(per_word).enumerate() {
                for (vector, x) in chunk.iter_mut().zip(word) {
                    vector[j] = *x;
                }
            }
        }
        for (sum, x) in to.sums.as_flattened_mut().iter_mut().zip(x.chunks_exact(shape.group)) {
            let mut total = simd.splat(0.0);
            for x in x.as_chunks().0 {
                total = simd.add(total, simd.load(x));
            }
            *sum = simd.sum(total);
        }
    }
}
