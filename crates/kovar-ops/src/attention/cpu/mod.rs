//! Attention on the CPU.

mod block;
mod few;
mod many;

pub(super) use block::{Heads, Seen};
pub(super) use few::few;
pub(super) use many::many;

use std::ops::Range;

use kovar::CpuDispatch;

use super::Constants;
use crate::simd::{LANES, Simd, exp2, fma, largest};

/// Keys that pass through the first-level cache together, with their values: 32 KiB at a head size of 64. Results depend on it,
/// and on no other cut of the work.
pub(super) const KEYS: usize = 64;
/// Below every score, and far enough from infinity to be subtracted.
pub(super) const NONE: f32 = -1e30;

/// How a dispatch is cut into tasks. Results do not depend on it.
struct Plan {
    rows: usize,
    heads: usize,
    kv_heads: usize,
    size: usize,
    capacity: usize,
    /// Rows of a task.
    tile: usize,
    /// Query heads of a task.
    share: usize,
    /// Tasks that share a key-value head.
    splits: usize,
    scale: f32,
}

/// One task. Its queries are the heads of the first row, then those of the next.
struct Task {
    rows: Range<usize>,
    /// Query heads, of all.
    heads: Range<usize>,
    kv_head: usize,
}

impl Plan {
    /// `cut` gives rows and query heads of a task, of so many rows, key-value heads and query heads of each.
    fn new(dispatch: &CpuDispatch<'_>, cut: impl FnOnce(usize, usize, usize) -> (usize, usize)) -> Plan {
        let c: Constants = dispatch.constants();
        let (rows, heads, kv_heads) = (c.rows as usize, c.heads as usize, c.kv_heads as usize);
        let size = dispatch.byte_len(0) / 4 / (rows * heads);
        let grouped = heads / kv_heads;
        let (tile, share) = cut(rows, kv_heads, grouped);
        let (splits, capacity) = (grouped.div_ceil(share), c.capacity as usize);
        Plan { rows, heads, kv_heads, size, capacity, tile, share, splits, scale: c.scale }
    }

    fn tiles(&self) -> usize {
        self.rows.div_ceil(self.tile)
    }

    fn tasks(&self) -> usize {
        self.tiles() * self.kv_heads * self.splits
    }

    fn task(&self, number: usize) -> Task {
        let (number, split) = (number / self.splits, number % self.splits);
        let (tile, kv_head) = (number / self.kv_heads, number % self.kv_heads);
        // The last rows see most: they come first, so that threads end together.
        let first = (self.tiles() - 1 - tile) * self.tile;
        let grouped = self.heads / self.kv_heads;
        let head = kv_head * grouped + split * self.share;
        Task {
            rows: first..(first + self.tile).min(self.rows),
            heads: head..(head + self.share).min((kv_head + 1) * grouped),
            kv_head,
        }
    }
}

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
