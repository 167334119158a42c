//! Residual addition with the norm after it.

mod cpu;

use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::Check;
use crate::norm::{self, Constants};
use crate::{KernelForm, grid};

pub(crate) static ADD_NORM: KernelSource =
    KernelSource::wgsl("add_norm", include_str!("add_norm.wgsl")).with_cpu(cpu::add_norm).unaligned(&[2]);

/// `sum = a + b` and `y = rms_norm(sum)`: [`add`](crate::elementwise::add) and [`rms_norm`](crate::norm::rms_norm) in
/// one command.
///
/// `a`, `b`, `sum` and `y` are f32 [..., d] of equal length; `weight` is f32, f16 or bf16 `[d]`.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let (a, b) = (device.upload(&[1.0f32, 3.0], &[1, 2])?, device.upload(&[2.0f32, 1.0], &[1, 2])?);
/// let weight = device.upload(&[1.0f32, 1.0], &[2])?;
/// let (sum, y) = (device.buffer(DType::F32, &[1, 2])?, device.buffer(DType::F32, &[1, 2])?);
/// let mut encoder = device.encoder()?;
/// kovar_ops::add_norm::add_norm(&mut encoder, [&a, &b], &weight, &sum, &y, 0.0)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(sum.read::<f32>()?, [3.0, 4.0]);
/// assert!((y.read::<f32>()?[0] - 3.0 / 12.5f32.sqrt()).abs() < 1e-6);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn add_norm(
    enc: &mut CommandEncoder,
    [a, b]: [&Buffer; 2],
    weight: &Buffer,
    sum: &Buffer,
    y: &Buffer,
    eps: f32,
) -> Result<()> {
    let check = Check("add_norm");
    for (role, buffer) in [("a", a), ("b", b), ("sum", sum), ("y", y)] {
        check.dtype(role, buffer, DType::F32)?;
        check.same_len(role, buffer, "a", a)?;
    }
    let shape = norm::shape(check, a, weight, eps)?;
    let kernel = enc.device().kernel(&ADD_NORM, &shape.form())?;
    let dispatch = Dispatch::new(&kernel).bind(0, a).bind(1, b).bind(2, weight).bind(3, sum).bind(4, y);
    enc.dispatch(dispatch.constants(&shape.constants).groups(shape.groups()).kind(OpKind::Norm))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    norm::forms().map(|constants| KernelForm { source: &ADD_NORM, constants }).collect()
}

/// Workgroups and constants for the rows of a norm whose constants are known.
pub(crate) fn groups_of(constants: &Constants) -> [u32; 3] {
    grid::rows(norm::groups(constants.rows, constants.width as usize))
}
