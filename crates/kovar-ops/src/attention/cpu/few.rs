//! Attention of few rows: each key is read once, and memory sets the pace.

use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::{KEYS, NONE, Plan, Task, soften};
use crate::simd::{Job, LANES, Level, Simd, load_some, store_some};

/// Rows that share this pass.
const ROWS: usize = 8;
/// Query heads that share it.
const HEADS: usize = 8;
/// Bytes between the key or value in use and the one that memory is asked for: a head's lie a whole row apart, where processors
/// do not look ahead by themselves.
const AHEAD: usize = 4096;

struct Attention(Level);

pub(in crate::attention) fn few(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Attention(Level::best())))
}

/// A task has a tile of rows and some query heads of one key-value head, so that it reads each key once for all of them.
fn plan(dispatch: &CpuDispatch<'_>) -> Plan {
    let threads = dispatch.threads() as usize;
    Plan::new(dispatch, |rows, kv_heads, grouped| {
        let tile = (rows * kv_heads / (4 * threads)).clamp(1, ROWS);
        let units = rows.div_ceil(tile) * kv_heads;
        (tile, grouped.div_ceil(threads.div_ceil(units)).min(HEADS))
    })
}

/// Reads keys and values of one key-value head.
#[derive(Clone, Copy)]
pub(in crate::attention) struct Seen<'a> {
    pub(in crate::attention) keys: &'a [f32],
    pub(in crate::attention) values: &'a [f32],
    /// From one to the next.
    pub(in crate::attention) pitch: usize,
    /// How many.
    pub(in crate::attention) n: usize,
}

/// As [`AHEAD`], in keys.
fn ahead(size: usize) -> usize {
    (AHEAD / (4 * size)).clamp(4, KEYS / 2)
}

impl Seen<'_> {
    /// Where key `j` lies in memory, or as there are only `n`, a value.
    #[inline(always)]
    fn key_at(&self, j: usize) -> *const f32 {
        match j.checked_sub(self.n) {
            None => self.keys.as_ptr().wrapping_add(j * self.pitch),
            Some(next) => self.values.as_ptr().wrapping_add(next * self.pitch),
        }
    }

    /// Where value `j` lies, or after the last a key of the next block.
    #[inline(always)]
    fn value_at(&self, j: usize) -> *const f32 {
        let from = if j < self.n { self.values } else { self.keys };
        from.as_ptr().wrapping_add(j * self.pitch)
    }
}

/// Some query heads of a row, one after another, with their results.
pub(in crate::attention) struct Heads<'a> {
    pub(in crate::attention) q: &'a [f32],
    pub(in crate::attention) y: &'a mut [f32],
    pub(in crate::attention) tops: &'a mut [f32],
    pub(in crate::attention) sums: &'a mut [f32],
}

/// Scores of all keys for `N` query heads.
#[inline(always)]
fn scores<S: Simd, const N: usize>(simd: S, q: &[f32], seen: Seen<'_>, out: &mut [[f32; KEYS]; N]) {
    let size = q.len() / N;
    let q: [&[f32]; N] = std::array::from_fn(|h| &q[h * size..][..size]);
    let whole = size / LANES;
    // Indices, as the rows of the results are columns of `out`.
    #[allow(clippy::needless_range_loop)]
    for j in 0..seen.n {
        let key = &seen.keys[j * seen.pitch..][..size];
        let mut sums = [simd.splat(0.0); N];
        let next = seen.key_at(j + ahead(size));
        for i in 0..whole {
            simd.prefetch(next.wrapping_add(i * LANES).cast());
            let k = load_some(simd, &key[i * LANES..][..LANES]);
            for h in 0..N {
                sums[h] = simd.fma(load_some(simd, &q[h][i * LANES..][..LANES]), k, sums[h]);
            }
        }
        if whole * LANES < size {
            let k = load_some(simd, &key[whole * LANES..]);
            for h in 0..N {
                sums[h] = simd.fma(load_some(simd, &q[h][whole * LANES..]), k, sums[h]);
            }
        }
        for h in 0..N {
            out[h][j] = simd.sum(sums[h]);
        }
    }
}

