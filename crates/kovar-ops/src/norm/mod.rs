//! Normalisation.

pub(crate) mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::{Check, float_code};
use crate::{KernelForm, grid};

static RMS_NORM: KernelSource =
    KernelSource::wgsl("rms_norm", include_str!("norm.wgsl")).with_cpu(cpu::rms_norm).unaligned(&[1]);

/// Subgroups of a workgroup.
const SUBGROUPS: u32 = 8;
/// Rows longer than this are shared by a workgroup; shorter ones get a subgroup each.
const SHORT: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Constants {
    pub(crate) rows: u32,
    pub(crate) width: u32,
    pub(crate) eps: f32,
}

/// How a norm is run.
pub(crate) struct Shape {
    pub(crate) constants: Constants,
    code: f64,
}

impl Shape {
    pub(crate) fn groups(&self) -> [u32; 3] {
        grid::rows(groups(self.constants.rows, self.constants.width as usize))
    }

    pub(crate) fn form(&self) -> [(&'static str, f64); 2] {
        form(self.code, self.constants.width)
    }
}

/// The constants that make a kernel of norms.
pub(crate) fn form(code: f64, width: u32) -> [(&'static str, f64); 2] {
    [("DTYPE", code), ("SPAN", f64::from(span(width as usize)))]
}

/// Subgroups that share a row.
fn span(width: usize) -> u32 {
    if width <= SHORT { 1 } else { SUBGROUPS }
}

/// Workgroups for rows.
pub(crate) fn groups(rows: u32, width: usize) -> u32 {
    if width <= SHORT { rows.div_ceil(SUBGROUPS) } else { rows }
}

/// Rows of `x` as long as the weight, which is [d] of a float type.
pub(crate) fn shape(check: Check, x: &Buffer, weight: &Buffer, eps: f32) -> Result<Shape> {
    let width = weight.len();
    let code = match float_code(weight.dtype()) {
        Some(code) if weight.shape().len() == 1 => code,
        _ => return Err(check.unfit("weight", weight, "[d] of f32, f16 or bf16")),
    };
    if !x.len().is_multiple_of(width) {
        return Err(check.unfit("x", x, &format!("rows of {width}, the length of the weight")));
    }
    let rows = check.len32("x", x)? / width as u32;
    Ok(Shape { constants: Constants { rows, width: width as u32, eps }, code })
}

/// `y = x / sqrt(mean(x²) + eps) · weight` for each row of `d` elements (Zhang, Sennrich: "Root mean square layer
/// normalization", 2019). The mean is accumulated in f32.
///
/// `x` and `y` are f32 [..., d] of equal length that do not overlap; `weight` is f32, f16 or bf16 `[d]`. The axes of `x`
/// may be cut in any way: its rows are `x.len() / d`, so heads are normalised by giving a `weight` as long as a head.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[3.0f32, 4.0, -4.0, 3.0], &[2, 2])?;
/// let weight = device.upload(&[1.0f32, 2.0], &[2])?;
/// let y = device.buffer(DType::F32, &[2, 2])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::norm::rms_norm(&mut encoder, &x, &weight, &y, 0.0)?;
/// encoder.commit()?.wait()?;
/// let root = 12.5f32.sqrt();
/// for (y, exact) in y.read::<f32>()?.iter().zip([3.0 / root, 8.0 / root, -4.0 / root, 6.0 / root]) {
///     assert!((y - exact).abs() < 1e-6);
/// }
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn rms_norm(enc: &mut CommandEncoder, x: &Buffer, weight: &Buffer, y: &Buffer, eps: f32) -> Result<()> {
    let check = Check("rms_norm");
    check.dtype("x", x, DType::F32)?;
    check.dtype("y", y, DType::F32)?;
    check.same_len("x", x, "y", y)?;
    let shape = shape(check, x, weight, eps)?;
    let kernel = enc.device().kernel(&RMS_NORM, &shape.form())?;
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, weight).bind(2, y).kind(OpKind::Norm);
    enc.dispatch(dispatch.constants(&shape.constants).groups(shape.groups()))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    forms().map(|constants| KernelForm { source: &RMS_NORM, constants }).collect()
}

/// The constants of every form of a norm.
pub(crate) fn forms() -> impl Iterator<Item = Vec<(&'static str, f64)>> {
    let forms = [0.0, 1.0, 2.0].into_iter().flat_map(|code| [1, SUBGROUPS].map(|span| (code, f64::from(span))));
    forms.map(|(code, span)| vec![("DTYPE", code), ("SPAN", span)])
}
