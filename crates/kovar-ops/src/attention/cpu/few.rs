//! Attention of few rows: each key is read once, and memory sets the pace.

use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::{Heads, KEYS, Plan, Seen, Task};
use crate::simd::{Job, Level, Simd};

/// Rows that share this pass.
const ROWS: usize = 8;

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
        (tile, grouped.div_ceil(threads.div_ceil(units)))
    })
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
        let mut rows: Vec<_> = task.rows.clone().map(|_| Heads::new(1, task.heads.len(), size)).collect();
        for base in (0..visible(task.rows.end - 1)).step_by(KEYS) {
            let at = base * pitch + task.kv_head * size;
            for (row, heads) in task.rows.clone().zip(&mut rows) {
                let n = visible(row).saturating_sub(base).min(KEYS);
                if n > 0 {
                    let seen = Seen { keys: &keys[at..], values: &values[at..], pitch, n };
                    heads.see(simd, &q[heads_of(row)], [seen, Seen::NOTHING], plan.scale);
                }
            }
        }
        for (row, heads) in task.rows.clone().zip(rows) {
            // SAFETY: tasks have rows and heads of their own.
            let to = unsafe { dispatch.slice_mut::<f32>(4, heads_of(row)) };
            for ((to, y), sum) in to.chunks_exact_mut(size).zip(heads.y.chunks_exact(size)).zip(heads.sums) {
                let inverse = 1.0 / sum;
                to.iter_mut().zip(y).for_each(|(to, y)| *to = y * inverse);
            }
        }
    }
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
