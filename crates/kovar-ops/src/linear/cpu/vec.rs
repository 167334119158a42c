//! One row of activations times a quantised matrix.
use std::ops::Range;

use super::round::Rounded;
use super::rows::{CHUNK, Lanes, Line, Row, Rows, Strip};
use crate::simd::{Job, LANES, Simd, Stored};

/// Bytes of codes between those in use and those that memory is asked for.
const AHEAD: usize = 4096;
/// Chunks of a short row.
const SHORT: usize = 4;

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
    /// What of x belongs to a chunk, in memory.
    type Part: Copy;
    /// The same in registers.
    type X<S: Simd>: Copy;
    fn load<S: Simd>(simd: S, part: &Self::Part) -> Self::X<S>;
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F;
    /// Applies the scales of the weights and adds.
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, x: Self::X<S>, sum: S::F) -> S::F;
}

struct Fast4;
struct Fast8;
struct Exact4;
struct Exact8;

impl Chunks for Fast4 {
    type Part = [Line; 3];
    type X<S: Simd> = ([S::I; 2], S::F);

    #[inline(always)]
    fn load<S: Simd>(simd: S, [low, high, scales]: &[Line; 3]) -> Self::X<S> {
        ([simd.bytes(&low.0), simd.bytes(&high.0)], simd.of_bits(simd.bytes(&scales.0)))
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
}

impl Chunks for Fast8 {
    type Part = [Line; 2];
    type X<S: Simd> = (S::I, S::F);

    #[inline(always)]
    fn load<S: Simd>(simd: S, [codes, scales]: &[Line; 2]) -> Self::X<S> {
        (simd.bytes(&codes.0), simd.of_bits(simd.bytes(&scales.0)))
    }

    #[inline(always)]
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F {
        simd.sums8(simd.dot8(simd.none(), simd.bytes(codes), x.0))
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, x: Self::X<S>, sum: S::F) -> S::F {
        simd.fma(dot, simd.mul(scales, x.1), sum)
    }
}

impl Chunks for Exact4 {
    type Part = [Lanes; 8];
    type X<S: Simd> = [S::F; 8];

    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Lanes; 8]) -> Self::X<S> {
        [
            simd.load(&x[0].0),
            simd.load(&x[1].0),
            simd.load(&x[2].0),
            simd.load(&x[3].0),
            simd.load(&x[4].0),
            simd.load(&x[5].0),
            simd.load(&x[6].0),
            simd.load(&x[7].0),
        ]
    }

    #[inline(always)]
    fn dot<S: Simd>(simd: S, codes: &[u8; CHUNK], x: Self::X<S>) -> S::F {
        let q = simd.bytes(codes);
        let mut sum = simd.mul(simd.placed_nibble::<0>(q), x[0]);
        sum = simd.fma(simd.placed_nibble::<4>(q), x[1], sum);
        sum = simd.fma(simd.placed_nibble::<8>(q), x[2], sum);
        sum = simd.fma(simd.placed_nibble::<12>(q), x[3], sum);
        sum = simd.fma(simd.placed_nibble::<16>(q), x[4], sum);
        sum = simd.fma(simd.placed_nibble::<20>(q), x[5], sum);
        sum = simd.fma(simd.placed_nibble::<24>(q), x[6], sum);
        simd.fma(simd.placed_nibble::<28>(q), x[7], sum)
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, dot: S::F, scales: S::F, _: Self::X<S>, sum: S::F) -> S::F {
        simd.fma(dot, scales, sum)
    }
}

impl Chunks for Exact8 {
    type Part = [Lanes; 4];
    type X<S: Simd> = [S::F; 4];

    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Lanes; 4]) -> Self::X<S> {
        [simd.load(&x[0].0), simd.load(&x[1].0), simd.load(&x[2].0), simd.load(&x[3].0)]
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
}

/// A row of x: the parts that belong to chunks, and the sum of each group.
#[derive(Clone, Copy)]
struct Parts<'a, P> {
    parts: &'a [P],
    sums: &'a [Lanes],
}

impl<P> Parts<'_, P> {
    /// As [`Row::block`].
    #[inline(always)]
    fn block(&self, number: usize, full: usize, count: usize) -> Self {
        Parts { parts: &self.parts[number * full..][..count], sums: &self.sums[number..][..1] }
    }
}

