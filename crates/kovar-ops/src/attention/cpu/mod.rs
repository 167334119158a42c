//! Attention on the CPU.

mod few;
mod many;

pub(super) use few::{Heads, Seen, advance, few};
pub(super) use many::many;

use crate::simd::{LANES, Simd, exp2, fma, largest};

/// Keys that pass through the first-level cache together, with their values: 32 KiB at a head size of 64. Results depend on it,
/// and on no other cut of the work.
pub(super) const KEYS: usize = 64;
/// Below every score, and far enough from infinity to be subtracted.
pub(super) const NONE: f32 = -1e30;

/// Turns `n` scores of a head into weights, raising its maximum and sum. Returns what earlier results shrink by.
#[inline(always)]
fn soften<S: Simd>(simd: S, p: &mut [f32; KEYS], n: usize, scale: f32, top: &mut f32, sum: &mut f32) -> f32 {
    let vectors = n.div_ceil(LANES);
    let rest = n..vectors * LANES;
    p[rest.clone()].fill(NONE);
    let p = &mut p.as_chunks_mut::<LANES>().0[..vectors];
    let mut highest = simd.splat(*top);
    for p in p.iter_mut() {
        let scaled = simd.mul(simd.load(p), simd.splat(scale));
        simd.store(scaled, p);
        highest = simd.max(scaled, highest);
    }
    let higher = largest(simd, highest);
    // One loop over all, which becomes vector code.
    for p in p.as_flattened_mut() {
        *p = exp2::<S>(*p - higher);
    }
    p.as_flattened_mut()[rest].fill(0.0);
    let mut sums = simd.splat(0.0);
    for p in p.iter() {
        sums = simd.add(sums, simd.load(p));
    }
    let shrink = exp2::<S>(*top - higher);
    *sum = fma::<S>(*sum, shrink, simd.sum(sums));
    *top = higher;
    shrink
}
