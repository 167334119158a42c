//! Many rows of rounded activations times some rows of a quantised matrix, in 8 bits.
//!
//! A piece of the matrix is turned so that a lane is a row of it, with four codes side by side in a lane. Two panels of sixteen
//! rows are multiplied together where registers allow, so that each word of x is loaded once for both.
use std::ops::Range;

use super::mat::turned;
use super::round::{BLOCK, Block};
use super::rows::{CHUNK, Lanes, Rows, Shape};
use crate::simd::{Job, LANES, Simd, Stored};

/// Columns of a piece: its codes take 16 KiB a panel and stay in the nearest cache.
const PIECE: usize = 1024;
/// Panels of sixteen rows of the matrix that a task has.
const PANELS: usize = 2;
/// Rows of the matrix that a task has: elements of each of its rows of y.
pub(super) const WIDTH: usize = PANELS * LANES;
/// Vectors of codes of a block of columns.
const STEPS: usize = BLOCK / 4;

/// A row rounded to 8 bits, as it lies in scratch memory: codes (of 4-bit matrices, each block with its even elements
/// first), then a scale for each block, then the sum of each group.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    codes: &'a [[u8; BLOCK]],
    scales: &'a [f32],
    sums: &'a [f32],
}

impl Shape {
    /// Words of a record.
    pub(super) fn record(&self) -> usize {
        super::super::record_words(self.k, self.group)
    }
}

impl<'a> Record<'a> {
    #[inline(always)]
    fn of(shape: &Shape, words: &'a [u32]) -> Record<'a> {
        let (codes, rest) = words.split_at(shape.k / 4);
        let (scales, sums) = rest.split_at(shape.k / BLOCK);
        Record {
            codes: bytemuck::cast_slice(codes).as_chunks().0,
            scales: bytemuck::cast_slice(scales),
            sums: bytemuck::cast_slice(&sums[..shape.groups()]),
        }
    }
}

/// Rounds rows into records.
pub(super) struct RoundRows<'a> {
    pub(super) shape: Shape,
    pub(super) x: &'a [f32],
    pub(super) to: &'a mut [u32],
}

impl Job for RoundRows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let RoundRows { shape, x, to } = self;
        for (x, to) in x.chunks_exact(shape.k).zip(to.chunks_exact_mut(shape.record())) {
            let (codes, rest) = to.split_at_mut(shape.k / 4);
            let (scales, sums) = rest.split_at_mut(shape.k / BLOCK);
            let codes = bytemuck::cast_slice_mut::<u32, u8>(codes).as_chunks_mut::<BLOCK>().0;
            sums.fill(0);
            for (b, (x, codes)) in x.as_chunks::<BLOCK>().0.iter().zip(codes).enumerate() {
                let block = Block::of(simd, x);
                if shape.bits == 4 {
                    let [even, odd] = block.split();
                    codes[..BLOCK / 2].copy_from_slice(&even);
                    codes[BLOCK / 2..].copy_from_slice(&odd);
                } else {
                    codes.copy_from_slice(&block.codes());
                }
                scales[b] = block.scale.to_bits();
                let sum = &mut sums[b * BLOCK / shape.group];
                *sum = (f32::from_bits(*sum) + block.sum).to_bits();
            }
        }
    }
}

/// A piece of sixteen rows of a matrix.
#[derive(Clone)]
struct Panel {
    /// For each block its vectors of codes.
    codes: Vec<Codes>,
    scales: Vec<Lanes>,
    biases: Vec<Lanes>,
}

/// Vectors of codes, on cache lines: a load that straddles two takes twice as long.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Codes([[u8; CHUNK]; STEPS]);

impl Panel {
    fn new(shape: &Shape) -> Panel {
        let blocks = PIECE.min(shape.k.next_multiple_of(shape.per_chunk())) / BLOCK;
        let scales = vec![Lanes([0.0; LANES]); PIECE / BLOCK];
        Panel { codes: vec![Codes([[0; CHUNK]; STEPS]); blocks], biases: scales.clone(), scales }
    }

    /// Where the scales of a piece begin: it may be less than a vector of them.
    #[inline(always)]
    fn first_scale(shape: &Shape, from: usize) -> usize {
        from / shape.group % LANES
    }

