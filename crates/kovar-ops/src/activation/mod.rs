//! Activation functions.

pub(crate) mod cpu;

use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::{Check, Length};
use crate::{KernelForm, grid};

static SILU_MUL: KernelSource = KernelSource::wgsl("silu_mul", include_str!("activation.wgsl")).with_cpu(cpu::silu_mul);

/// `y[i] = silu(gate[i]) · up[i]` with `silu(g) = g / (1 + e⁻ᵍ)`: the gated activation of Llama and Qwen (Shazeer: "GLU
/// variants improve transformer", 2020).
///
/// `gate`, `up` and `y` are f32 of equal length; `y` overlaps neither of the others.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let gate = device.upload(&[0.0f32, 2.0], &[2])?;
/// let up = device.upload(&[5.0f32, 1.0], &[2])?;
/// let y = device.buffer(DType::F32, &[2])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::activation::silu_mul(&mut encoder, &gate, &up, &y)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<f32>()?, [0.0, 2.0 / (1.0 + (-2.0f32).exp())]);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or lengths differ, device errors.
pub fn silu_mul(enc: &mut CommandEncoder, gate: &Buffer, up: &Buffer, y: &Buffer) -> Result<()> {
    let check = Check("silu_mul");
    for (role, buffer) in [("gate", gate), ("up", up), ("y", y)] {
        check.dtype(role, buffer, DType::F32)?;
        check.same_len(role, buffer, "y", y)?;
    }
    let n = check.len32("y", y)?;
    let kernel = enc.device().kernel(&SILU_MUL, &[])?;
    let dispatch = Dispatch::new(&kernel).bind(0, gate).bind(1, up).bind(2, y).kind(OpKind::Activation);
    enc.dispatch(dispatch.constants(&Length { n }).groups(grid::strided(n)))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    vec![KernelForm { source: &SILU_MUL, constants: vec![] }]
}