impl Rounded {
    #[inline(always)]
    fn parts<const LINES: usize>(&self) -> Parts<'_, [Line; LINES]> {
        Parts { parts: self.lines.as_chunks().0, sums: &self.sums }
    }
}

impl Spread {
    #[inline(always)]
    fn parts<const VECTORS: usize>(&self) -> Parts<'_, [Lanes; VECTORS]> {
        Parts { parts: self.vectors.as_chunks().0, sums: &self.sums }
    }
}

/// Adds the products of `R` rows with a block: chunks that have one vector of scales, of which `left` count. `SCALED`: lanes
/// of a chunk that have one scale, and chunks of a full block.
#[inline(always)]
fn block_dot<S: Simd, T: Stored, C: Chunks, const R: usize, const SCALED: usize>(
    simd: S,
    rows: [Row<'_, T>; R],
    left: usize,
    x: Parts<'_, C::Part>,
    sums: &mut [S::F; R],
) {
    let x_sums = simd.load(&x.sums[0].0);
    let mut codes: [&[[u8; CHUNK]]; R] = [&[]; R];
    let mut scales = [simd.scales(simd.splat(0.0)); R];
    for r in 0..R {
        // Of one length, so that the loads below need no check.
        codes[r] = &rows[r].codes[..x.parts.len()];
        let (s, b) = (&rows[r].scales[0], &rows[r].biases[0]);
        // A block of codes has one vector of each: those of the codes that are asked for below.
        simd.prefetch(s.as_ptr().wrapping_add(AHEAD / (SCALED * CHUNK) * LANES).cast());
        simd.prefetch(b.as_ptr().wrapping_add(AHEAD / (SCALED * CHUNK) * LANES).cast());
        let (mut s, mut b) = (T::load(simd, s), T::load(simd, b));
        if left < LANES {
            (s, b) = (simd.keep(s, left), simd.keep(b, left));
        }
        scales[r] = simd.scales(s);
        sums[r] = simd.fma(b, x_sums, sums[r]);
    }
    for (c, part) in x.parts.iter().enumerate() {
        let x = C::load(simd, part);
        for r in 0..R {
            simd.prefetch(codes[r][c].as_ptr().wrapping_add(AHEAD));
            let dot = C::dot(simd, &codes[r][c], x);
            sums[r] = C::scaled(simd, dot, simd.spread(&scales[r], c * LANES / SCALED, SCALED), x, sums[r]);
        }
    }
}

/// `R` rows together: they share the loads of x, and their sums do not wait for each other.
#[inline(always)]
fn rows_dot<S: Simd, T: Stored, C: Chunks, const R: usize, const SCALED: usize>(
    simd: S,
    rows: [Row<'_, T>; R],
    groups: usize,
    x: Parts<'_, C::Part>,
    y: &mut [f32; R],
) {
    let mut sums = [simd.splat(0.0); R];
    for number in 0..x.sums.len() {
        let left = groups - number * LANES;
        let mut block = rows;
        if left >= LANES {
            // Full blocks apart: their number of chunks is a constant, so that the loop over them is unrolled.
            for r in 0..R {
                block[r] = rows[r].block(number, SCALED, SCALED);
            }
            block_dot::<S, T, C, R, SCALED>(simd, block, LANES, x.block(number, SCALED, SCALED), &mut sums);
        } else {
            let count = x.parts.len() - number * SCALED;
            for r in 0..R {
                block[r] = rows[r].block(number, SCALED, count);
            }
            block_dot::<S, T, C, R, SCALED>(simd, block, left, x.block(number, SCALED, count), &mut sums);
        }
    }
    for r in 0..R {
        y[r] = simd.sum(sums[r]);
    }
}

/// All rows of a range, `R` at a time.
#[inline(always)]
fn all_dot<S: Simd, T: Stored, C: Chunks, const R: usize>(
    simd: S,
    rows: &Rows<'_, T>,
    range: Range<usize>,
    x: Parts<'_, C::Part>,
    y: &mut [f32],
) {
    let shape = rows.shape();
    let (groups, lanes) = (shape.groups(), shape.lanes_per_scale());
    let mut rest = y;
    for (strip, range) in rows.strips(range) {
        let y;
        (y, rest) = rest.split_at_mut(range.len());
        match lanes {
            4 => strip_dot::<S, T, C, R, 4>(simd, (&strip, range.start), groups, x, y),
            8 => strip_dot::<S, T, C, R, 8>(simd, (&strip, range.start), groups, x, y),
            16 => strip_dot::<S, T, C, R, 16>(simd, (&strip, range.start), groups, x, y),
            _ => strip_dot::<S, T, C, R, 32>(simd, (&strip, range.start), groups, x, y),
        }
    }
}

/// Rows of a strip from `first` on.
#[inline(always)]
fn strip_dot<S: Simd, T: Stored, C: Chunks, const R: usize, const SCALED: usize>(
    simd: S,
    (strip, mut first): (&Strip<'_, T>, usize),
    groups: usize,
    x: Parts<'_, C::Part>,
    y: &mut [f32],
) {
    let (together, single) = y.as_chunks_mut::<R>();
    for y in together {
        let mut rows = [strip.row(first); R];
        #[allow(clippy::needless_range_loop)]
        for r in 1..R {
            rows[r] = strip.row(first + r);
        }
        rows_dot::<S, T, C, R, SCALED>(simd, rows, groups, x, y);
        first += R;
    }
    for y in single {
        rows_dot::<S, T, C, 1, SCALED>(simd, [strip.row(first)], groups, x, std::array::from_mut(y));
        first += 1;
    }
}

impl<T: Stored> Job for FastVec<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let FastVec { rows, range, x, y } = self;
        // Few rows: memory sets the pace, and fewer streams suit it better. Short ones wait for their ends: two do at once.
        let short = rows.shape().chunks() <= SHORT;
        match (rows.shape().bits, S::STREAMS) {
            (4, 1) if !short => all_dot::<S, T, Fast4, 1>(simd, rows, range, x.parts(), y),
            (4, _) => all_dot::<S, T, Fast4, 2>(simd, rows, range, x.parts(), y),
            (_, 1) => all_dot::<S, T, Fast8, 1>(simd, rows, range, x.parts(), y),
            (_, 2) => all_dot::<S, T, Fast8, 2>(simd, rows, range, x.parts(), y),
            (_, _) => all_dot::<S, T, Fast8, 4>(simd, rows, range, x.parts(), y),
        }
    }
}

impl<T: Stored> Job for ExactVec<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ExactVec { rows, range, x, y } = self;
        match (rows.shape().bits, S::WIDE) {
            (4, true) => all_dot::<S, T, Exact4, 4>(simd, rows, range, x.parts(), y),
            (4, false) => all_dot::<S, T, Exact4, 1>(simd, rows, range, x.parts(), y),
            (_, true) => all_dot::<S, T, Exact8, 4>(simd, rows, range, x.parts(), y),
            (_, false) => all_dot::<S, T, Exact8, 1>(simd, rows, range, x.parts(), y),
        }
    }
}

