//! Rows of a weight matrix by token.

mod cpu;

use kovar::profile::Cost;
use kovar::{Buffer, CommandEncoder, DType, Dispatch, Error, KernelSource, OpKind, Result};

use crate::linear::{Params, affine_form, affine_forms, dense_form, dense_forms};
use crate::{KernelForm, Matrix};

static AFFINE: KernelSource =
    KernelSource::wgsl("embed_affine", concat!(include_str!("../linear/affine.wgsl"), include_str!("embedding.wgsl")))
        .with_cpu(cpu::affine)
        .unaligned(&[2, 3, 4]);
static DENSE: KernelSource =
    KernelSource::wgsl("embed_dense", concat!(include_str!("../linear/dense.wgsl"), include_str!("embedding.wgsl")))
        .with_cpu(cpu::dense)
        .unaligned(&[2]);

/// Threads of a workgroup, and columns that each takes.
const GROUP_COLUMNS: u32 = 64 * 4;
/// Tokens along y of the grid before z is used: every device takes 65535 in an axis.
const GRID_Y: u32 = 1 << 15;

/// Looks rows of a table [n, k] up, widened to f32: `tokens` u32 `[t]`, `y` f32 [t, k].
///
/// A token that is `n` or more gives the last row: nothing outside the table is read.
///
/// # Errors
/// [`Error::Op`] naming the argument whose type or length does not fit; errors of the encoder.
///
/// ```
/// use kovar::{Backend, Device, DeviceOptions};
/// use kovar_ops::{DenseMatrix, Matrix, embedding};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let table = Matrix::Dense(DenseMatrix::new(device.upload(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?)?);
/// let tokens = device.upload(&[1u32, 0, 1], &[3])?;
/// let y = device.buffer(kovar::DType::F32, &[3, 2])?;
/// let mut encoder = device.encoder()?;
/// embedding::embed(&mut encoder, &table, &tokens, &y)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<f32>()?, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), kovar::Error>(())
/// ```
pub fn embed(encoder: &mut CommandEncoder, table: &Matrix, tokens: &Buffer, y: &Buffer) -> Result<()> {
    let params = check(table, tokens, y)?;
    let device = encoder.device();
    let kernel = match table {
        Matrix::Affine(w) => device.kernel(&AFFINE, &affine_form(w))?,
        Matrix::Dense(w) => device.kernel(&DENSE, &dense_form(w))?,
    };
    let dispatch = Dispatch::new(&kernel).bind(0, tokens).bind(1, y);
    let dispatch = match table {
        Matrix::Affine(w) => dispatch.bind(2, w.codes()).bind(3, w.scales()).bind(4, w.biases()),
        Matrix::Dense(w) => dispatch.bind(2, w.weight()),
    };
    let grid = [params.k.div_ceil(GROUP_COLUMNS), params.m.min(GRID_Y), params.m.div_ceil(GRID_Y)];
    // A row of the table for each token, of a table that is bound whole.
    let row = table.byte_len() / table.n() as u64;
    let cost = Cost { read: Some(tokens.byte_len() + row * u64::from(params.m)), ..Cost::default() };
    encoder.dispatch(dispatch.constants(&params).groups(grid).kind(OpKind::Embedding).cost(&cost))
}

/// Every kernel of this module, with the constants of each form: for checks of the translated code.
pub(crate) fn kernels() -> Vec<KernelForm> {
    let affine = affine_forms().into_iter().map(|constants| KernelForm { source: &AFFINE, constants });
    affine.chain(dense_forms().into_iter().map(|constants| KernelForm { source: &DENSE, constants })).collect()
}

fn check(table: &Matrix, tokens: &Buffer, y: &Buffer) -> Result<Params> {
    let wrong = |message| Error::Op { op: "embed", message };
    let (t, n, k) = (tokens.len(), table.n(), table.k());
    if tokens.dtype() != DType::U32 {
        return Err(wrong(format!("tokens ({:?}) are {}, not u32", tokens.label(), tokens.dtype())));
    }
    if y.dtype() != DType::F32 || y.len() != t * k {
        return Err(wrong(format!(
            "y is {:?} {}, not [{t}, {k}] f32 for {t} tokens and table [{n}, {k}]",
            y.shape(),
            y.dtype()
        )));
    }
    let small = |value: usize| u32::try_from(value).map_err(|_| wrong(format!("{value} elements are too many")));
    // Kernels count elements in 32 bits.
    small(n * k)?;
    small(y.len())?;
    Ok(Params { m: small(t)?, n: small(n)?, k: small(k)? })
}
