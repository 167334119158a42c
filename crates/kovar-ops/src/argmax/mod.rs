//! The largest element: greedy sampling.

mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::Check;
use crate::{KernelForm, grid};

static ARGMAX: KernelSource = KernelSource::wgsl("argmax", include_str!("argmax.wgsl")).with_cpu(cpu::argmax);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Constants {
    rows: u32,
    width: u32,
}

/// `y[r]` = the first index of the largest element of row `r` of `x`.
///
/// `x` is f32 [rows, n], `y` u32 `[rows]`. Of equal elements the first wins; NaN never wins, and a row of nothing but NaN
/// gives 0.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[0.5f32, 2.0, 2.0, f32::NAN, -1.0, f32::NEG_INFINITY], &[2, 3])?;
/// let y = device.buffer(DType::U32, &[2])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::argmax::argmax(&mut encoder, &x, &y)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<u32>()?, [1, 1]);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn argmax(enc: &mut CommandEncoder, x: &Buffer, y: &Buffer) -> Result<()> {
    let check = Check("argmax");
    let &[rows, width] = x.shape() else { return Err(check.unfit("x", x, "[rows, n] f32")) };
    check.dtype("x", x, DType::F32)?;
    if y.dtype() != DType::U32 || y.len() != rows {
        return Err(check.unfit("y", y, &format!("u32 [{rows}], one for each row of x")));
    }
    check.len32("x", x)?;
    let kernel = enc.device().kernel(&ARGMAX, &[])?;
    let constants = Constants { rows: rows as u32, width: width as u32 };
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, y).kind(OpKind::Sampling);
    enc.dispatch(dispatch.constants(&constants).groups(grid::rows(rows as u32)))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    vec![KernelForm { source: &ARGMAX, constants: vec![] }]
}
