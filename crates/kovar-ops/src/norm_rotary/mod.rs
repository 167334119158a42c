//! Norm of heads with the rotation after it, into a buffer or a cache.

mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::profile::Cost;
use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::{Check, float_code};
use crate::{KernelForm, grid};

pub(crate) static NORM_ROTARY: KernelSource =
    KernelSource::wgsl("norm_rotary", concat!(include_str!("../rotary/angle.wgsl"), include_str!("norm_rotary.wgsl")))
        .with_cpu(cpu::norm_rotary)
        .unaligned(&[1]);

/// Subgroups of a workgroup: each takes a head.
const SUBGROUPS: u32 = 8;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Constants {
    pub(crate) rows: u32,
    pub(crate) heads: u32,
    pub(crate) half: u32,
    pub(crate) eps: f32,
    /// Rows of the cache that is written, 0 for another buffer.
    pub(crate) capacity: u32,
}

impl Constants {
    pub(crate) fn groups(&self) -> [u32; 3] {
        grid::rows((self.rows * self.heads).div_ceil(SUBGROUPS))
    }
}

/// What turns and norms heads.
#[derive(Debug, Clone, Copy)]
pub struct HeadTurn<'a> {
    /// Weight of the norm: f32, f16 or bf16 `[hd]`.
    pub weight: &'a Buffer,
    /// Added to the mean square.
    pub eps: f32,
    /// Inverse frequencies, f32 [hd/2].
    pub freqs: &'a Buffer,
    /// Position of the first row, u32 `[1]`.
    pub position: &'a Buffer,
}

/// `y = rotary(rms_norm(x))` for each head of x f32 [t, heads, hd]: [`rms_norm`](crate::norm::rms_norm) and
/// [`rotary`](crate::rotary::rotary) in one command. `y` has the shape of `x`; or, with `cache`, it is a cache [capacity,
/// heads, hd] that is written from row `position` on, as by [`cache::write`](crate::cache::write).
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
/// use kovar_ops::norm_rotary::{HeadTurn, norm_rotary};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[5.0f32, 0.0], &[1, 1, 2])?;
/// let (weight, freqs) = (device.upload(&[1.0f32, 1.0], &[2])?, device.upload(&[std::f32::consts::FRAC_PI_2], &[1])?);
/// let position = device.upload(&[1u32], &[1])?;
/// let cache = device.buffer(DType::F32, &[4, 1, 2])?;
/// let mut encoder = device.encoder()?;
/// let turn = HeadTurn { weight: &weight, eps: 0.0, freqs: &freqs, position: &position };
/// norm_rotary(&mut encoder, &x, &turn, &cache, true)?;
/// encoder.commit()?.wait()?;
/// assert!((cache.read::<f32>()?[3] - 2.0f32.sqrt()).abs() < 1e-6);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn norm_rotary(enc: &mut CommandEncoder, x: &Buffer, turn: &HeadTurn<'_>, y: &Buffer, cache: bool) -> Result<()> {
    let HeadTurn { weight, eps, freqs, position } = *turn;
    let check = Check("norm_rotary");
    let [rows, heads, size] = check.axes3("x", x, "[t, heads, hd] f32")?;
    let [y_rows, y_heads, y_size] = check.axes3("y", y, "[t, heads, hd] f32")?;
    if (y_heads, y_size) != (heads, size) || (!cache && y_rows != rows) {
        return Err(check.unfit("y", y, &format!("rows of [{heads}, {size}], as x {:?} has", x.shape())));
    }
    let code = match float_code(weight.dtype()) {
        Some(code) if weight.len() == size => code,
        _ => return Err(check.unfit("weight", weight, &format!("[{size}] of f32, f16 or bf16"))),
    };
    if freqs.dtype() != DType::F32 || freqs.len() * 2 != size {
        return Err(check.unfit("freqs", freqs, &format!("f32 [{size} / 2], half the head size of x")));
    }
    check.position(position)?;
    check.len32("x", x)?;
    check.len32("y", y)?;
    let capacity = if cache { y_rows as u32 } else { 0 };
    let constants = Constants { rows: rows as u32, heads: heads as u32, half: freqs.len() as u32, eps, capacity };
    let kernel = enc.device().kernel(&NORM_ROTARY, &form(code, cache))?;
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, weight).bind(2, freqs).bind(3, position).bind(4, y);
    // As many rows as of x, also of a cache.
    let cost = Cost { written: Some(x.byte_len()), ..Cost::default() };
    enc.dispatch(dispatch.constants(&constants).groups(constants.groups()).kind(OpKind::Rotary).cost(&cost))
}

/// The constants that make the kernel.
pub(crate) fn form(code: f64, cache: bool) -> [(&'static str, f64); 2] {
    [("DTYPE", code), ("CACHE", f64::from(u8::from(cache)))]
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    let forms = [0.0, 1.0, 2.0].into_iter().flat_map(|code| [false, true].map(|cache| form(code, cache).to_vec()));
    forms.map(|constants| KernelForm { source: &NORM_ROTARY, constants }).collect()
}
