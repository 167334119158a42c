//! The largest element: greedy sampling.

mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::{Backend, Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::Check;
use crate::{KernelForm, grid};

static ARGMAX: KernelSource =
    KernelSource::wgsl("argmax", concat!(include_str!("best_of.wgsl"), include_str!("argmax.wgsl")))
        .with_cpu(cpu::argmax);
static PARTS: KernelSource =
    KernelSource::wgsl("argmax_parts", concat!(include_str!("best_of.wgsl"), include_str!("parts.wgsl")));
static CHOOSE: KernelSource = KernelSource::wgsl("argmax_choose", include_str!("choose.wgsl"));

/// Elements of a row that are worth a workgroup.
const PART: u32 = 2048;
/// Parts of a row, at most.
const MOST_PARTS: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Constants {
    rows: u32,
    width: u32,
    /// That a row is cut into.
    parts: u32,
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
    let (rows, width) = (rows as u32, width as u32);
    // On the CPU a row is one task: tokens are chosen from one row, which a second thread would only wait for.
    let cut = enc.device().info().backend != Backend::Cpu && rows <= grid::MOST_GROUPS;
    let parts = if cut { (width / PART).clamp(1, MOST_PARTS) } else { 1 };
    let constants = Constants { rows, width, parts };
    let dispatch =
        |kernel, x, y| Dispatch::new(kernel).bind(0, x).bind(1, y).kind(OpKind::Sampling).constants(&constants);
    if parts == 1 {
        let kernel = enc.device().kernel(&ARGMAX, &[])?;
        return enc.dispatch(dispatch(&kernel, x, y).groups(grid::rows(rows)));
    }
    let best = enc.scratch(DType::U32, &[rows as usize, parts as usize, 2])?;
    let kernel = enc.device().kernel(&PARTS, &[])?;
    enc.dispatch(dispatch(&kernel, x, &best).groups([parts, rows, 1]))?;
    let kernel = enc.device().kernel(&CHOOSE, &[])?;
    enc.dispatch(dispatch(&kernel, &best, y).groups([1, rows, 1]))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    [&ARGMAX, &PARTS, &CHOOSE].map(|source| KernelForm { source, constants: vec![] }).into()
}
