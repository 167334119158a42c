use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use crate::cpu::{chunk, chunks};

/// Elements of a task.
const TASK: usize = 8192;

struct Write;

pub(super) fn write(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Write))
}

fn rows_of_task(c: &Constants) -> usize {
    (TASK / c.width as usize).max(1)
}

impl CpuKernel for Write {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let c: Constants = dispatch.constants();
        chunks(c.rows as usize, rows_of_task(&c))
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let c: Constants = dispatch.constants();
        let first = dispatch.slice::<u32>(1)[0].min(c.capacity) as usize;
        let fitting = (c.rows as usize).min(c.capacity as usize - first);
        let rows = chunk(tasks, rows_of_task(&c), fitting);
        let width = c.width as usize;
        let x = &dispatch.slice::<f32>(0)[rows.start * width..rows.end * width];
        let range = (first + rows.start) * width..(first + rows.end) * width;
        // SAFETY: tasks write the rows that their numbers name, which do not overlap.
        unsafe { dispatch.slice_mut::<f32>(2, range) }.copy_from_slice(x);
    }
}
