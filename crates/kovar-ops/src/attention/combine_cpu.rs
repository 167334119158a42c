use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use crate::cpu::{chunk, chunks};
use crate::simd::{Job, Level, Simd, exp2, fma};

/// Heads of a task.
const HEADS: usize = 8;

/// Combines parts of attention, for the kernels that do it: alone, before a product.
#[derive(Clone, Copy)]
pub(crate) struct Combine {
    level: Level,
    pub(crate) size: usize,
    pub(crate) splits: usize,
}

struct Heads<'a> {
    parts: &'a [f32],
    y: &'a mut [f32],
    size: usize,
    splits: usize,
}

impl Job for Heads<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Heads { parts, y, size, splits } = self;
        for (parts, y) in parts.chunks_exact(splits * (size + 4)).zip(y.chunks_exact_mut(size)) {
            let each = || parts.chunks_exact(size + 4).map(|part| part.split_at(size));
            let top = each().map(|(_, ends)| ends[0]).fold(f32::NEG_INFINITY, f32::max);
            let mut all = 0.0;
            y.fill(0.0);
            for (total, ends) in each() {
                let weight = exp2::<S>(ends[0] - top);
                all = fma::<S>(weight, ends[1], all);
                y.iter_mut().zip(total).for_each(|(y, total)| *y = fma::<S>(weight, *total, *y));
            }
            y.iter_mut().for_each(|y| *y /= all);
        }
    }
}

impl Combine {
    pub(crate) fn of(constants: Specialization<'_>) -> Result<Combine, String> {
        let named = |wanted| constants.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value as usize);
        let (Some(size), Some(splits)) = (named("HD"), named("SPLITS")) else {
            return Err("wants HD and SPLITS".into());
        };
        Ok(Combine { level: Level::best(), size, splits })
    }

    /// Elements of the parts of a head.
    pub(crate) fn width(self) -> usize {
        self.splits * (self.size + 4)
    }

    /// Combines whole heads.
    pub(crate) fn heads(self, parts: &[f32], y: &mut [f32]) {
        self.level.run(Heads { parts, y, size: self.size, splits: self.splits });
    }
}

pub(super) fn combine(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Combine::of(constants)?))
}

impl CpuKernel for Combine {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        chunks(dispatch.byte_len(1) / 4 / self.size, HEADS)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let heads = chunk(tasks, HEADS, dispatch.byte_len(1) / 4 / self.size);
        let parts = &dispatch.slice::<f32>(0)[heads.start * self.width()..heads.end * self.width()];
        // SAFETY: tasks write the heads that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<f32>(1, heads.start * self.size..heads.end * self.size) };
        self.heads(parts, y);
    }
}
