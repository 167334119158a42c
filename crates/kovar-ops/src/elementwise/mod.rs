//! Arithmetic element by element.

mod cpu;

use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::{Check, Length};
use crate::{KernelForm, grid};

static ADD: KernelSource = KernelSource::wgsl("add", include_str!("elementwise.wgsl")).with_cpu(cpu::add);

/// `y[i] = a[i] + b[i]`: the residual connection of a transformer.
///
/// `a`, `b` and `y` are f32 of equal length; `y` overlaps neither of the others, which may be the same.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let a = device.upload(&[1.0f32, 2.0, 3.0], &[3])?;
/// let b = device.upload(&[0.5f32, 0.5, -3.0], &[3])?;
/// let y = device.buffer(DType::F32, &[3])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::elementwise::add(&mut encoder, &a, &b, &y)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<f32>()?, [1.5, 2.5, 0.0]);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or lengths differ, device errors.
pub fn add(enc: &mut CommandEncoder, a: &Buffer, b: &Buffer, y: &Buffer) -> Result<()> {
    let check = Check("add");
    for (role, buffer) in [("a", a), ("b", b), ("y", y)] {
        check.dtype(role, buffer, DType::F32)?;
        check.same_len(role, buffer, "y", y)?;
    }
    let n = check.len32("y", y)?;
    let kernel = enc.device().kernel(&ADD, &[])?;
    let dispatch = Dispatch::new(&kernel).bind(0, a).bind(1, b).bind(2, y).kind(OpKind::Elementwise);
    enc.dispatch(dispatch.constants(&Length { n }).groups(grid::strided(n)))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    vec![KernelForm { source: &ADD, constants: vec![] }]
}
