//! Query heads of one row that see a block of keys and values.

use std::ops::Range;

use super::{KEYS, NONE, soften};
use crate::simd::{LANES, Simd, load_some, store_some};

/// Bytes between the keys or values in use and those that memory is asked for: heads lie a whole row apart, where processors do
/// not look ahead by themselves.
const AHEAD: usize = 4096;
/// Values that results take in at a time where registers do not hold whole results: few enough to stay in the first-level cache,
/// in which heads a power of two apart share few places.
const TOGETHER: usize = 4;

/// Keys and values of consecutive key-value heads.
#[derive(Clone, Copy)]
pub(in crate::attention) struct Seen<'a> {
    pub(in crate::attention) keys: &'a [f32],
    pub(in crate::attention) values: &'a [f32],
    /// From one position to the next.
    pub(in crate::attention) pitch: usize,
    /// Positions.
    pub(in crate::attention) n: usize,
}

impl Seen<'_> {
    pub(in crate::attention) const NOTHING: Seen<'static> = Seen { keys: &[], values: &[], pitch: 0, n: 0 };

    /// Where the keys of a position lie in memory, or as there are only `n`, the values of one.
    #[inline(always)]
    fn key_at(&self, j: usize) -> *const f32 {
        match j.checked_sub(self.n) {
            None => self.keys.as_ptr().wrapping_add(j * self.pitch),
            Some(next) => self.values.as_ptr().wrapping_add(next * self.pitch),
        }
    }

    /// Where the values of a position lie, or after the last the keys of the next block.
    #[inline(always)]
    fn value_at(&self, j: usize) -> *const f32 {
        let from = if j < self.n { self.values } else { self.keys };
        from.as_ptr().wrapping_add(j * self.pitch)
    }
}

/// Query heads of consecutive key-value heads, with what they have seen.
pub(in crate::attention) struct Heads {
    size: usize,
    /// Query heads of a key-value head.
    grouped: usize,
    kv_heads: usize,
    /// The sum of values, by weights that are relative to the maximum.
    pub(in crate::attention) y: Vec<f32>,
    /// Of each query head, the maximum of its scores and the sum of its weights.
    pub(in crate::attention) tops: Vec<f32>,
    pub(in crate::attention) sums: Vec<f32>,
    shrinks: Vec<f32>,
    weights: Vec<[f32; KEYS]>,
}

impl Heads {
    /// So many query heads of each of so many key-value heads, which have seen nothing.
    pub(in crate::attention) fn new(kv_heads: usize, grouped: usize, size: usize) -> Heads {
        let heads = kv_heads * grouped;
        Heads {
            size,
            grouped,
            kv_heads,
            y: vec![0.0; heads * size],
            tops: vec![NONE; heads],
            sums: vec![0.0; heads],
            shrinks: vec![0.0; heads],
            weights: vec![[0.0; KEYS]; heads],
        }
    }

    /// Elements of a position.
    fn width(&self) -> usize {
        self.kv_heads * self.size
    }

    /// As [`AHEAD`], in positions: beyond those that are taken in together.
    fn ahead(&self) -> usize {
        (AHEAD / (4 * self.width())).clamp(TOGETHER, KEYS / 2)
    }

    /// Asks memory for the first of these keys.
    #[inline(always)]
    pub(in crate::attention) fn expect<S: Simd>(&self, simd: S, seen: Seen<'_>) {
        for j in 0..self.ahead() {
            for i in (0..self.width()).step_by(LANES) {
                simd.prefetch(seen.key_at(j).wrapping_add(i).cast());
            }
        }
    }

