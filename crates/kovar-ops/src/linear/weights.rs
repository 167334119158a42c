//! Weights of slots 2.. on the CPU, one row at a time.
use kovar::{CpuDispatch, Specialization};

use crate::simd::{Bf16, F16, F32, Weight};

/// Slots of the weights.
const WEIGHT: usize = 2;
const SCALES: usize = 3;
const BIASES: usize = 4;

/// Value of an override constant.
pub(crate) fn constant(constants: Specialization<'_>, name: &str) -> Result<u32, String> {
    let found = constants.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value as u32).ok_or_else(|| format!("wants the constant {name}"))
}

/// Type of stored floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    F32,
    F16,
    BF16,
}

impl Float {
    pub(crate) fn of(constants: Specialization<'_>) -> Result<Float, String> {
        Ok(match constant(constants, "STYPE")? {
            1 => Float::F16,
            2 => Float::BF16,
            _ => Float::F32,
        })
    }

    /// Elements of a slot from `from` on, widened.
    pub(crate) fn widen(self, dispatch: &CpuDispatch<'_>, slot: usize, from: usize, out: &mut [f32]) {
        match self {
            Float::F32 => widen::<F32>(dispatch, slot, from, out),
            Float::F16 => widen::<F16>(dispatch, slot, from, out),
            Float::BF16 => widen::<Bf16>(dispatch, slot, from, out),
        }
    }
}

fn widen<T: Weight>(dispatch: &CpuDispatch<'_>, slot: usize, from: usize, out: &mut [f32]) {
    let values = &dispatch.slice::<T>(slot)[from..][..out.len()];
    out.iter_mut().zip(values).for_each(|(out, value)| *out = value.widen());
}

/// A matrix whose rows can be widened to f32.
pub(crate) trait WidenRow: Send + Sync + 'static {
    /// Widens row `row`, of the length of `out`.
    fn widen(&self, dispatch: &CpuDispatch<'_>, row: usize, out: &mut [f32]);
}

/// Form of a quantised matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) bits: usize,
    pub(crate) group: usize,
    pub(crate) float: Float,
}

impl Affine {
    pub(crate) fn new(constants: Specialization<'_>) -> Result<Affine, String> {
        let (bits, group) = (constant(constants, "BITS")? as usize, constant(constants, "GROUP")? as usize);
        if !matches!(bits, 4 | 8) || !matches!(group, 32 | 64 | 128) {
            return Err(format!("has no form of {bits} bits in groups of {group}"));
        }
        Ok(Affine { bits, group, float: Float::of(constants)? })
    }
}

impl WidenRow for Affine {
    fn widen(&self, dispatch: &CpuDispatch<'_>, row: usize, out: &mut [f32]) {
        let k = out.len();
        let codes = &dispatch.slice::<u8>(WEIGHT)[row * k * self.bits / 8..][..k * self.bits / 8];
        let groups = row * k / self.group..;
        let bytes = self.group * self.bits / 8;
        for ((group, out), codes) in groups.zip(out.chunks_exact_mut(self.group)).zip(codes.chunks_exact(bytes)) {
            let (mut scale, mut bias) = ([0.0], [0.0]);
            self.float.widen(dispatch, SCALES, group, &mut scale);
            self.float.widen(dispatch, BIASES, group, &mut bias);
            let value = |code: u8| scale[0] * f32::from(code) + bias[0];
            if self.bits == 4 {
                for (pair, code) in out.chunks_exact_mut(2).zip(codes) {
                    pair[0] = value(code & 15);
                    pair[1] = value(code >> 4);
                }
            } else {
                out.iter_mut().zip(codes).for_each(|(out, code)| *out = value(*code));
            }
        }
    }
}

/// Form of a dense matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dense {
    pub(crate) float: Float,
}

impl Dense {
    pub(crate) fn new(constants: Specialization<'_>) -> Result<Dense, String> {
        Ok(Dense { float: Float::of(constants)? })
    }
}

impl WidenRow for Dense {
    fn widen(&self, dispatch: &CpuDispatch<'_>, row: usize, out: &mut [f32]) {
        self.float.widen(dispatch, WEIGHT, row * out.len(), out);
    }
}
