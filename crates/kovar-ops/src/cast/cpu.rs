use std::ops::Range;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use kovar::{CpuDispatch, CpuKernel, Specialization};

use crate::check::Length;
use crate::cpu::{chunk, chunks};
use crate::simd;

/// Elements of a task.
const TASK: usize = 8192;

#[derive(Clone, Copy)]
enum Cast {
    F32ToF16,
    F32ToBf16,
    F16ToF32,
    Bf16ToF32,
}

pub(super) fn cast(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    let form = constants.iter().find(|(name, _)| *name == "FORM").map_or(0.0, |(_, value)| *value);
    Ok(Arc::new(match form as u32 {
        0 => Cast::F32ToF16,
        1 => Cast::F32ToBf16,
        2 => Cast::F16ToF32,
        3 => Cast::Bf16ToF32,
        other => return Err(format!("FORM is {other}, wanted 0 to 3")),
    }))
}

/// To nearest even; NaN stays NaN.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let nan = bits >> 16 | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded }) as u16
}

impl CpuKernel for Cast {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        chunks(dispatch.constants::<Length>().n as usize, TASK)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let range = chunk(tasks, TASK, dispatch.constants::<Length>().n as usize);
        match self {
            Cast::F32ToF16 => {
                let x = &dispatch.slice::<f32>(0)[range.clone()];
                // SAFETY: tasks write the chunks that their numbers name, which do not overlap.
                unsafe { dispatch.slice_mut::<half::f16>(1, range) }.convert_from_f32_slice(x);
            }
            Cast::F32ToBf16 => {
                let x = &dispatch.slice::<f32>(0)[range.clone()];
                // SAFETY: as above.
                let y = unsafe { dispatch.slice_mut::<u16>(1, range) };
                y.iter_mut().zip(x).for_each(|(y, x)| *y = to_bf16(*x));
            }
            Cast::F16ToF32 => {
                let x = &dispatch.slice::<u16>(0)[range.clone()];
                // SAFETY: as above.
                let y = unsafe { dispatch.slice_mut::<f32>(1, range) };
                y.iter_mut().zip(x).for_each(|(y, x)| *y = simd::f16_bits(*x));
            }
            Cast::Bf16ToF32 => {
                let x = &dispatch.slice::<u16>(0)[range.clone()];
                // SAFETY: as above.
                let y = unsafe { dispatch.slice_mut::<f32>(1, range) };
                y.iter_mut().zip(x).for_each(|(y, x)| *y = simd::bf16_bits(*x));
            }
        }
    }
}
