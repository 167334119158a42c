//! Many rows of rounded activations times sixteen rows of a quantised matrix, in 8 bits.
//!
//! A piece of the matrix is turned so that a lane is a row of it, with four codes side by side in a lane.
use super::mat::turned;
use super::round::{BLOCK, Block};
use super::rows::{CHUNK, Rows, Shape};
use crate::simd::{Job, LANES, Simd, Stored};

/// Columns of a piece: its codes take 16 KiB and stay in the nearest cache.
const PIECE: usize = 1024;
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
    fn run<S: Simd>(self, _: S) {
        let RoundRows { shape, x, to } = self;
        for (x, to) in x.chunks_exact(shape.k).zip(to.chunks_exact_mut(shape.record())) {
            let (codes, rest) = to.split_at_mut(shape.k / 4);
            let (scales, sums) = rest.split_at_mut(shape.k / BLOCK);
            let codes = bytemuck::cast_slice_mut::<u32, u8>(codes).as_chunks_mut::<BLOCK>().0;
            sums.fill(0);
            for (b, (x, codes)) in x.as_chunks::<BLOCK>().0.iter().zip(codes).enumerate() {
                let block = Block::of(x);
                if shape.bits == 4 {
                    let (even, odd) = block.split();
                    codes[..BLOCK / 2].copy_from_slice(&even);
                    codes[BLOCK / 2..].copy_from_slice(&odd);
                } else {
                    codes.copy_from_slice(bytemuck::cast_slice(&block.codes));
                }
                scales[b] = block.scale.to_bits();
                let sum = &mut sums[b * BLOCK / shape.group];
                *sum = (f32::from_bits(*sum) + block.sum).to_bits();
            }
        }
    }
}

/// A piece of sixteen rows of a matrix.
pub(super) struct Piece {
    /// For each block its vectors of codes.
    codes: Vec<[[u8; CHUNK]; STEPS]>,
    scales: Vec<[f32; LANES]>,
    biases: Vec<[f32; LANES]>,
}

impl Piece {
    /// Room for a piece of a matrix.
    pub(super) fn new(shape: &Shape) -> Piece {
        let blocks = PIECE.min(shape.k.next_multiple_of(shape.per_chunk())) / BLOCK;
        let scales = vec![[0.0; LANES]; PIECE / BLOCK];
        Piece { codes: vec![[[0; CHUNK]; STEPS]; blocks], biases: scales.clone(), scales }
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
        let mut row = [rows.row(first); LANES];
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
            self.scales[i * LANES..][..LANES].copy_from_slice(&turned(simd, scales));
            self.biases[i * LANES..][..LANES].copy_from_slice(&turned(simd, biases));
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
                        simd.store_bytes(simd.low_nibbles(*word), &mut block[j]);
                        simd.store_bytes(simd.high_nibbles(*word), &mut block[4 + j]);
                    }
                }
            } else {
                for (step, word) in blocks.as_flattened_mut().iter_mut().zip(words) {
                    simd.store_bytes(word, step);
                }
            }
        }
    }
}

/// Products of records with the rows `first..first + 16` of a matrix.
pub(super) struct PanelFast<'a, T> {
    pub(super) rows: &'a Rows<'a, T>,
    pub(super) first: usize,
    pub(super) records: &'a [u32],
    /// Room for a piece.
    pub(super) piece: &'a mut Piece,
    /// For each record, sixteen elements of y.
    pub(super) y: &'a mut [[f32; LANES]],
}

/// Four bytes of a block.
#[inline(always)]
fn word(block: &[u8; BLOCK], step: usize) -> [u8; 4] {
    [block[4 * step], block[4 * step + 1], block[4 * step + 2], block[4 * step + 3]]
}

/// Adds the products of some columns with `M` records; those beyond the last repeat it, and are not stored.
#[inline(always)]
fn tile<S: Simd, const M: usize, const BITS: usize>(
    simd: S,
    shape: &Shape,
    piece: &Piece,
    columns: std::ops::Range<usize>,
    records: &[u32],
    y: &mut [[f32; LANES]],
) {
    let blocks = columns.start / BLOCK..columns.end / BLOCK;
    let groups = columns.start / shape.group..columns.end / shape.group;
    let first_scale = Piece::first_scale(shape, columns.start);
    let mut x = [Record { codes: &[], scales: &[], sums: &[] }; M];
    let mut totals = [simd.splat(0.0); M];
    for i in 0..M {
        let row = i.min(y.len() - 1);
        let record = Record::of(shape, &records[row * shape.record()..][..shape.record()]);
        totals[i] = simd.load(&y[row]);
        for (g, biases) in groups.clone().zip(&piece.biases[first_scale..]) {
            totals[i] = simd.fma(simd.load(biases), simd.splat(record.sums[g]), totals[i]);
        }
        x[i] = Record { codes: &record.codes[blocks.clone()], scales: &record.scales[blocks.clone()], sums: &[] };
    }
    let per_group = (shape.group / BLOCK).trailing_zeros();
    for (b, codes) in piece.codes[..blocks.len()].iter().enumerate() {
        let mut sums = [simd.none(); M];
        if BITS == 4 {
            for j in 0..4 {
                let w = [simd.bytes(&codes[j]), simd.bytes(&codes[4 + j])];
                for i in 0..M {
                    let block = &x[i].codes[b];
                    let pair = [simd.splat_word(word(block, j)), simd.splat_word(word(block, 4 + j))];
                    sums[i] = simd.dot4(sums[i], w, pair);
                }
            }
        } else {
            for (j, w) in codes.iter().enumerate() {
                let w = simd.bytes(w);
                for i in 0..M {
                    sums[i] = simd.dot8(sums[i], w, simd.splat_word(word(&x[i].codes[b], j)));
                }
            }
        }
        let scales = simd.load(&piece.scales[first_scale + (b >> per_group)]);
        for i in 0..M {
            let sum = if BITS == 4 { simd.sums4(sums[i]) } else { simd.sums8(sums[i]) };
            totals[i] = simd.fma(sum, simd.mul(scales, simd.splat(x[i].scales[b])), totals[i]);
        }
    }
    for (y, total) in y.iter_mut().zip(totals) {
        simd.store(total, y);
    }
}

impl<T: Stored> PanelFast<'_, T> {
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const BITS: usize>(self, simd: S) {
        let PanelFast { rows, first, records, piece, y } = self;
        let shape = rows.shape();
        y.fill([0.0; LANES]);
        for from in (0..shape.k).step_by(PIECE) {
            let columns = from..(from + PIECE).min(shape.k);
            piece.fill(simd, rows, first, from, columns.len());
            for (records, y) in records.chunks(M * shape.record()).zip(y.chunks_mut(M)) {
                tile::<S, M, BITS>(simd, shape, piece, columns.clone(), records, y);
            }
        }
    }
}

impl<T: Stored> Job for PanelFast<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match (self.rows.shape().bits, S::WIDE) {
            (4, true) => self.tiles::<S, 8, 4>(simd),
            (4, false) => self.tiles::<S, 2, 4>(simd),
            (_, true) => self.tiles::<S, 8, 8>(simd),
            (_, false) => self.tiles::<S, 2, 8>(simd),
        }
    }
}
