//! Change of element type.

mod cpu;

use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::{Check, Length};
use crate::{KernelForm, grid};

static CAST: KernelSource = KernelSource::wgsl("cast", include_str!("cast.wgsl")).with_cpu(cpu::cast);

/// The constant `FORM` of the kernel.
fn form(from: DType, to: DType) -> Option<f64> {
    match (from, to) {
        (DType::F32, DType::F16) => Some(0.0),
        (DType::F32, DType::BF16) => Some(1.0),
        (DType::F16, DType::F32) => Some(2.0),
        (DType::BF16, DType::F32) => Some(3.0),
        _ => None,
    }
}

/// `y[i] = x[i]` as another float type: between f32 and f16 or bf16, either way.
///
/// Widening is exact. Narrowing rounds to the nearest value, ties to even (IEEE 754), with subnormal results; what is
/// too large becomes infinite, and NaN stays NaN. Every backend gives the same bits, up to the payload of NaN.
/// `x` and `y` have equal lengths and do not overlap.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[1.0f32, 1e9, 1.0 / 3.0], &[3])?;
/// let y = device.buffer(DType::F16, &[3])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::cast::cast(&mut encoder, &x, &y)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<half::f16>()?, [1.0, 1e9, 1.0 / 3.0].map(half::f16::from_f32));
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] for other types or unequal lengths, device errors.
pub fn cast(enc: &mut CommandEncoder, x: &Buffer, y: &Buffer) -> Result<()> {
    let check = Check("cast");
    check.same_len("x", x, "y", y)?;
    let Some(form) = form(x.dtype(), y.dtype()) else {
        let message = format!("from {} to {}: casts go between f32 and f16 or bf16", x.dtype(), y.dtype());
        return Err(check.fail(message));
    };
    let n = check.len32("x", x)?;
    let kernel = enc.device().kernel(&CAST, &[("FORM", form)])?;
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, y).kind(OpKind::Cast);
    enc.dispatch(dispatch.constants(&Length { n }).groups(grid::strided(n.div_ceil(2))))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    [0.0, 1.0, 2.0, 3.0].map(|form| KernelForm { source: &CAST, constants: vec![("FORM", form)] }).to_vec()
}
