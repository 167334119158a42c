//! Parts of attention of one row, with or without the turn of its heads. A task has a part of one key-value head.

use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use super::cpu::{Heads, KEYS, NONE, Seen, advance};
use crate::norm::cpu::Norm;
use crate::rotary::cpu::Row;
use crate::simd::{Job, Level, Simd};

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
    kv_head: usize,
    split: usize,
}

impl Parts {
    fn of(constants: Specialization<'_>, turns: bool) -> Result<Parts, String> {
        let named = |wanted| constants.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, value)| *value as usize);
        let norm = if named("NORMED") == 1 { Some(Norm::of(constants)?) } else { None };
        Ok(Parts { level: Level::best(), splits: named("SPLITS").max(1), size: named("HD"), turns, norm })
    }
}

impl CpuKernel for Parts {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.constants::<Constants>().kv_heads * self.splits as u32
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let c = dispatch.constants::<Constants>();
        for number in tasks {
            let (kv_head, split) = (number as usize / self.splits, number as usize % self.splits);
            self.level.run(Task { kernel: self, dispatch, c, kv_head, split });
        }
    }
}

/// What a task knows of the query heads that it has.
struct State {
    y: Vec<f32>,
    tops: Vec<f32>,
    sums: Vec<f32>,
}

impl Task<'_> {
    /// Heads of a slot, turned if this kernel does that; `weight` is the slot of the norm's.
    fn heads(&self, slot: usize, heads: Range<usize>, weight: usize) -> Vec<f32> {
        let Parts { size, norm, level, turns, .. } = *self.kernel;
        let mut x = self.dispatch.slice::<f32>(slot)[heads.start * size..heads.end * size].to_vec();
        if !turns {
            return x;
        }
        if let Some(norm) = norm {
            let raw = x.clone();
            norm.rows((self.dispatch, weight), &raw, &mut x, size, self.c.eps);
        }
        let freqs = &self.dispatch.slice::<f32>(7)[..size / 2];
        let position = self.dispatch.slice::<u32>(3)[0] as f32;
        let mut y = vec![0.0; x.len()];
        level.run(Row { x: &x, freqs, position, y: &mut y });
        y
    }

    /// Lets the heads see more keys, a few heads at a time.
    #[inline(always)]
    fn see<S: Simd>(&self, simd: S, q: &[f32], seen: Seen<'_>, state: &mut State) {
        let (size, scale) = (self.kernel.size, self.c.scale);
        let mut head = 0;
        while head < state.tops.len() {
            let count = (state.tops.len() - head).min(4);
            let columns = head * size..(head + count) * size;
            let (tops, sums) = (&mut state.tops[head..], &mut state.sums[head..]);
            let heads = Heads { q: &q[columns.clone()], y: &mut state.y[columns], tops, sums };
            match count {
                1 => advance::<S, 1>(simd, heads, seen, scale),
                2 => advance::<S, 2>(simd, heads, seen, scale),
                3 => advance::<S, 3>(simd, heads, seen, scale),
                _ => advance::<S, 4>(simd, heads, seen, scale),
            }
            head += count;
        }
    }
}

impl Job for Task<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Task { kernel: Parts { size, splits, turns, .. }, dispatch, c, kv_head, split } = self;
        let (size, splits, turns) = (*size, *splits, *turns);
        let (grouped, pitch) = ((c.heads / c.kv_heads) as usize, c.kv_heads as usize * size);
        let capacity = c.capacity as usize;
        let position = (dispatch.slice::<u32>(3)[0] as usize).min(capacity);
        let length = if turns { position } else { (position + 1).min(capacity) };
        let each = length.div_ceil(splits);
        let (begin, end) = ((split * each).min(length), ((split + 1) * each).min(length));
        let heads = kv_head * grouped..(kv_head + 1) * grouped;
        let q = self.heads(0, heads.clone(), 8);
        let mut state = State { y: vec![0.0; grouped * size], tops: vec![NONE; grouped], sums: vec![0.0; grouped] };
        for base in (begin..end).step_by(KEYS) {
            let n = (end - base).min(KEYS);
            // Up to the last of these keys: the row beyond may be on its way into the cache.
            let range = base * pitch + kv_head * size..(base + n - 1) * pitch + (kv_head + 1) * size;
            let (keys, values) = (dispatch.slice_range(1, range.clone()), dispatch.slice_range(2, range));
            self.see(simd, &q, Seen { keys, values, pitch, n }, &mut state);
        }
        if turns && split + 1 == splits && position < capacity {
            let key = self.heads(5, kv_head..kv_head + 1, 9);
            let value = &dispatch.slice::<f32>(6)[kv_head * size..][..size];
            self.see(simd, &q, Seen { keys: &key, values: value, pitch, n: 1 }, &mut state);
            let row = position * pitch + kv_head * size..position * pitch + (kv_head + 1) * size;
            // SAFETY: this head of this row is this task's alone, and no task reads it from the cache.
            let cache = unsafe { [dispatch.slice_mut::<f32>(1, row.clone()), dispatch.slice_mut::<f32>(2, row)] };
            cache.into_iter().zip([key.as_slice(), value]).for_each(|(to, new)| to.copy_from_slice(new));
        }
        for (at, head) in heads.enumerate() {
            let start = (head * splits + split) * (size + 4);
            // SAFETY: this part of this head is this task's alone.
            let part = unsafe { dispatch.slice_mut::<f32>(4, start..start + size + 4) };
            part[..size].copy_from_slice(&state.y[at * size..][..size]);
            part[size..].copy_from_slice(&[state.tops[at], state.sums[at], 0.0, 0.0]);
        }
    }
}
