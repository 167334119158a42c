//! Many rows of activations times sixteen rows of a matrix, in f32.
//!
//! The matrix is widened and turned, a piece of its columns at a time, so that a lane is a row of the matrix.
use super::rows::Rows;
use crate::simd::{Job, LANES, Simd, Stored};

/// Columns of a piece: it takes 16 KiB and stays in the nearest cache with the rows of x that meet it.
pub(super) const PIECE: usize = 256;

/// Sixteen rows of a matrix, which can be widened piece by piece.
pub(super) trait Panel {
    /// Widens columns from `from`, a multiple of `PIECE`, on. Rows beyond the last are copies of it.
    fn columns<S: Simd>(&self, simd: S, first: usize, from: usize, to: &mut [[f32; LANES]]);
}

/// Products of rows of x with the rows `first..first + 16` of a matrix.
pub(super) struct PanelMat<'a, P> {
    pub(super) panel: &'a P,
    pub(super) first: usize,
    /// Rows of `k`.
    pub(super) x: &'a [f32],
    pub(super) k: usize,
    /// Room for a piece: `PIECE` columns.
    pub(super) columns: &'a mut [[f32; LANES]],
    /// For each row of x, sixteen elements of y.
    pub(super) y: &'a mut [[f32; LANES]],
}

/// Adds the products with `M` rows of x; rows beyond the last repeat it, and are not stored.
#[inline(always)]
fn tile<S: Simd, const M: usize>(
    simd: S,
    columns: &[[f32; LANES]],
    x: &[f32],
    k: usize,
    from: usize,
    y: &mut [[f32; LANES]],
) {
    let mut rows: [&[f32]; M] = [&[]; M];
    let mut sums = [simd.splat(0.0); M];
    for i in 0..M {
        let row = i.min(y.len() - 1);
        rows[i] = &x[row * k + from..][..columns.len()];
        sums[i] = simd.load(&y[row]);
    }
    for (c, column) in columns.iter().enumerate() {
        let w = simd.load(column);
        for i in 0..M {
            sums[i] = simd.fma(w, simd.splat(rows[i][c]), sums[i]);
        }
    }
    for (y, sum) in y.iter_mut().zip(sums) {
        simd.store(sum, y);
    }
}

#[inline(always)]
fn tiles<S: Simd, const M: usize>(
    simd: S,
    columns: &[[f32; LANES]],
    x: &[f32],
    k: usize,
    from: usize,
    y: &mut [[f32; LANES]],
) {
    for (x, y) in x.chunks(M * k).zip(y.chunks_mut(M)) {
        tile::<S, M>(simd, columns, x, k, from, y);
    }
}

impl<P: Panel> Job for PanelMat<'_, P> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let PanelMat { panel, first, x, k, columns, y } = self;
        y.fill([0.0; LANES]);
        for from in (0..k).step_by(PIECE) {
            let columns = &mut columns[..PIECE.min(k - from)];
            panel.columns(simd, first, from, columns);
            if S::WIDE && y.len() > 4 {
                tiles::<S, 12>(simd, columns, x, k, from, y);
            } else {
                tiles::<S, 4>(simd, columns, x, k, from, y);
            }
        }
    }
}

/// Turns vectors of sixteen rows into columns.
#[inline(always)]
pub(super) fn turned<S: Simd>(simd: S, rows: [S::F; LANES]) -> [[f32; LANES]; LANES] {
    let mut bits = [simd.to_bits(rows[0]); LANES];
    for (bits, row) in bits.iter_mut().zip(rows) {
        *bits = simd.to_bits(row);
    }
    simd.transpose(&mut bits);
    let mut columns = [[0.0; LANES]; LANES];
    for (column, bits) in columns.iter_mut().zip(bits) {
        simd.store(simd.of_bits(bits), column);
    }
    columns
}