    /// Lets the heads, whose queries are `q`, see a block: two pieces of at most [`KEYS`] positions in all. Results do not
    /// depend on which of them has a position.
    #[inline(always)]
    pub(in crate::attention) fn see<S: Simd>(&mut self, simd: S, q: &[f32], block: [Seen<'_>; 2], scale: f32) {
        let mut n = 0;
        for seen in block {
            self.score(simd, q, seen, n);
            n += seen.n;
        }
        for (head, weights) in self.weights.iter_mut().enumerate() {
            self.shrinks[head] = soften(simd, weights, n, scale, &mut self.tops[head], &mut self.sums[head]);
        }
        let mut first = 0;
        for seen in block {
            self.mix(simd, seen, first);
            first += seen.n;
        }
    }

    /// Scores of keys, from a place in the block on.
    #[inline(always)]
    fn score<S: Simd>(&mut self, simd: S, q: &[f32], seen: Seen<'_>, first: usize) {
        let (size, ahead) = (self.size, self.ahead());
        for j in 0..seen.n {
            let next = seen.key_at(j + ahead);
            for kv_head in 0..self.kv_heads {
                let columns = kv_head * size..(kv_head + 1) * size;
                for i in columns.clone().step_by(LANES) {
                    simd.prefetch(next.wrapping_add(i).cast());
                }
                let key = &seen.keys[j * seen.pitch..][columns];
                let mut head = kv_head * self.grouped;
                while head < (kv_head + 1) * self.grouped {
                    let count = ((kv_head + 1) * self.grouped - head).min(4);
                    let q = &q[head * size..][..count * size];
                    let out = &mut self.weights[head..head + count];
                    match count {
                        1 => dots::<S, 1>(simd, q, key, out, first + j),
                        2 => dots::<S, 2>(simd, q, key, out, first + j),
                        3 => dots::<S, 3>(simd, q, key, out, first + j),
                        _ => dots::<S, 4>(simd, q, key, out, first + j),
                    }
                    head += count;
                }
            }
        }
    }

    /// Adds values, whose weights begin at a place in the block; with the first, what was there shrinks.
    #[inline(always)]
    fn mix<S: Simd>(&mut self, simd: S, seen: Seen<'_>, first: usize) {
        for some in (0..seen.n).step_by(TOGETHER) {
            let some = some..(some + TOGETHER).min(seen.n);
            if first + some.start > 0 {
                self.shrinks.fill(1.0);
            }
            for kv_head in 0..self.kv_heads {
                let mut head = kv_head * self.grouped;
                while head < (kv_head + 1) * self.grouped {
                    let count = ((kv_head + 1) * self.grouped - head).min(4);
                    match count {
                        1 => self.mix_heads::<S, 1>(simd, seen, (kv_head, head), some.clone(), first),
                        2 => self.mix_heads::<S, 2>(simd, seen, (kv_head, head), some.clone(), first),
                        3 => self.mix_heads::<S, 3>(simd, seen, (kv_head, head), some.clone(), first),
                        _ => self.mix_heads::<S, 4>(simd, seen, (kv_head, head), some.clone(), first),
                    }
                    head += count;
                }
            }
        }
    }

    /// The same for some positions and `N` query heads of a key-value head.
    #[inline(always)]
    fn mix_heads<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        seen: Seen<'_>,
        (kv_head, head): (usize, usize),
        some: Range<usize>,
        first: usize,
    ) {
        let (size, ahead) = (self.size, self.ahead());
        let mut to = Mixed::<N> {
            y: &mut self.y[head * size..][..N * size],
            weights: std::array::from_fn(|h| &self.weights[head + h][first..]),
            shrinks: std::array::from_fn(|h| self.shrinks[head + h]),
        };
        let mut column = 0;
        while column < size {
            let from = Column { seen, at: kv_head * size + column, some: some.clone(), ahead };
            let left = size - column;
            column += if S::WIDE && N <= 2 && left >= 8 * LANES {
                to.add::<S, 8>(simd, from, column)
            } else if S::WIDE && left >= 4 * LANES {
                to.add::<S, 4>(simd, from, column)
            } else if !S::WIDE && N <= 2 && left >= 2 * LANES {
                to.add::<S, 2>(simd, from, column)
            } else {
                to.add::<S, 1>(simd, from, column)
            };
        }
    }
}

/// Scores of one key for `N` query heads: element `j` of their rows of `out`.
#[inline(always)]
fn dots<S: Simd, const N: usize>(simd: S, q: &[f32], key: &[f32], out: &mut [[f32; KEYS]], j: usize) {
    let size = key.len();
    let (key, key_rest) = key.as_chunks::<LANES>();
    let q: [_; N] = std::array::from_fn(|h| q[h * size..][..size].as_chunks::<LANES>());
    for (q, _) in &q {
        // Said once, for the loop below.
        assert!(q.len() == key.len());
    }
    let mut sums = [simd.splat(0.0); N];
    for (i, k) in key.iter().enumerate() {
        let k = simd.load(k);
        for h in 0..N {
            sums[h] = simd.fma(simd.load(&q[h].0[i]), k, sums[h]);
        }
    }
    if !key_rest.is_empty() {
        let k = load_some(simd, key_rest);
        for h in 0..N {
            sums[h] = simd.fma(load_some(simd, q[h].1), k, sums[h]);
        }
    }
    for h in 0..N {
        out[h][j] = simd.sum(sums[h]);
    }
}

/// Some columns of values.
struct Column<'a> {
    seen: Seen<'a>,
    /// The first, within a position.
    at: usize,
    /// Positions.
    some: Range<usize>,
    /// How far ahead memory is asked for more.
    ahead: usize,
}

/// What `N` query heads make of values.
struct Mixed<'a, const N: usize> {
    y: &'a mut [f32],
    weights: [&'a [f32]; N],
    shrinks: [f32; N],
}

impl<const N: usize> Mixed<'_, N> {
    /// `y = y · shrink + weights · values` in `V` vectors from a column on. Returns their elements.
    // Indices, as heads are rows of what is not a slice of rows.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn add<S: Simd, const V: usize>(&mut self, simd: S, from: Column<'_>, column: usize) -> usize {
        let size = self.y.len() / N;
        let width = (V * LANES).min(size - column);
        let mut sums = [[simd.splat(0.0); V]; N];
        for h in 0..N {
            sums[h] = vectors(simd, &self.y[h * size + column..][..width]);
            for sum in &mut sums[h] {
                *sum = simd.mul(*sum, simd.splat(self.shrinks[h]));
            }
        }
        for j in from.some {
            let next = from.seen.value_at(j + from.ahead).wrapping_add(from.at);
            for v in 0..V {
                simd.prefetch(next.wrapping_add(v * LANES).cast());
            }
            let value: [S::F; V] = vectors(simd, &from.seen.values[j * from.seen.pitch + from.at..][..width]);
            for h in 0..N {
                let weight = simd.splat(self.weights[h][j]);
                for v in 0..V {
                    sums[h][v] = simd.fma(weight, value[v], sums[h][v]);
                }
            }
        }
        for h in 0..N {
            let y = &mut self.y[h * size + column..][..width];
            for (y, sum) in y.chunks_mut(LANES).zip(sums[h]) {
                store_some(simd, sum, y);
            }
        }
        width
    }
}

/// `V` vectors. Only a lone one may be a part.
#[inline(always)]
fn vectors<S: Simd, const V: usize>(simd: S, from: &[f32]) -> [S::F; V] {
    let mut vectors = [simd.splat(0.0); V];
    if V == 1 {
        vectors[0] = load_some(simd, from);
    } else {
        for (vector, part) in vectors.iter_mut().zip(from.as_chunks().0) {
            *vector = simd.load(part);
        }
    }
    vectors
}