/// A row of f32 for products with the chunks of a matrix: lane j of vector i of a chunk is multiplied with code i of
/// word j, and so many times smaller as [`Simd::placed_nibble`] is larger.
#[derive(Default)]
pub(super) struct Spread {
    pub(super) vectors: Vec<Lanes>,
    /// The sum of each group.
    pub(super) sums: Vec<Lanes>,
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
        to.vectors.resize(shape.chunks() * per_word, Lanes([0.0; LANES]));
        to.sums.resize(shape.scale_vectors(), Lanes([0.0; LANES]));
        let mut units = [1.0; 8];
        if shape.bits == 4 {
            units = std::array::from_fn(|i| 1.0 / simd.place(4 * i as u32));
        }
        for (chunk, x) in to.vectors.chunks_exact_mut(per_word).zip(x.chunks(shape.per_chunk())) {
            for (j, word) in x.chunks_exact(per_word).enumerate() {
                for ((vector, x), unit) in chunk.iter_mut().zip(word).zip(units) {
                    vector.0[j] = x * unit;
                }
            }
        }
        let sums = to.sums.iter_mut().flat_map(|lanes| &mut lanes.0);
        for (sum, x) in sums.zip(x.chunks_exact(shape.group)) {
            let mut total = simd.splat(0.0);
            for x in x.as_chunks().0 {
                total = simd.add(total, simd.load(x));
            }
            *sum = simd.sum(total);
        }
    }
}