    /// Turns columns from `from` on. Rows beyond the last are copies of it.
    #[inline(always)]
    fn fill<S: Simd, T: Stored>(&mut self, simd: S, rows: &Rows<'_, T>, first: usize, from: usize, columns: usize) {
        let shape = rows.shape();
        let mut row = [rows.row(first.min(shape.n - 1)); LANES];
        #[allow(clippy::needless_range_loop)]
        for r in 1..LANES {
            row[r] = rows.row((first + r).min(shape.n - 1));
        }
        let groups = from / shape.group / LANES..(from + columns).div_ceil(shape.group).div_ceil(LANES);
        for (i, v) in groups.enumerate() {
            let (mut scales, mut biases) = ([simd.splat(0.0); LANES], [simd.splat(0.0); LANES]);
            for r in 0..LANES {
                scales[r] = T::load(simd, &row[r].scales[v]);
                biases[r] = T::load(simd, &row[r].biases[v]);
            }
            self.scales[i * LANES..][..LANES].copy_from_slice(&turned(simd, scales).map(Lanes));
            self.biases[i * LANES..][..LANES].copy_from_slice(&turned(simd, biases).map(Lanes));
        }
        let per_chunk = shape.per_chunk();
        for (i, chunk) in (from / per_chunk..(from + columns).div_ceil(per_chunk)).enumerate() {
            let mut words = [simd.bytes(&row[0].codes[chunk]); LANES];
            for (word, row) in words.iter_mut().zip(&row) {
                *word = simd.bytes(&row.codes[chunk]);
            }
            simd.transpose(&mut words);
            let blocks = &mut self.codes[i * per_chunk / BLOCK..][..per_chunk / BLOCK];
            if shape.bits == 4 {
                for (block, words) in blocks.iter_mut().zip(words.chunks_exact(4)) {
                    for (j, word) in words.iter().enumerate() {
                        simd.store_bytes(simd.low_nibbles(*word), &mut block.0[j]);
                        simd.store_bytes(simd.high_nibbles(*word), &mut block.0[4 + j]);
                    }
                }
            } else {
                for (block, words) in blocks.iter_mut().zip(words.chunks_exact(STEPS)) {
                    for (step, word) in block.0.iter_mut().zip(words) {
                        simd.store_bytes(*word, step);
                    }
                }
            }
        }
    }
}

/// A piece of all rows of a task.
pub(super) struct Piece([Panel; PANELS]);

impl Piece {
    /// Room for a piece of a matrix.
    pub(super) fn new(shape: &Shape) -> Piece {
        Piece(std::array::from_fn(|_| Panel::new(shape)))
    }
}

/// Products of records with the rows `first..first + WIDTH` of a matrix.
pub(super) struct PanelFast<'a, T> {
    pub(super) rows: &'a Rows<'a, T>,
    pub(super) first: usize,
    pub(super) records: &'a [u32],
    /// Room for a piece.
    pub(super) piece: &'a mut Piece,
    /// For each record, the elements of y.
    pub(super) y: &'a mut [[f32; WIDTH]],
}

/// Four bytes of a block.
#[inline(always)]
fn word(block: &[u8; BLOCK], step: usize) -> [u8; 4] {
    [block[4 * step], block[4 * step + 1], block[4 * step + 2], block[4 * step + 3]]
}

/// A piece as a tile needs it.
struct Part<'a> {
    shape: &'a Shape,
    columns: Range<usize>,
    panels: &'a [Panel],
    /// Number of the first of the panels.
    first: usize,
}

/// Rows of the matrix that come next, asked for while those before are multiplied: to turn them, all must be there.
struct Ahead<'a, T> {
    rows: &'a Rows<'a, T>,
    next: Range<usize>,
    columns: Range<usize>,
    /// Rows that a tile asks for.
    each: usize,
}

impl<T: Stored> Ahead<'_, T> {
    #[inline(always)]
    fn ask<S: Simd>(&mut self, simd: S) {
        let shape = self.rows.shape();
        for row in self.next.by_ref().take(self.each) {
            let row = self.rows.row(row);
            let scales = self.columns.start / shape.group / LANES;
            simd.prefetch(row.scales[scales].as_ptr().cast());
            simd.prefetch(row.biases[scales].as_ptr().cast());
            let per_chunk = shape.per_chunk();
            for chunk in self.columns.start / per_chunk..self.columns.end.div_ceil(per_chunk) {
                simd.prefetch(row.codes[chunk].as_ptr());
            }
        }
    }
}

