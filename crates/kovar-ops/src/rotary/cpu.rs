use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use crate::cpu::{chunk, chunks};
use crate::simd::{Job, Level, Simd, fma, sin_cos};

/// Elements that make a task worth its while.
const TASK: usize = 2048;
/// Pairs whose sines are kept at a time.
const BLOCK: usize = 64;

struct Rotary(Level);

pub(super) fn rotary(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Rotary(Level::best())))
}

/// One row: heads of 2 · `freqs.len()` elements.
pub(crate) struct Row<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) freqs: &'a [f32],
    pub(crate) position: f32,
    pub(crate) y: &'a mut [f32],
}

impl Job for Row<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let half = self.freqs.len();
        let (mut sine, mut cosine) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for first in (0..half).step_by(BLOCK) {
            let n = BLOCK.min(half - first);
            for ((s, c), f) in sine.iter_mut().zip(&mut cosine).zip(&self.freqs[first..first + n]) {
                (*s, *c) = sin_cos::<S>(self.position * f);
            }
            for (x, y) in self.x.chunks_exact(2 * half).zip(self.y.chunks_exact_mut(2 * half)) {
                let (a, b) = x.split_at(half);
                let (ya, yb) = y.split_at_mut(half);
                let (a, b) = (&a[first..first + n], &b[first..first + n]);
                let (ya, yb) = (&mut ya[first..first + n], &mut yb[first..first + n]);
                let (s, c) = (&sine[..n], &cosine[..n]);
                for i in 0..n {
                    ya[i] = fma::<S>(a[i], c[i], -(b[i] * s[i]));
                    yb[i] = fma::<S>(b[i], c[i], a[i] * s[i]);
                }
            }
        }
    }
}

/// Rows that make a task worth its while.
pub(crate) fn rows_of_task(c: &Constants) -> usize {
    (TASK / (c.heads * c.half * 2) as usize).max(1)
}

impl CpuKernel for Rotary {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let c: Constants = dispatch.constants();
        chunks(c.rows as usize, rows_of_task(&c))
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let c: Constants = dispatch.constants();
        let width = (c.heads * c.half * 2) as usize;
        let rows = chunk(tasks, rows_of_task(&c), c.rows as usize);
        let range = rows.start * width..rows.end * width;
        let x = &dispatch.slice::<f32>(0)[range.clone()];
        let freqs = &dispatch.slice::<f32>(1)[..c.half as usize];
        let position = dispatch.slice::<u32>(2)[0];
        // SAFETY: tasks write the rows that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<f32>(3, range) };
        for ((x, y), number) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rows) {
            let position = position.wrapping_add(number as u32) as f32;
            self.0.run(Row { x, freqs, position, y });
        }
    }
}
