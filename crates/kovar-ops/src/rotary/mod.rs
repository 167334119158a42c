//! Rotary position embedding.

pub(crate) mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::Check;
use crate::{KernelForm, grid};

static ROTARY: KernelSource =
    KernelSource::wgsl("rotary", concat!(include_str!("angle.wgsl"), include_str!("rotary.wgsl")))
        .with_cpu(cpu::rotary);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Constants {
    pub(crate) rows: u32,
    pub(crate) heads: u32,
    pub(crate) half: u32,
}

/// Rotary position embedding (Su et al.: "RoFormer", 2021), halves style: with `a = position + row` times `freqs[i]`,
///
/// ```text
/// y[i]        = x[i] · cos a − x[i + hd/2] · sin a
/// y[i + hd/2] = x[i + hd/2] · cos a + x[i] · sin a
/// ```
///
/// `x` and `y` are f32 [t, heads, hd], `freqs` holds the inverse frequencies, f32 [hd/2] in radians a position, and
/// `position` is u32 `[1]`, the position of the first row: in a buffer, so that a recording can run again for the next
/// token. The angle is rounded to f32 and below 2³¹; its sine and cosine are exact to 1e-7. `y` overlaps nothing else.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[1.0f32, 0.0, 1.0, 0.0], &[2, 1, 2])?;
/// let freqs = device.upload(&[std::f32::consts::FRAC_PI_2], &[1])?;
/// let position = device.upload(&[1u32], &[1])?;
/// let y = device.buffer(DType::F32, &[2, 1, 2])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::rotary::rotary(&mut encoder, &x, &freqs, &position, &y)?;
/// encoder.commit()?.wait()?;
/// for (y, exact) in y.read::<f32>()?.iter().zip([0.0, 1.0, -1.0, 0.0]) {
///     assert!((y - exact).abs() < 1e-6);
/// }
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn rotary(enc: &mut CommandEncoder, x: &Buffer, freqs: &Buffer, position: &Buffer, y: &Buffer) -> Result<()> {
    let check = Check("rotary");
    let [rows, heads, size] = check.axes3("x", x, "[t, heads, hd] f32")?;
    if y.shape() != x.shape() || y.dtype() != DType::F32 {
        return Err(check.unfit("y", y, &format!("the {:?} f32 of x", x.shape())));
    }
    if freqs.dtype() != DType::F32 || freqs.len() * 2 != size {
        return Err(check.unfit("freqs", freqs, &format!("f32 [{size} / 2], half the head size of x")));
    }
    check.position(position)?;
    let pairs = check.len32("x", x)? / 2;
    let kernel = enc.device().kernel(&ROTARY, &[])?;
    let constants = Constants { rows: rows as u32, heads: heads as u32, half: freqs.len() as u32 };
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, freqs).bind(2, position).bind(3, y);
    enc.dispatch(dispatch.constants(&constants).groups(grid::strided(pairs)).kind(OpKind::Rotary))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    vec![KernelForm { source: &ROTARY, constants: vec![] }]
}