/// `V` vectors of a row from a column on. Only a lone one may be a part.
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

/// `y = y · shrink + weights · values` for some columns, in `V` vectors.
#[inline(always)]
fn mix<S: Simd, const N: usize, const V: usize>(
    simd: S,
    y: &mut [f32],
    seen: Seen<'_>,
    weights: &[[f32; KEYS]; N],
    shrinks: &[f32; N],
    columns: Range<usize>,
) {
    let size = y.len() / N;
    let mut sums = [[simd.splat(0.0); V]; N];
    for h in 0..N {
        sums[h] = vectors(simd, &y[h * size..][columns.clone()]);
        for sum in &mut sums[h] {
            *sum = simd.mul(*sum, simd.splat(shrinks[h]));
        }
    }
    #[allow(clippy::needless_range_loop)]
    for j in 0..seen.n {
        let value = &seen.values[j * seen.pitch..][columns.clone()];
        let next = seen.value_at(j + ahead(size)).wrapping_add(columns.start);
        for v in 0..V {
            simd.prefetch(next.wrapping_add(v * LANES).cast());
        }
        let value: [S::F; V] = vectors(simd, value);
        for h in 0..N {
            let weight = simd.splat(weights[h][j]);
            for v in 0..V {
                sums[h][v] = simd.fma(weight, value[v], sums[h][v]);
            }
        }
    }
    for h in 0..N {
        let y = &mut y[h * size..][columns.clone()];
        for (y, sum) in y.chunks_mut(LANES).zip(sums[h]) {
            store_some(simd, sum, y);
        }
    }
}

/// Lets `N` heads of a row see more keys.
#[inline(always)]
pub(in crate::attention) fn advance<S: Simd, const N: usize>(simd: S, heads: Heads<'_>, seen: Seen<'_>, scale: f32) {
    let size = heads.q.len() / N;
    let mut weights = [[0.0; KEYS]; N];
    scores(simd, heads.q, seen, &mut weights);
    let mut shrinks = [0.0; N];
    for h in 0..N {
        shrinks[h] = soften(simd, &mut weights[h], seen.n, scale, &mut heads.tops[h], &mut heads.sums[h]);
    }
    let mut column = 0;
    while S::WIDE && N <= 2 && column + 8 * LANES <= size {
        mix::<S, N, 8>(simd, heads.y, seen, &weights, &shrinks, column..column + 8 * LANES);
        column += 8 * LANES;
    }
    while S::WIDE && column + 4 * LANES <= size {
        mix::<S, N, 4>(simd, heads.y, seen, &weights, &shrinks, column..column + 4 * LANES);
        column += 4 * LANES;
    }
    while column < size {
        let end = (column + LANES).min(size);
        mix::<S, N, 1>(simd, heads.y, seen, &weights, &shrinks, column..end);
        column = end;
    }
}

/// A task of a dispatch.
struct Attend<'a> {
    dispatch: &'a CpuDispatch<'a>,
    plan: &'a Plan,
    task: Task,
}

