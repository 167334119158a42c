use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use crate::cpu::{chunk, chunks};
use crate::norm::Constants;
use crate::norm::cpu::{Norm, rows_of_task};
use crate::simd::{Job, Simd};

struct AddNorm(Norm);

pub(super) fn add_norm(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(AddNorm(Norm::of(constants)?)))
}

struct Add<'a> {
    a: &'a [f32],
    b: &'a [f32],
    sum: &'a mut [f32],
}

impl Job for Add<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((sum, a), b) in self.sum.iter_mut().zip(self.a).zip(self.b) {
            *sum = a + b;
        }
    }
}

impl CpuKernel for AddNorm {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let c: Constants = dispatch.constants();
        chunks(c.rows as usize, rows_of_task(c.width as usize))
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let c: Constants = dispatch.constants();
        let width = c.width as usize;
        let rows = chunk(tasks, rows_of_task(width), c.rows as usize);
        let range = rows.start * width..rows.end * width;
        let (a, b) = (&dispatch.slice::<f32>(0)[range.clone()], &dispatch.slice::<f32>(1)[range.clone()]);
        // SAFETY: tasks write the rows that their numbers name, which do not overlap, and neither do the two slots.
        let [sum, y] = unsafe { [dispatch.slice_mut::<f32>(3, range.clone()), dispatch.slice_mut::<f32>(4, range)] };
        self.0.level().run(Add { a, b, sum: &mut *sum });
        self.0.rows((dispatch, 2), sum, y, width, c.eps);
    }
}