impl<T: Stored> Panel for Rows<'_, T> {
    #[inline(always)]
    fn columns<S: Simd>(&self, simd: S, first: usize, from: usize, to: &mut [[f32; LANES]]) {
        let shape = self.shape();
        let mut rows = [self.row(first); LANES];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = self.row((first + r).min(shape.n - 1));
        }
        // A piece is at most eight groups, which lie in one vector.
        let (v, group) = (from / shape.group / LANES, from / shape.group % LANES);
        let (mut scales, mut biases) = ([simd.splat(0.0); LANES], [simd.splat(0.0); LANES]);
        for r in 0..LANES {
            scales[r] = T::load(simd, &rows[r].scales[v]);
            biases[r] = T::load(simd, &rows[r].biases[v]);
        }
        let (scales, biases) = (turned(simd, scales), turned(simd, biases));
        let per_word = 32 / shape.bits;
        for (chunk, to) in (from / shape.per_chunk()..).zip(to.chunks_mut(shape.per_chunk())) {
            let mut words = [simd.bytes(&rows[0].codes[chunk]); LANES];
            for (word, row) in words.iter_mut().zip(&rows) {
                *word = simd.bytes(&row.codes[chunk]);
            }
            simd.transpose(&mut words);
            let at = chunk * shape.per_chunk() - from;
            for (i, (word, to)) in words.iter().zip(to.chunks_exact_mut(per_word)).enumerate() {
                let g = group + (at + i * per_word) / shape.group;
                let (s, b) = (simd.load(&scales[g]), simd.load(&biases[g]));
                if shape.bits == 4 {
                    simd.store(simd.fma(simd.nibble::<0>(*word), s, b), &mut to[0]);
                    simd.store(simd.fma(simd.nibble::<4>(*word), s, b), &mut to[1]);
                    simd.store(simd.fma(simd.nibble::<8>(*word), s, b), &mut to[2]);
                    simd.store(simd.fma(simd.nibble::<12>(*word), s, b), &mut to[3]);
                    simd.store(simd.fma(simd.nibble::<16>(*word), s, b), &mut to[4]);
                    simd.store(simd.fma(simd.nibble::<20>(*word), s, b), &mut to[5]);
                    simd.store(simd.fma(simd.nibble::<24>(*word), s, b), &mut to[6]);
                    simd.store(simd.fma(simd.nibble::<28>(*word), s, b), &mut to[7]);
                } else {
                    simd.store(simd.fma(simd.byte::<0>(*word), s, b), &mut to[0]);
                    simd.store(simd.fma(simd.byte::<8>(*word), s, b), &mut to[1]);
                    simd.store(simd.fma(simd.byte::<16>(*word), s, b), &mut to[2]);
                    simd.store(simd.fma(simd.byte::<24>(*word), s, b), &mut to[3]);
                }
            }
        }
    }
}

/// A dense matrix [n, k].
pub(super) struct DensePanel<'a, T> {
    pub(super) weights: &'a [T],
    pub(super) n: usize,
    pub(super) k: usize,
}

impl<T: Stored> Panel for DensePanel<'_, T> {
    #[inline(always)]
    fn columns<S: Simd>(&self, simd: S, first: usize, from: usize, to: &mut [[f32; LANES]]) {
        for (from, to) in (from..).step_by(LANES).zip(to.chunks_mut(LANES)) {
            let mut rows = [simd.splat(0.0); LANES];
            for (r, row) in rows.iter_mut().enumerate() {
                let weights = &self.weights[(first + r).min(self.n - 1) * self.k + from..][..to.len()];
                *row = match weights.first_chunk() {
                    Some(whole) => T::load(simd, whole),
                    None => {
                        let mut vector = [T::zeroed(); LANES];
                        vector[..weights.len()].copy_from_slice(weights);
                        T::load(simd, &vector)
                    }
                };
            }
            let columns = turned(simd, rows);
            to.copy_from_slice(&columns[..to.len()]);
        }
    }
}
