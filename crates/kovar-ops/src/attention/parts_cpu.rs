//! Parts of attention of one row, with or without the turn of its heads. A task has a part of some key-value heads.

use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use super::cpu::{Heads, KEYS, Seen};
use crate::norm::cpu::Norm;
use crate::rotary::cpu::Row;
use crate::simd::{Job, Level, Simd};

/// Tasks that each thread has at least, so that threads end together.
const TASKS: usize = 2;

struct Parts {
    level: Level,
    splits: usize,
    size: usize,
    /// Whether it turns heads, and norms them before.
    turns: bool,
    norm: Option<Norm>,
}

pub(super) fn parts(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Parts::of(constants, false)?))
}

pub(super) fn turned(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Parts::of(constants, true)?))
}

/// Everything of a task that does not depend on the processor.
struct Task<'a> {
    kernel: &'a Parts,
    dispatch: &'a CpuDispatch<'a>,
    c: Constants,
    kv_heads: Range<usize>,
    split: usize,
}

impl Parts {
    fn of(constants: Specialization<'_>, turns: bool) -> Result<Parts, String> {
        let named = |wanted| constants.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, value)| *value as usize);
        let norm = if named("NORMED") == 1 { Some(Norm::of(constants)?) } else { None };
        Ok(Parts { level: Level::best(), splits: named("SPLITS").max(1), size: named("HD"), turns, norm })
    }

    /// Key-value heads of a task, which lie side by side in memory: as many as leave each thread some tasks.
    fn run_of(&self, dispatch: &CpuDispatch<'_>, kv_heads: usize) -> usize {
        let most = (kv_heads * self.splits / (TASKS * dispatch.threads() as usize)).clamp(1, kv_heads);
        (1..=most).rev().find(|run| kv_heads.is_multiple_of(*run)).unwrap_or(1)
    }

    /// Heads of a slot, turned if this kernel does that; `weight` is the slot of the norm's.
    fn heads(
        &self,
        dispatch: &CpuDispatch<'_>,
        slot: usize,
        heads: Range<usize>,
        (weight, eps): (usize, f32),
    ) -> Vec<f32> {
        let size = self.size;
        let mut x = dispatch.slice::<f32>(slot)[heads.start * size..heads.end * size].to_vec();
        if !self.turns {
            return x;
        }
        if let Some(norm) = self.norm {
            let raw = x.clone();
            norm.rows((dispatch, weight), &raw, &mut x, size, eps);
        }
        let freqs = &dispatch.slice::<f32>(7)[..size / 2];
        let position = dispatch.slice::<u32>(3)[0] as f32;
        let mut y = vec![0.0; x.len()];
        self.level.run(Row { x: &x, freqs, position, y: &mut y });
        y
    }
}

impl CpuKernel for Parts {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let kv_heads = dispatch.constants::<Constants>().kv_heads as usize;
        (kv_heads / self.run_of(dispatch, kv_heads) * self.splits) as u32
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let c = dispatch.constants::<Constants>();
        let run = self.run_of(dispatch, c.kv_heads as usize);
        let runs = c.kv_heads as usize / run;
        for number in tasks {
            let (split, first) = (number as usize / runs, number as usize % runs * run);
            self.level.run(Task { kernel: self, dispatch, c, kv_heads: first..first + run, split });
        }
    }
}

