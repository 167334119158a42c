use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use crate::check::Length;
use crate::cpu::{chunk, chunks};
use crate::simd::{Job, Level, Simd, exp};

/// Elements of a task: a microsecond or so.
const TASK: usize = 2048;

struct SiluMul(Level);

pub(super) fn silu_mul(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(SiluMul(Level::best())))
}

/// Elements of a gated activation.
pub(crate) struct Chunk<'a> {
    pub(crate) gate: &'a [f32],
    pub(crate) up: &'a [f32],
    pub(crate) y: &'a mut [f32],
}

impl Job for Chunk<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((y, g), up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = g / (1.0 + exp::<S>(-g)) * up;
        }
    }
}

impl CpuKernel for SiluMul {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        chunks(dispatch.constants::<Length>().n as usize, TASK)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let range = chunk(tasks, TASK, dispatch.constants::<Length>().n as usize);
        let gate = &dispatch.slice::<f32>(0)[range.clone()];
        let up = &dispatch.slice::<f32>(1)[range.clone()];
        // SAFETY: tasks write the chunks that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<f32>(2, range) };
        self.0.run(Chunk { gate, up, y });
    }
}
