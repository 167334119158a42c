//! Attention of many rows: tiles of queries share blocks of keys and values (Dao et al.: "FlashAttention", 2022).

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::{KEYS, NONE, Plan, Task, soften};
use crate::simd::{Job, LANES, Level, Simd, load_some};

/// Queries of a task: rows times query heads of one key-value head.
const QUERIES: usize = 48;

struct Many(Level);

pub(in crate::attention) fn many(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Many(Level::best())))
}

/// A task has all queries of a key-value head that fit, or as many rows of them.
fn plan(dispatch: &CpuDispatch<'_>) -> Plan {
    Plan::new(dispatch, |_, _, grouped| {
        let share = grouped.min(QUERIES);
        (QUERIES / share, share)
    })
}

/// What a thread works with. Rows of values and results are whole vectors, the last perhaps padded with zeros.
struct Room {
    /// For each element of a key, those of all keys of a block.
    keys: Vec<[f32; KEYS]>,
    values: Vec<[f32; LANES]>,
    y: Vec<[f32; LANES]>,
    weights: [[f32; KEYS]; QUERIES],
    shrinks: [f32; QUERIES],
    tops: [f32; QUERIES],
    sums: [f32; QUERIES],
}

impl Room {
    fn new(size: usize) -> Room {
        let vectors = size.div_ceil(LANES);
        Room {
            keys: vec![[0.0; KEYS]; vectors * LANES],
            values: vec![[0.0; LANES]; KEYS * vectors],
            y: vec![[0.0; LANES]; QUERIES * vectors],
            weights: [[0.0; KEYS]; QUERIES],
            shrinks: [0.0; QUERIES],
            tops: [NONE; QUERIES],
            sums: [0.0; QUERIES],
        }
    }

    /// Takes in a block: `n` keys, turned, and their values, each `pitch` after the last.
    #[inline(always)]
    fn fill<S: Simd>(&mut self, simd: S, keys: &[f32], values: &[f32], pitch: usize, n: usize, size: usize) {
        for (j, to) in self.values.chunks_exact_mut(size.div_ceil(LANES)).take(n).enumerate() {
            for (from, to) in values[j * pitch..][..size].chunks(LANES).zip(to) {
                simd.store(load_some(simd, from), to);
            }
        }
        for first in (0..n).step_by(LANES) {
            for (at, to) in (0..size).step_by(LANES).zip(self.keys.chunks_exact_mut(LANES)) {
                let mut square = [simd.to_bits(simd.splat(0.0)); LANES];
                for (j, row) in (first..n).zip(&mut square) {
                    *row = simd.to_bits(load_some(simd, &keys[j * pitch + at..][..LANES.min(size - at)]));
                }
                simd.transpose(&mut square);
                for (column, to) in square.into_iter().zip(to) {
                    simd.store(simd.of_bits(column), &mut to.as_chunks_mut().0[first / LANES]);
                }
            }
        }
    }
}

