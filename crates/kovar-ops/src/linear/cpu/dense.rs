//! One row of activations times a dense matrix.
use std::ops::Range;

use crate::simd::{Job, LANES, Simd, Stored};

/// Products of a row of x with some rows of a matrix.
pub(super) struct DenseVec<'a, T> {
    pub(super) weights: &'a [T],
    pub(super) range: Range<usize>,
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
}

/// The last elements of a row, filled up with zeros.
#[inline(always)]
fn padded<T: bytemuck::Pod>(rest: &[T]) -> [T; LANES] {
    let mut vector = [T::zeroed(); LANES];
    vector[..rest.len()].copy_from_slice(rest);
    vector
}

/// `R` rows together.
#[inline(always)]
fn rows_dot<S: Simd, T: Stored, const R: usize>(simd: S, rows: [&[T]; R], x: &[f32], y: &mut [f32; R]) {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let mut vectors: [&[[T; LANES]]; R] = [&[]; R];
    for r in 0..R {
        vectors[r] = rows[r].as_chunks().0;
        // Said once, so that the loads below need no check.
        assert!(vectors[r].len() == x.len());
    }
    let mut sums = [simd.splat(0.0); R];
    for (i, x) in x.iter().enumerate() {
        let x = simd.load(x);
        for r in 0..R {
            sums[r] = simd.fma(T::load(simd, &vectors[r][i]), x, sums[r]);
        }
    }
    if !x_rest.is_empty() {
        let x = simd.load(&padded(x_rest));
        for r in 0..R {
            sums[r] = simd.fma(T::load(simd, &padded(rows[r].as_chunks::<LANES>().1)), x, sums[r]);
        }
    }
    for r in 0..R {
        y[r] = simd.sum(sums[r]);
    }
}

impl<T: Stored> Job for DenseVec<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let DenseVec { weights, range, x, y } = self;
        let k = x.len();
        let (together, single) = y.as_chunks_mut::<4>();
        for (i, y) in together.iter_mut().enumerate() {
            let rows = &weights[(range.start + 4 * i) * k..][..4 * k];
            let rows = [&rows[..k], &rows[k..2 * k], &rows[2 * k..3 * k], &rows[3 * k..]];
            rows_dot(simd, rows, x, y);
        }
        for (row, y) in (range.end - single.len()..range.end).zip(single) {
            rows_dot(simd, [&weights[row * k..][..k]], x, std::array::from_mut(y));
        }
    }
}
