//! Made-up contents, made where they are needed: weights to measure with.

mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::{Buffer, CommandEncoder, DType, Dispatch, KernelSource, OpKind, Result};

use crate::check::Check;
use crate::{KernelForm, grid};

static RANDOM: KernelSource = KernelSource::wgsl("random", include_str!("random.wgsl")).with_cpu(cpu::random);

/// What the words are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bits,
    F32,
    F16,
    BF16,
}

impl Form {
    /// The constant `FORM` of the kernel.
    fn code(self) -> f64 {
        f64::from(self as u8)
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Constants {
    words: u32,
    seed: u32,
    mean: f32,
}

/// Fills a buffer with random bits, whatever its type: bytes depend on `seed` and their place alone, on every device.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let codes = device.buffer(DType::U32, &[64, 8])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::random::bits(&mut encoder, &codes, 7)?;
/// encoder.commit()?.wait()?;
/// let ones: u32 = codes.read::<u32>()?.iter().map(|word| word.count_ones()).sum();
/// assert!((7_900..8_500).contains(&ones));
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] for a length that is no whole number of words, or 2^31 of them and more; device errors.
pub fn bits(enc: &mut CommandEncoder, y: &Buffer, seed: u32) -> Result<()> {
    record(enc, y, Form::Bits, seed, 0.0)
}

/// Fills a buffer of f32, f16 or bf16 with numbers evenly spread over ¾ to 1¼ of `mean`.
///
/// Two buffers filled with one seed and other means are multiples of each other: scales and biases of a quantised
/// matrix, say. Every device makes the same bytes, but for the last bit of an f16.
///
/// # Errors
/// [`kovar::Error::Op`] for another type, or a length as for [`bits`]; device errors.
pub fn floats(enc: &mut CommandEncoder, y: &Buffer, mean: f32, seed: u32) -> Result<()> {
    let form = match y.dtype() {
        DType::F32 => Form::F32,
        DType::F16 => Form::F16,
        DType::BF16 => Form::BF16,
        _ => return Err(Check("random::floats").unfit("y", y, "f32, f16 or bf16")),
    };
    record(enc, y, form, seed, mean)
}

fn record(enc: &mut CommandEncoder, y: &Buffer, form: Form, seed: u32, mean: f32) -> Result<()> {
    let check = Check("random");
    let whole = Some(y.byte_len()).filter(|bytes| bytes.is_multiple_of(4)).map(|bytes| bytes / 4);
    let words = whole.and_then(|words| u32::try_from(words).ok()).filter(|words| *words < 1 << 31);
    let words = words.ok_or_else(|| check.unfit("y", y, "whole words, fewer than 2^31"))?;
    let kernel = enc.device().kernel(&RANDOM, &[("FORM", form.code())])?;
    let dispatch = Dispatch::new(&kernel).bind(0, y).kind(OpKind::Other);
    enc.dispatch(dispatch.constants(&Constants { words, seed, mean }).groups(grid::strided(words)))
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    [Form::Bits, Form::F32, Form::F16, Form::BF16]
        .map(|form| KernelForm { source: &RANDOM, constants: vec![("FORM", form.code())] })
        .to_vec()
}
