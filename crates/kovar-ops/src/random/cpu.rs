use std::ops::Range;
use std::sync::Arc;

use half::f16;
use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::{Constants, Form};
use crate::cpu::{chunk, chunks};

/// Words of a task.
const TASK: usize = 16 << 10;

struct Random(Form);

pub(super) fn random(constants: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    let code = constants.iter().find(|(name, _)| *name == "FORM").map_or(0.0, |(_, value)| *value);
    let form = [Form::Bits, Form::F32, Form::F16, Form::BF16].into_iter().find(|form| form.code() == code);
    Ok(Arc::new(Random(form.ok_or_else(|| format!("FORM is {code}, wanted 0 to 3"))?)))
}

/// As in the WGSL.
fn hash(place: u32, seed: u32) -> u32 {
    let mut x = place ^ seed;
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

impl CpuKernel for Random {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        chunks(dispatch.constants::<Constants>().words as usize, TASK)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let Constants { words, seed, mean } = dispatch.constants();
        let range = chunk(tasks, TASK, words as usize);
        let number = |place: u32| mean * ((hash(place, seed) >> 16) as f32 / 131_072.0 + 0.75);
        let pair =
            |i: u32, bits: fn(f32) -> u16| u32::from(bits(number(2 * i))) | u32::from(bits(number(2 * i + 1))) << 16;
        let start = range.start as u32;
        // SAFETY: tasks write the chunks that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<u32>(0, range) };
        for (y, i) in y.iter_mut().zip(start..) {
            *y = match self.0 {
                Form::Bits => hash(i, seed),
                Form::F32 => number(i).to_bits(),
                Form::F16 => pair(i, |x| f16::from_f32(x).to_bits()),
                Form::BF16 => pair(i, |x| (x.to_bits() >> 16) as u16),
            };
        }
    }
}
