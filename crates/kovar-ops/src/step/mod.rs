//! From one token to the next, on the device.

mod cpu;

use kovar::profile::Cost;
use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::KernelForm;
use crate::check::Check;

static ADVANCE: KernelSource = KernelSource::wgsl("advance", include_str!("step.wgsl")).with_cpu(cpu::advance);

/// Makes the chosen token the next input: `history[position] = chosen`, `token = chosen`, `position += 1`.
///
/// With this at its end, the recording of a decode step can run again and again with no help from the host. `chosen`,
/// `token` and `position` are u32 `[1]`, `history` is u32 `[capacity]`; positions beyond the capacity are not kept.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let (chosen, token) = (device.upload(&[7u32], &[1])?, device.upload(&[3u32], &[1])?);
/// let (position, history) = (device.upload(&[1u32], &[1])?, device.buffer(DType::U32, &[4])?);
/// let mut encoder = device.encoder()?;
/// kovar_ops::step::advance(&mut encoder, &chosen, &token, &position, &history)?;
/// encoder.commit()?.wait()?;
/// assert_eq!((token.read::<u32>()?[0], position.read::<u32>()?[0]), (7, 2));
/// assert_eq!(history.read::<u32>()?, [0, 7, 0, 0]);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn advance(
    enc: &mut CommandEncoder,
    chosen: &Buffer,
    token: &Buffer,
    position: &Buffer,
    history: &Buffer,
) -> Result<()> {
    let check = Check("step::advance");
    for (role, buffer) in [("chosen", chosen), ("token", token)] {
        check.dtype(role, buffer, DType::U32)?;
        check.same_len(role, buffer, "position", position)?;
    }
    check.position(position)?;
    check.dtype("history", history, DType::U32)?;
    let capacity = check.len32("history", history)?;
    let kernel = enc.device().kernel(&ADVANCE, &[])?;
    let dispatch = Dispatch::new(&kernel).bind(0, chosen).bind(1, token).bind(2, position).bind(3, history);
    // One word each, also of the history.
    let cost = Cost { read: Some(8), written: Some(12), ..Cost::default() };
    enc.dispatch(dispatch.constants(&capacity).groups([1, 1, 1]).kind(OpKind::Sampling).cost(&cost))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    vec![KernelForm { source: &ADVANCE, constants: vec![] }]
}
