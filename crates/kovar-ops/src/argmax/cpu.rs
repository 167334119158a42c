use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use crate::simd::{Job, LANES, Level, Simd, largest};

/// Elements looked at together when searching for the place.
const BLOCK: usize = 4 * LANES;

struct Argmax(Level);

pub(super) fn argmax(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Argmax(Level::best())))
}

struct Row<'a> {
    x: &'a [f32],
    place: &'a mut u32,
}

impl Job for Row<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (blocks, tail) = self.x.as_chunks::<BLOCK>();
        let mut most = [simd.splat(f32::NEG_INFINITY); BLOCK / LANES];
        for block in blocks {
            for (most, part) in most.iter_mut().zip(block.as_chunks().0) {
                *most = simd.max(simd.load(part), *most);
            }
        }
        let most = simd.max(simd.max(most[0], most[1]), simd.max(most[2], most[3]));
        let top = tail.iter().fold(largest(simd, most), |top, v| if *v > top { *v } else { top });
        let mut at = 0;
        for block in blocks {
            let mut found = false;
            for v in block {
                found |= *v == top;
            }
            if found {
                break;
            }
            at += BLOCK;
        }
        // Nothing equals the top if all is NaN.
        *self.place = self.x[at..].iter().position(|v| *v == top).map_or(0, |i| (at + i) as u32);
    }
}

impl CpuKernel for Argmax {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.constants::<Constants>().rows
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let width = dispatch.constants::<Constants>().width as usize;
        let rows = tasks.start as usize..tasks.end as usize;
        let x = &dispatch.slice::<f32>(0)[rows.start * width..rows.end * width];
        // SAFETY: tasks write the rows that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<u32>(1, rows) };
        y.iter_mut().zip(x.chunks_exact(width)).for_each(|(place, x)| self.0.run(Row { x, place }));
    }
}