impl Job for Attend<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Attend { dispatch, plan, task } = self;
        let (size, pitch) = (plan.size, plan.kv_heads * plan.size);
        let [q, keys, values] = [0, 1, 2].map(|slot| dispatch.slice::<f32>(slot));
        let position = (dispatch.slice::<u32>(3)[0] as usize).min(plan.capacity);
        let visible = |row: usize| (position + row + 1).min(plan.capacity);
        // The elements of this task's heads in a row.
        let heads_of = |row: usize| {
            let first = (row * plan.heads + task.heads.start) * size;
            first..first + task.heads.len() * size
        };
        // SAFETY: tasks have rows and heads of their own, and one slice is taken at a time, below.
        let result = |row: usize| unsafe { dispatch.slice_mut::<f32>(4, heads_of(row)) };
        task.rows.clone().for_each(|row| result(row).fill(0.0));
        let mut states = [State { tops: [NONE; HEADS], sums: [0.0; HEADS] }; ROWS];
        for base in (0..visible(task.rows.end - 1)).step_by(KEYS) {
            let at = base * pitch + task.kv_head * size;
            for (row, state) in task.rows.clone().zip(&mut states) {
                let n = visible(row).saturating_sub(base).min(KEYS);
                if n == 0 {
                    continue;
                }
                let seen = Seen { keys: &keys[at..], values: &values[at..], pitch, n };
                let (q, y) = (&q[heads_of(row)], result(row));
                let mut head = 0;
                while head < task.heads.len() {
                    let count = (task.heads.len() - head).min(4);
                    let columns = head * size..(head + count) * size;
                    let (tops, sums) = (&mut state.tops[head..], &mut state.sums[head..]);
                    let heads = Heads { q: &q[columns.clone()], y: &mut y[columns], tops, sums };
                    match count {
                        1 => advance::<S, 1>(simd, heads, seen, plan.scale),
                        2 => advance::<S, 2>(simd, heads, seen, plan.scale),
                        3 => advance::<S, 3>(simd, heads, seen, plan.scale),
                        _ => advance::<S, 4>(simd, heads, seen, plan.scale),
                    }
                    head += count;
                }
            }
        }
        for (row, state) in task.rows.clone().zip(&states) {
            for (y, sum) in result(row).chunks_exact_mut(size).zip(&state.sums) {
                let inverse = 1.0 / sum;
                y.iter_mut().for_each(|y| *y *= inverse);
            }
        }
    }
}

/// Running maximum and sum of the heads of a row.
#[derive(Clone, Copy)]
struct State {
    tops: [f32; HEADS],
    sums: [f32; HEADS],
}

impl CpuKernel for Attention {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        plan(dispatch).tasks() as u32
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let plan = plan(dispatch);
        for number in tasks {
            self.0.run(Attend { dispatch, plan: &plan, task: plan.task(number as usize) });
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kovar::{CpuFactory, Device, Dispatch, KernelSource};

    use super::*;
    use crate::attention::Constants;
    use crate::simd::agreement::{agree, factories, floats};

    /// All levels give the same for so many rows, heads, key-value heads, and elements of a head, with these constants beside
    /// the last.
    pub(in crate::attention::cpu) fn agree_with(
        wgsl: &'static str,
        constants: &[(&'static str, f64)],
        factories: impl Fn() -> [CpuFactory; 4],
        (rows, heads, kv_heads, size): (usize, usize, usize, usize),
    ) {
        let form: Vec<_> = [("HD", size as f64)].into_iter().chain(constants.iter().copied()).collect();
        let call = |device: &Device, source: &KernelSource| {
            let q = floats(device, &[rows, heads, size]);
            let (keys, values) = (floats(device, &[200, kv_heads, size]), floats(device, &[200, kv_heads, size]));
            let (position, y) = (device.upload(&[150u32], &[1])?, device.buffer(kovar::DType::F32, q.shape())?);
            let [rows, heads, kv_heads] = [rows, heads, kv_heads].map(|n| n as u32);
            let constants = Constants { rows, heads, kv_heads, capacity: 200, scale: 0.2, eps: 0.0 };
            let kernel = device.kernel(source, &form)?;
            let mut enc = device.encoder()?;
            let dispatch = Dispatch::new(&kernel).bind(0, &q).bind(1, &keys).bind(2, &values).bind(3, &position);
            enc.dispatch(dispatch.bind(4, &y).constants(&constants).groups([1, 1, 1]))?;
            enc.commit()?.wait()?;
            y.read()
        };
        agree("attention", wgsl, factories(), 1e-5, call);
    }

    #[test]
    fn every_level_agrees() {
        let decode = concat!(
            include_str!("../decode_head.wgsl"),
            include_str!("../decode_input.wgsl"),
            include_str!("../decode.wgsl")
        );
        // Sizes with and without a rest of a vector; heads in groups of three, of one and of nine.
        for sizes in [(1, 6, 2, 64), (5, 3, 3, 100), (2, 9, 1, 128), (1, 2, 1, 4)] {
            agree_with(decode, &[("LANES", 1.0)], || factories!(|level| Arc::new(Attention(level))), sizes);
        }
    }
}
