//! Writing keys and values into their cache.

mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::profile::Cost;
use kovar::{Buffer, CommandEncoder, Dispatch, KernelSource, OpKind, Result};

use crate::check::Check;
use crate::{KernelForm, grid};

static WRITE: KernelSource = KernelSource::wgsl("write_cache", include_str!("cache.wgsl")).with_cpu(cpu::write);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Constants {
    pub(crate) rows: u32,
    pub(crate) width: u32,
    pub(crate) capacity: u32,
}

/// `cache[position + i] = x[i]` for each row: the keys or values of new tokens join those of earlier ones.
///
/// `x` is f32 [t, kv_heads, hd], `cache` f32 [capacity, kv_heads, hd], and `position` u32 `[1]`, the place of the first
/// row: in a buffer, so that a recording can run again for the next token. Rows beyond the capacity are dropped.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[1.0f32, 2.0, 3.0, 4.0], &[2, 1, 2])?;
/// let position = device.upload(&[1u32], &[1])?;
/// let cache = device.buffer(DType::F32, &[4, 1, 2])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::cache::write(&mut encoder, &x, &position, &cache)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(cache.read::<f32>()?, [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn write(enc: &mut CommandEncoder, x: &Buffer, position: &Buffer, cache: &Buffer) -> Result<()> {
    let check = Check("cache::write");
    let [rows, heads, size] = check.axes3("x", x, "[t, kv_heads, hd] f32")?;
    let [capacity, cache_heads, cache_size] = check.axes3("cache", cache, "[capacity, kv_heads, hd] f32")?;
    if (heads, size) != (cache_heads, cache_size) {
        return Err(check.unfit("cache", cache, &format!("rows of [{heads}, {size}], as x has")));
    }
    check.position(position)?;
    check.len32("cache", cache)?;
    let n = check.len32("x", x)?;
    let kernel = enc.device().kernel(&WRITE, &[])?;
    let constants = Constants { rows: rows as u32, width: (heads * size) as u32, capacity: capacity as u32 };
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, position).bind(2, cache).kind(OpKind::CacheWrite);
    // Rows of a cache that is bound whole.
    let cost = Cost { written: Some(x.byte_len()), ..Cost::default() };
    enc.dispatch(dispatch.constants(&constants).groups(grid::strided(n)).cost(&cost))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    vec![KernelForm { source: &WRITE, constants: vec![] }]
}
