//! The lookup on the CPU: a task a token.
use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use crate::linear::Params;
use crate::linear::weights::{Affine, Dense, WidenRow};

struct Embed<W>(W);

pub(super) fn affine(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Embed(Affine::new(constants)?)))
}

pub(super) fn dense(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Embed(Dense::new(constants)?)))
}

impl<W: WidenRow> CpuKernel for Embed<W> {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.constants::<Params>().m
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let Params { n, k, .. } = dispatch.constants();
        let tokens = dispatch.slice::<u32>(0);
        let tasks = tasks.start as usize..tasks.end as usize;
        for (row, token) in tasks.clone().zip(&tokens[tasks]) {
            let columns = row * k as usize..(row + 1) * k as usize;
            // SAFETY: this row of y belongs to this task alone.
            let y = unsafe { dispatch.slice_mut::<f32>(1, columns) };
            self.0.widen(dispatch, (*token).min(n - 1) as usize, y);
        }
    }
}