/// Scores of `M` queries with `P` vectors of keys.
#[inline(always)]
fn scores<S: Simd, const M: usize, const P: usize>(
    simd: S,
    q: [&[f32]; M],
    keys: &[[f32; KEYS]],
    first: usize,
    out: &mut [[f32; KEYS]],
) {
    for q in &q {
        // Said once, for the loop below.
        assert!(q.len() == keys.len());
    }
    let mut sums = [[simd.splat(0.0); P]; M];
    for (d, keys) in keys.iter().enumerate() {
        let keys = keys.as_chunks().0;
        let mut key = [simd.splat(0.0); P];
        for p in 0..P {
            key[p] = simd.load(&keys[first + p]);
        }
        for i in 0..M {
            let q = simd.splat(q[i][d]);
            for p in 0..P {
                sums[i][p] = simd.fma(q, key[p], sums[i][p]);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (p, sum) in sums.into_iter().enumerate() {
            simd.store(sum, &mut out.as_chunks_mut().0[first + p]);
        }
    }
}

/// `y = y · shrink + weights · values` for `M` queries and `V` vectors of each.
#[inline(always)]
fn mix<S: Simd, const M: usize, const V: usize>(
    simd: S,
    y: &mut [[f32; LANES]],
    values: &[[f32; LANES]],
    weights: &[[f32; KEYS]],
    shrinks: &[f32],
    (first, n): (usize, usize),
) {
    let vectors = y.len() / M;
    let mut sums = [[simd.splat(0.0); V]; M];
    let mut weight: [&[f32]; M] = [&[]; M];
    for i in 0..M {
        for v in 0..V {
            sums[i][v] = simd.mul(simd.load(&y[i * vectors + first + v]), simd.splat(shrinks[i]));
        }
        weight[i] = &weights[i][..n];
    }
    for (j, values) in values.chunks_exact(vectors).take(n).enumerate() {
        let mut value = [simd.splat(0.0); V];
        for v in 0..V {
            value[v] = simd.load(&values[first + v]);
        }
        for i in 0..M {
            let weight = simd.splat(weight[i][j]);
            for v in 0..V {
                sums[i][v] = simd.fma(weight, value[v], sums[i][v]);
            }
        }
    }
    for i in 0..M {
        for v in 0..V {
            simd.store(sums[i][v], &mut y[i * vectors + first + v]);
        }
    }
}

/// A task of a dispatch.
struct Attend<'a> {
    dispatch: &'a CpuDispatch<'a>,
    plan: &'a Plan,
    task: Task,
    room: &'a mut Room,
}

impl Attend<'_> {
    /// Turns the keys of the block that `M` queries, from number `first` on, see into weights: `seen(i)` of them for query `i`.
    #[inline(always)]
    fn weigh<S: Simd, const M: usize, const P: usize>(
        &mut self,
        simd: S,
        first: usize,
        q: &[f32],
        seen: impl Fn(usize) -> usize,
    ) {
        let Attend { plan, room, .. } = self;
        let queries = first..first + M;
        let mut rows: [&[f32]; M] = [&[]; M];
        for (row, i) in rows.iter_mut().zip(queries.clone()) {
            *row = &q[self.task.at(plan, i)..][..plan.size];
        }
        let weights = &mut room.weights[queries.clone()];
        for vector in (0..KEYS / LANES).step_by(P) {
            scores::<S, M, P>(simd, rows, &room.keys[..plan.size], vector, weights);
        }
        for (i, weights) in queries.zip(weights) {
            let seen = seen(i);
            let (top, sum) = (&mut room.tops[i], &mut room.sums[i]);
            room.shrinks[i] = soften(simd, weights, seen, plan.scale, top, sum);
            weights[seen..].fill(0.0);
        }
    }

    /// Adds to the results of `M` queries the first `n` values of the block.
    #[inline(always)]
    fn gather<S: Simd, const M: usize, const V: usize>(&mut self, simd: S, first: usize, n: usize) {
        let Attend { plan, room, .. } = self;
        let vectors = plan.size.div_ceil(LANES);
        let y = &mut room.y[first * vectors..(first + M) * vectors];
        let (weights, shrinks) = (&room.weights[first..first + M], &room.shrinks[first..first + M]);
        let mut vector = 0;
        while vector + V <= vectors {
            mix::<S, M, V>(simd, y, &room.values, weights, shrinks, (vector, n));
            vector += V;
        }
        for vector in vector..vectors {
            mix::<S, M, 1>(simd, y, &room.values, weights, shrinks, (vector, n));
        }
    }

    #[inline(always)]
    fn attend<S: Simd, const M: usize, const P: usize, const V: usize>(mut self, simd: S) {
        let Attend { dispatch, plan, .. } = self;
        let (size, pitch) = (plan.size, plan.kv_heads * plan.size);
        let [q, keys, values] = [0, 1, 2].map(|slot| dispatch.slice::<f32>(slot));
        let position = (dispatch.slice::<u32>(3)[0] as usize).min(plan.capacity);
        let (rows, share) = (self.task.rows.clone(), self.task.heads.len());
        let queries = rows.len() * share;
        let visible = |query: usize| (position + rows.start + query / share + 1).min(plan.capacity);
        self.room.y.fill([0.0; LANES]);
        self.room.tops.fill(NONE);
        self.room.sums.fill(0.0);
        let all = visible(queries - 1);
        for base in (0..all).step_by(KEYS) {
            let at = base * pitch + self.task.kv_head * size;
            self.room.fill(simd, &keys[at..], &values[at..], pitch, (all - base).min(KEYS), size);
            let seen = |query: usize| visible(query).saturating_sub(base).min(KEYS);
            // Queries of the first rows may not reach into the block. Then all keys, and after them all values: either fits the
            // nearest cache.
            let first = (0..queries).step_by(M).find(|first| seen((first + M).min(queries) - 1) > 0).unwrap_or(queries);
            let whole = first + (queries - first) / M * M;
            for query in (first..whole).step_by(M) {
                self.weigh::<S, M, P>(simd, query, q, seen);
            }
            for query in whole..queries {
                self.weigh::<S, 1, P>(simd, query, q, seen);
            }
            for query in (first..whole).step_by(M) {
                self.gather::<S, M, V>(simd, query, seen(query + M - 1));
            }
            for query in whole..queries {
                self.gather::<S, 1, V>(simd, query, seen(query));
            }
        }
        let vectors = size.div_ceil(LANES);
        for (query, y) in self.room.y.chunks_exact(vectors).take(queries).enumerate() {
            let at = self.task.at(plan, query);
            // SAFETY: tasks have rows and heads of their own, and one slice is taken at a time.
            let to = unsafe { dispatch.slice_mut::<f32>(4, at..at + size) };
            let inverse = 1.0 / self.room.sums[query];
            to.iter_mut().zip(y.as_flattened()).for_each(|(to, y)| *to = y * inverse);
        }
    }
}

impl Task {
    /// Where a query lies in q, and its result in y.
    fn at(&self, plan: &Plan, query: usize) -> usize {
        let (row, head) = (query / self.heads.len(), query % self.heads.len());
        ((self.rows.start + row) * plan.heads + self.heads.start + head) * plan.size
    }
}

impl Job for Attend<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::WIDE {
            self.attend::<S, 6, 4, 4>(simd);
        } else {
            self.attend::<S, 3, 2, 2>(simd);
        }
    }
}

impl CpuKernel for Many {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        plan(dispatch).tasks() as u32
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let plan = plan(dispatch);
        let mut room = dispatch.prepared(|| RefCell::new(Room::new(plan.size))).borrow_mut();
        for number in tasks {
            let task = plan.task(number as usize);
            self.0.run(Attend { dispatch, plan: &plan, task, room: &mut room });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::cpu::few::tests::agree_with;
    use crate::simd::agreement::factories;

    #[test]
    fn every_level_agrees() {
        let prompt = include_str!("../prompt.wgsl");
        // Sizes with and without a rest of a vector; heads in groups of three, of one and of more than a task has.
        for sizes in [(40, 6, 2, 64), (61, 3, 3, 100), (9, 50, 1, 36), (17, 2, 1, 4)] {
            agree_with(prompt, &[], || factories!(|level| Arc::new(Many(level))), sizes);
        }
    }
}
