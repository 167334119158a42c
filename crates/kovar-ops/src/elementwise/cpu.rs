use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use crate::check::Length;
use crate::cpu::{chunk, chunks};

/// Elements of a task: 24 KiB of reading and writing.
const TASK: usize = 4096;

struct Add;

pub(super) fn add(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Add))
}

impl CpuKernel for Add {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        chunks(dispatch.constants::<Length>().n as usize, TASK)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let n = dispatch.constants::<Length>().n as usize;
        let range = chunk(tasks, TASK, n);
        let a = &dispatch.slice::<f32>(0)[range.clone()];
        let b = &dispatch.slice::<f32>(1)[range.clone()];
        // SAFETY: tasks write the chunks that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<f32>(2, range) };
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}
