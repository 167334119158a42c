use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use crate::cpu::{chunk, chunks};
use crate::norm::cpu::Norm;
use crate::rotary::{self, cpu::Row};

/// Heads of the largest size that fit the room on the stack.
const ROOM: usize = 512;

struct NormRotary {
    norm: Norm,
    cache: bool,
}

pub(super) fn norm_rotary(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    let cache = constants.iter().any(|(name, value)| *name == "CACHE" && *value != 0.0);
    Ok(Arc::new(NormRotary { norm: Norm::of(constants)?, cache }))
}

fn rows_of_task(c: &Constants) -> usize {
    rotary::cpu::rows_of_task(&rotary::Constants { rows: c.rows, heads: c.heads, half: c.half })
}

impl CpuKernel for NormRotary {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let c: Constants = dispatch.constants();
        chunks(c.rows as usize, rows_of_task(&c))
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let c: Constants = dispatch.constants();
        let head = (c.half * 2) as usize;
        let width = c.heads as usize * head;
        let x = dispatch.slice::<f32>(0);
        let freqs = &dispatch.slice::<f32>(2)[..c.half as usize];
        let position = dispatch.slice::<u32>(3)[0];
        let mut room = [0.0f32; ROOM];
        let mut large = vec![0.0f32; if head > ROOM { head } else { 0 }];
        let normed = if head > ROOM { large.as_mut_slice() } else { &mut room[..head] };
        for row in chunk(tasks, rows_of_task(&c), c.rows as usize) {
            let place = position.wrapping_add(row as u32);
            if self.cache && place >= c.capacity {
                continue;
            }
            let to = if self.cache { place as usize } else { row } * width;
            // SAFETY: tasks write the rows that their numbers name, which do not overlap; so do the rows of a cache,
            // which are as far apart.
            let y = unsafe { dispatch.slice_mut::<f32>(4, to..to + width) };
            for (x, y) in x[row * width..(row + 1) * width].chunks_exact(head).zip(y.chunks_exact_mut(head)) {
                self.norm.rows((dispatch, 1), x, normed, head, c.eps);
                self.norm.level().run(Row { x: normed, freqs, position: place as f32, y });
            }
        }
    }
}