/// Adds the products of some columns of `P` panels with `M` records; those beyond the last repeat it, and are not stored.
// Indices, as rows and panels run through several arrays.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn tile<S: Simd, const M: usize, const P: usize, const BITS: usize>(
    simd: S,
    part: &Part<'_>,
    records: &[u32],
    y: &mut [[f32; WIDTH]],
) {
    let Part { shape, columns, .. } = part;
    let blocks = columns.start / BLOCK..columns.end / BLOCK;
    let groups = columns.start / shape.group..columns.end / shape.group;
    let first_scale = Panel::first_scale(shape, columns.start);
    let mut codes: [&[Codes]; P] = [&[]; P];
    for (codes, panel) in codes.iter_mut().zip(part.panels) {
        *codes = &panel.codes[..blocks.len()];
    }
    let mut x = [Record { codes: &[], scales: &[], sums: &[] }; M];
    let mut totals = [[simd.splat(0.0); P]; M];
    for i in 0..M {
        let row = i.min(y.len() - 1);
        let record = Record::of(shape, &records[row * shape.record()..][..shape.record()]);
        for p in 0..P {
            totals[i][p] = simd.load(&y[row].as_chunks().0[part.first + p]);
        }
        x[i] = Record {
            codes: &record.codes[blocks.clone()],
            scales: &record.scales[blocks.clone()],
            sums: &record.sums[groups.clone()],
        };
    }
    for g in 0..groups.len() {
        for p in 0..P {
            let biases = simd.load(&part.panels[p].biases[first_scale + g].0);
            for i in 0..M {
                totals[i][p] = simd.fma(biases, simd.splat(x[i].sums[g]), totals[i][p]);
            }
        }
    }
    let per_group = (shape.group / BLOCK).trailing_zeros();
    for b in 0..blocks.len() {
        let mut sums = [[simd.none(); P]; M];
        if BITS == 4 {
            for j in 0..4 {
                let mut w = [[simd.bytes(&codes[0][b].0[j]); 2]; P];
                for p in 0..P {
                    w[p] = [simd.bytes(&codes[p][b].0[j]), simd.bytes(&codes[p][b].0[4 + j])];
                }
                for i in 0..M {
                    let block = &x[i].codes[b];
                    let pair = [simd.splat_word(word(block, j)), simd.splat_word(word(block, 4 + j))];
                    for p in 0..P {
                        sums[i][p] = simd.dot4(sums[i][p], w[p], pair);
                    }
                }
            }
        } else {
            for j in 0..STEPS {
                let mut w = [simd.bytes(&codes[0][b].0[j]); P];
                for p in 0..P {
                    w[p] = simd.bytes(&codes[p][b].0[j]);
                }
                for i in 0..M {
                    let x = simd.splat_word(word(&x[i].codes[b], j));
                    for p in 0..P {
                        sums[i][p] = simd.dot8(sums[i][p], w[p], x);
                    }
                }
            }
        }
        for p in 0..P {
            let scales = simd.load(&part.panels[p].scales[first_scale + (b >> per_group)].0);
            for i in 0..M {
                let sum = if BITS == 4 { simd.sums4(sums[i][p]) } else { simd.sums8(sums[i][p]) };
                totals[i][p] = simd.fma(sum, simd.mul(scales, simd.splat(x[i].scales[b])), totals[i][p]);
            }
        }
    }
    for (y, totals) in y.iter_mut().zip(totals) {
        for (p, total) in totals.into_iter().enumerate() {
            simd.store(total, &mut y.as_chunks_mut().0[part.first + p]);
        }
    }
}

/// All records in tiles of `M`, the last few in twos.
#[inline(always)]
fn tiles<S: Simd, T: Stored, const M: usize, const P: usize, const BITS: usize>(
    simd: S,
    part: &Part<'_>,
    records: &[u32],
    y: &mut [[f32; WIDTH]],
    ahead: &mut Ahead<'_, T>,
) {
    let (record, whole) = (part.shape.record(), y.len() / M * M);
    let (y, rest) = y.split_at_mut(whole);
    for (records, y) in records.chunks(M * record).zip(y.chunks_mut(M)) {
        ahead.ask(simd);
        tile::<S, M, P, BITS>(simd, part, records, y);
    }
    for (records, y) in records[whole * record..].chunks(2 * record).zip(rest.chunks_mut(2)) {
        tile::<S, 2, P, BITS>(simd, part, records, y);
    }
}

impl<T: Stored> PanelFast<'_, T> {
    #[inline(always)]
    fn pieces<S: Simd, const M: usize, const P: usize, const BITS: usize>(self, simd: S) {
        let PanelFast { rows, first, records, piece, y } = self;
        let shape = rows.shape();
        y.fill([0.0; WIDTH]);
        for from in (0..shape.k).step_by(PIECE) {
            let columns = from..(from + PIECE).min(shape.k);
            // The next piece of these rows, or the first of the next.
            let (next, start) = if columns.end < shape.k { (first, columns.end) } else { (first + WIDTH, 0) };
            let mut ahead = Ahead {
                rows,
                next: next.min(shape.n)..(next + WIDTH).min(shape.n),
                columns: start..(start + PIECE).min(shape.k),
                each: WIDTH.div_ceil(PANELS / P * y.len().div_ceil(M)),
            };
            for (p, panel) in piece.0.iter_mut().enumerate() {
                panel.fill(simd, rows, first + p * LANES, from, columns.len());
            }
            for (panels, first) in piece.0.chunks(P).zip((0..).step_by(P)) {
                let part = Part { shape, columns: columns.clone(), panels, first };
                tiles::<S, T, M, P, BITS>(simd, &part, records, y, &mut ahead);
            }
        }
    }
}

impl<T: Stored> Job for PanelFast<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match (self.rows.shape().bits, S::WIDE) {
            (4, true) => self.pieces::<S, 6, PANELS, 4>(simd),
            (4, false) => self.pieces::<S, 2, 1, 4>(simd),
            (_, true) => self.pieces::<S, 6, PANELS, 8>(simd),
            (_, false) => self.pieces::<S, 2, 1, 8>(simd),
        }
    }
}
