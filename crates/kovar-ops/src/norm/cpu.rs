use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use crate::cpu::{chunk, chunks};
use crate::simd::{Bf16, F16, F32, Job, LANES, Level, Simd, Stored, load_some, store_some};

/// Elements that make a task worth its while.
const TASK: usize = 2048;

/// How the weights are stored.
#[derive(Clone, Copy)]
enum Stores {
    F32,
    F16,
    Bf16,
}

/// Norms rows, for the kernels that do it: alone, after an addition, before a rotation.
#[derive(Clone, Copy)]
pub(crate) struct Norm {
    level: Level,
    stores: Stores,
}

struct RmsNorm(Norm);

pub(super) fn rms_norm(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(RmsNorm(Norm::of(constants)?)))
}

struct Rows<'a, T> {
    x: &'a [f32],
    weight: &'a [T],
    y: &'a mut [f32],
    eps: f32,
}

impl<T: Stored> Job for Rows<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        for (x, y) in self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)) {
            let inverse = simd.splat(1.0 / (squares(simd, x) / width as f32 + self.eps).sqrt());
            for ((x, y), w) in x.chunks(LANES).zip(y.chunks_mut(LANES)).zip(self.weight.chunks(LANES)) {
                let scaled = simd.mul(load_some(simd, x), inverse);
                store_some(simd, simd.mul(scaled, load_some(simd, w)), y);
            }
        }
    }
}

/// The sum of squares. Four sums run side by side, as a sum waits for the last.
#[inline(always)]
fn squares<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let mut sums = [simd.splat(0.0); 4];
    let (blocks, rest) = x.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        for (sum, part) in sums.iter_mut().zip(block.as_chunks().0) {
            let x = simd.load(part);
            *sum = simd.fma(x, x, *sum);
        }
    }
    for (sum, part) in sums.iter_mut().zip(rest.chunks(LANES)) {
        let x = load_some(simd, part);
        *sum = simd.fma(x, x, *sum);
    }
    simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
}

/// Rows that make a task worth its while.
pub(crate) fn rows_of_task(width: usize) -> usize {
    (TASK / width).max(1)
}

impl Norm {
    pub(crate) fn of(constants: Specialization<'_>) -> Result<Norm, String> {
        let code = constants.iter().find(|(name, _)| *name == "DTYPE").map_or(0.0, |(_, value)| *value);
        let stores = match code as u32 {
            0 => Stores::F32,
            1 => Stores::F16,
            2 => Stores::Bf16,
            other => return Err(format!("DTYPE is {other}, wanted 0, 1 or 2")),
        };
        Ok(Norm { level: Level::best(), stores })
    }

    pub(crate) fn level(self) -> Level {
        self.level
    }

    /// Norms rows of `x` into `y`, with the weight of `width` in a slot.
    pub(crate) fn rows(
        self,
        (dispatch, slot): (&CpuDispatch<'_>, usize),
        x: &[f32],
        y: &mut [f32],
        width: usize,
        eps: f32,
    ) {
        match self.stores {
            Stores::F32 => self.level.run(Rows { x, weight: &dispatch.slice::<F32>(slot)[..width], y, eps }),
            Stores::F16 => self.level.run(Rows { x, weight: &dispatch.slice::<F16>(slot)[..width], y, eps }),
            Stores::Bf16 => self.level.run(Rows { x, weight: &dispatch.slice::<Bf16>(slot)[..width], y, eps }),
        }
    }
}

impl CpuKernel for RmsNorm {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let c: Constants = dispatch.constants();
        chunks(c.rows as usize, rows_of_task(c.width as usize))
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let c: Constants = dispatch.constants();
        let width = c.width as usize;
        let rows = chunk(tasks, rows_of_task(width), c.rows as usize);
        let range = rows.start * width..rows.end * width;
        let x = &dispatch.slice::<f32>(0)[range.clone()];
        // SAFETY: tasks write the rows that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<f32>(2, range) };
        self.0.rows((dispatch, 1), x, y, width, c.eps);
    }
}