impl Job for Task<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Task { kernel, dispatch, c, kv_heads, split } = self;
        let (size, splits) = (kernel.size, kernel.splits);
        let (grouped, pitch) = ((c.heads / c.kv_heads) as usize, c.kv_heads as usize * size);
        let (position, capacity) = (dispatch.slice::<u32>(3)[0] as usize, c.capacity as usize);
        let length = (position.min(capacity) + 1).min(capacity);
        let each = length.div_ceil(splits);
        let (begin, end) = ((split * each).min(length), ((split + 1) * each).min(length));
        // The last row, if it is not in the cache yet, is this task's to write.
        let writes = kernel.turns && position < capacity && (begin..end).contains(&position);
        let cached = if writes { position } else { end };
        let columns = kv_heads.start * size..kv_heads.end * size;
        let rows = |base: usize, n: usize| {
            // Up to the last of these keys: the row beyond may be on its way into the cache.
            let range = base * pitch + columns.start..(base + n - 1) * pitch + columns.end;
            let (keys, values) = (dispatch.slice_range(1, range.clone()), dispatch.slice_range(2, range));
            Seen { keys, values, pitch, n }
        };
        let mut heads = Heads::new(kv_heads.len(), grouped, size);
        if begin < cached {
            heads.expect(simd, rows(begin, (cached - begin).min(KEYS)));
        }
        let all_q = dispatch.prepared(|| kernel.heads(dispatch, 0, 0..c.heads as usize, (8, c.eps)));
        let q = &all_q[columns.start * grouped..columns.end * grouped];
        let new: Option<[&[f32]; 2]> = writes.then(|| {
            let key = kernel.heads(dispatch, 5, kv_heads.clone(), (9, c.eps));
            let row = position * pitch + columns.start..position * pitch + columns.end;
            // SAFETY: these heads of this row are this task's alone, and no task reads them as part of the cache.
            let [keys, values] = unsafe { [1, 2].map(|slot| dispatch.slice_mut::<f32>(slot, row.clone())) };
            keys.copy_from_slice(&key);
            values.copy_from_slice(&dispatch.slice::<f32>(6)[columns.clone()]);
            [keys as &[f32], values]
        });
        for base in (begin..end).step_by(KEYS) {
            let stop = (base + KEYS).min(end);
            let old = if base < cached { rows(base, stop.min(cached) - base) } else { Seen::NOTHING };
            let new = match new {
                Some([keys, values]) if stop > cached => Seen { keys, values, pitch: 0, n: 1 },
                _ => Seen::NOTHING,
            };
            heads.see(simd, q, [old, new], c.scale);
        }
        for (at, head) in (kv_heads.start * grouped..kv_heads.end * grouped).enumerate() {
            let start = (head * splits + split) * (size + 4);
            // SAFETY: this part of this head is this task's alone.
            let part = unsafe { dispatch.slice_mut::<f32>(4, start..start + size + 4) };
            part[..size].copy_from_slice(&heads.y[at * size..][..size]);
            part[size..].copy_from_slice(&[heads.tops[at], heads.sums[at], 0.0, 0.0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use kovar::{DType, Device, Dispatch, KernelSource};

    use super::*;
    use crate::simd::agreement::{agree, floats, level};

    /// The kernel at a level of the processor.
    fn at(number: usize, constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
        Ok(Arc::new(Parts { level: level(number)?, ..Parts::of(constants, false)? }))
    }

    #[test]
    fn every_level_agrees() {
        const WGSL: &str =
            concat!(include_str!("decode_head.wgsl"), include_str!("decode_input.wgsl"), include_str!("decode.wgsl"));
        // Heads in groups of three, of one and of nine; sizes with and without a rest of a vector; with four key-value heads, a
        // task of two threads has two.
        for (heads, kv_heads, size) in [(12, 4, 64), (4, 4, 100), (9, 1, 128), (8, 4, 4)] {
            let call = |device: &Device, source: &KernelSource| {
                let (q, cache) = (floats(device, &[1, heads, size]), [200, kv_heads, size]);
                let (keys, values) = (floats(device, &cache), floats(device, &cache));
                let position = device.upload(&[150u32], &[1])?;
                let parts = device.buffer(DType::F32, &[1, heads, 2, size + 4])?;
                let c = Constants {
                    rows: 1,
                    heads: heads as u32,
                    kv_heads: kv_heads as u32,
                    capacity: 200,
                    scale: 0.2,
                    eps: 0.0,
                };
                let form = [("HD", size as f64), ("LANES", 1.0), ("SPLITS", 2.0), ("PARTS", 1.0)];
                let kernel = device.kernel(source, &form)?;
                let mut enc = device.encoder()?;
                let dispatch = Dispatch::new(&kernel).bind(0, &q).bind(1, &keys).bind(2, &values).bind(3, &position);
                enc.dispatch(dispatch.bind(4, &parts).constants(&c).groups([1, 1, 1]))?;
                enc.commit()?.wait()?;
                parts.read()
            };
            agree("attention", WGSL, [|c| at(0, c), |c| at(1, c), |c| at(2, c), |c| at(3, c)], 1e-5, call);
        }
    }
}
