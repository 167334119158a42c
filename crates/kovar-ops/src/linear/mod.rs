//! Products with weight matrices: `y = x Wᵀ`.

mod coop;
mod cpu;
pub(crate) mod fast;
mod sources;
pub(crate) mod weights;

use kovar::profile::Cost;
use kovar::{Backend, Buffer, CommandEncoder, DType, Dispatch, Error, KernelSource, OpKind, Result};

use crate::{AffineMatrix, DenseMatrix, KernelForm, Matrix, Precision};
pub use fast::{Normed, add_linear, attended_linear, gated_linear, norm_linear};
use sources::{SOURCES, Sources};
pub(crate) use sources::{affine_forms, dense_forms};

/// Rows of `x` up to which GPUs multiply each on its own.
const FEW: u32 = 4;
/// Elements of y that a workgroup of the matrix–vector kernels makes.
const VEC_ROWS: usize = 8;
/// Side of the tile that a workgroup of the matrix–matrix kernels makes.
const TILE: usize = 64;
/// Threads of a workgroup that rounds x.
const ROUND_THREADS: usize = 64;
/// Elements of a row of y that a workgroup makes of rounded rows.
const FAST_COLUMNS: u32 = 64;
/// Workgroups along x before y is used: every device takes 65535 in an axis.
const GRID_X: usize = 1 << 15;

/// Sizes of a product, as the kernels take them.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    /// Rows of x and y.
    pub(crate) m: u32,
    /// Rows of the weights: length of a row of y.
    pub(crate) n: u32,
    /// Length of a row of x and of the weights.
    pub(crate) k: u32,
}

impl Params {
    /// A multiplication and an addition for each element of the weights and row of x. Bytes are those of the slots.
    pub(crate) fn cost(&self) -> Cost {
        Cost::of_operations(2 * u64::from(self.m) * u64::from(self.n) * u64::from(self.k))
    }
}

/// Multiplies rows with a weight matrix: `y = x Wᵀ`, with `x` f32 [m, k], the matrix [n, k] and `y` f32 [m, n].
///
/// The axes of `x` and `y` may be cut otherwise (heads, say): their lengths count. Codes of a quantised matrix are
/// widened to f32 in the kernel; sums are f32. With [`Precision::Fast`], before products with a quantised matrix, `x` is
/// rounded to 8 bits in blocks of 32. A GPU with cooperative matrices of f16 then rounds both factors to f16 where `x` has 16
/// rows or more: elements of `x` beyond 65504 are infinite. Sums stay f32.
///
/// # Errors
/// [`Error::Op`] naming the argument whose type or length does not fit; errors of the encoder.
///
/// ```
/// use kovar::{Backend, Device, DeviceOptions};
/// use kovar_ops::{DenseMatrix, Matrix, Precision, linear};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let w = Matrix::Dense(DenseMatrix::new(device.upload(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2])?)?);
/// let x = device.upload(&[10.0f32, 1.0], &[1, 2])?;
/// let y = device.buffer(kovar::DType::F32, &[1, 3])?;
/// let mut encoder = device.encoder()?;
/// linear::linear(&mut encoder, &w, &x, &y, Precision::Exact)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<f32>()?, [12.0, 34.0, 56.0]);
/// # Ok::<(), kovar::Error>(())
/// ```
pub fn linear(
    encoder: &mut CommandEncoder,
    matrix: &Matrix,
    x: &Buffer,
    y: &Buffer,
    precision: Precision,
) -> Result<()> {
    Product { x, y, params: check(matrix, x, y)?, precision, sources: &SOURCES }.record(encoder, matrix)
}

/// Every kernel of this module, with the constants of each form: for checks of the translated code.
pub(crate) fn kernels() -> Vec<KernelForm> {
    sources::all()
}

/// Rows of `x` that the kernels of one or few rows take.
fn small_enough() -> u32 {
    FEW
}

fn wrong(message: String) -> Error {
    Error::Op { op: "linear", message }
}

fn check(matrix: &Matrix, x: &Buffer, y: &Buffer) -> Result<Params> {
    let (n, k) = (matrix.n(), matrix.k());
    for (name, buffer) in [("x", x), ("y", y)] {
        if buffer.dtype() != DType::F32 {
            return Err(wrong(format!("{name} ({:?}) is {}, not f32", buffer.label(), buffer.dtype())));
        }
    }
    if !x.len().is_multiple_of(k) {
        return Err(wrong(format!("x is {:?}: not rows of {k}, as the matrix [{n}, {k}] wants", x.shape())));
    }
    let m = x.len() / k;
    if y.len() != m * n {
        return Err(wrong(format!("y is {:?}, not [{m}, {n}] for x {:?} and matrix [{n}, {k}]", y.shape(), x.shape())));
    }
    let small = |value: usize| u32::try_from(value).map_err(|_| wrong(format!("{value} elements are too many")));
    // Kernels count elements in 32 bits.
    small(n * k)?;
    small(x.len())?;
    small(y.len())?;
    Ok(Params { m: small(m)?, n: small(n)?, k: small(k)? })
}

/// Words of a row of k elements rounded to 8 bits: codes, a scale for each 32, a sum for each group.
pub(crate) fn record_words(k: usize, group: usize) -> usize {
    k / 4 + k / 32 + k / group
}

/// The number by which kernels know a float type.
pub(crate) fn float_code(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1.0,
        DType::BF16 => 2.0,
        _ => 0.0,
    }
}

/// The constants by which kernels know the form of a quantised matrix.
pub(crate) fn affine_form(w: &AffineMatrix) -> [(&'static str, f64); 3] {
    [("BITS", w.bits().into()), ("GROUP", w.group().into()), ("STYPE", float_code(w.scales().dtype()))]
}

/// The constants by which kernels know the form of a dense matrix.
pub(crate) fn dense_form(w: &DenseMatrix) -> [(&'static str, f64); 2] {
    let aligned = w.weight().shape()[1].is_multiple_of(4);
    [("STYPE", float_code(w.weight().dtype())), ("ALIGNED", f64::from(u8::from(aligned)))]
}

/// What is multiplied, with which kernels.
struct Product<'a> {
    x: &'a Buffer,
    y: &'a Buffer,
    params: Params,
    precision: Precision,
    sources: &'a Sources,
}

impl Product<'_> {
    fn record(&self, encoder: &mut CommandEncoder, matrix: &Matrix) -> Result<()> {
        let cpu = encoder.device().info().backend == Backend::Cpu;
        // The CPU unpacks a matrix once for all rows; GPUs do so for many only.
        let few = self.params.m <= if cpu { 1 } else { FEW };
        match matrix {
            Matrix::Dense(w) => self.dense(encoder, w, few),
            Matrix::Affine(w)
                if self.precision == Precision::Fast && few && fast::fits(encoder.device(), self.params.k) =>
            {
                self.rounded(encoder, w)
            }
            Matrix::Affine(w) if cpu && self.precision == Precision::Fast => self.affine_fast(encoder, w),
            Matrix::Affine(w) if self.precision == Precision::Fast => {
                let tiled = self.tiled(encoder);
                let x = &self.round_values(encoder, tiled.as_ref().map_or(DType::F32, |tiled| tiled.input))?;
                match tiled {
                    Some(tiled) => self.affine(encoder, w, tiled.source, x, tiled.grid(self.params.m, self.params.n)),
                    None => self.affine(encoder, w, &self.sources.affine_mat, x, self.grid(false)),
                }
            }
            Matrix::Affine(w) => {
                let source = if few { &self.sources.affine_vec } else { &self.sources.affine_mat };
                self.affine(encoder, w, source, self.x, self.grid(few))
            }
        }
    }

    /// The kernel on matrix units, where the device has them and they pay.
    fn tiled(&self, encoder: &CommandEncoder) -> Option<coop::Tiled<'_>> {
        coop::choose(self.sources, encoder.device().info(), self.params, self.y.byte_offset())
    }

    /// With x rounded to 8 bits in the kernel.
    fn rounded(&self, encoder: &mut CommandEncoder, w: &AffineMatrix) -> Result<()> {
        let Params { m, k, .. } = self.params;
        let params = fast::FastParams::plain(self.params);
        let geometry = fast::Geometry::new(encoder.device(), fast::Shape::Plain, &params);
        let form = fast::form(fast::Stored::of(w), k, geometry, None);
        let kernel = encoder.device().kernel(self.sources.fast.of(fast::Shape::Plain), &form)?;
        let dispatch = Dispatch::new(&kernel).bind(0, self.x).bind(1, self.y).constants(&params);
        let dispatch = dispatch.bind(2, w.codes()).bind(3, w.scales()).bind(4, w.biases());
        encoder.dispatch(dispatch.groups([geometry.groups, 1, m]).kind(OpKind::MatVec).cost(&self.params.cost()))
    }

    /// With x rounded to 8 bits before the product.
    fn affine_fast(&self, encoder: &mut CommandEncoder, w: &AffineMatrix) -> Result<()> {
        let Params { m, n, k } = self.params;
        let words = record_words(k as usize, w.group() as usize);
        let records = encoder.device().scratch(DType::U32, &[m as usize, words])?;
        let [bits, group, _] = affine_form(w);
        let round = encoder.device().kernel(&self.sources.round, &[bits, group])?;
        let groups = (m as usize * (k / w.group()) as usize).div_ceil(ROUND_THREADS);
        let grid = [groups.min(GRID_X) as u32, groups.div_ceil(GRID_X) as u32, 1];
        let dispatch = Dispatch::new(&round).bind(0, self.x).bind(1, &records).constants(&self.params).groups(grid);
        encoder.dispatch(dispatch.kind(OpKind::Cast))?;
        let grid = [n.div_ceil(FAST_COLUMNS), m, 1];
        self.affine(encoder, w, &self.sources.affine_mat_fast, &records, grid)
    }

    /// x rounded to 8 bits, as f32 or f16.
    fn round_values(&self, encoder: &mut CommandEncoder, dtype: DType) -> Result<Buffer> {
        let source = if dtype == DType::F16 { &self.sources.round_halves } else { &self.sources.round_values };
        let kernel = encoder.device().kernel(source, &[])?;
        let rounded = encoder.device().scratch(dtype, self.x.shape())?;
        let groups = (self.x.len() / 32).div_ceil(ROUND_THREADS);
        let grid = [groups.min(GRID_X) as u32, groups.div_ceil(GRID_X) as u32, 1];
        let dispatch = Dispatch::new(&kernel).bind(0, self.x).bind(1, &rounded).constants(&self.params).groups(grid);
        encoder.dispatch(dispatch.kind(OpKind::Cast))?;
        Ok(rounded)
    }

    fn affine(
        &self,
        encoder: &mut CommandEncoder,
        w: &AffineMatrix,
        source: &KernelSource,
        x: &Buffer,
        grid: [u32; 3],
    ) -> Result<()> {
        let kernel = encoder.device().kernel(source, &affine_form(w))?;
        let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, self.y).constants(&self.params);
        let dispatch = dispatch.bind(2, w.codes()).bind(3, w.scales()).bind(4, w.biases());
        encoder.dispatch(dispatch.groups(grid).kind(kind(self.params.m <= FEW)).cost(&self.params.cost()))
    }

    fn dense(&self, encoder: &mut CommandEncoder, w: &DenseMatrix, few: bool) -> Result<()> {
        let source = if few { &self.sources.dense_vec } else { &self.sources.dense_mat };
        let kernel = encoder.device().kernel(source, &dense_form(w))?;
        let dispatch = Dispatch::new(&kernel).bind(0, self.x).bind(1, self.y).bind(2, w.weight());
        let dispatch = dispatch.constants(&self.params).groups(self.grid(few)).kind(kind(self.params.m <= FEW));
        encoder.dispatch(dispatch.cost(&self.params.cost()))
    }

    /// The grid of a kernel that multiplies each row of x on its own, or that makes tiles.
    fn grid(&self, few: bool) -> [u32; 3] {
        let (m, n) = (self.params.m as usize, self.params.n as usize);
        if !few {
            return [n.div_ceil(TILE) as u32, m.div_ceil(TILE) as u32, 1];
        }
        let groups = n.div_ceil(VEC_ROWS);
        [groups.min(GRID_X) as u32, groups.div_ceil(GRID_X) as u32, m as u32]
    }
}

fn kind(few: bool) -> OpKind {
    if few { OpKind::MatVec } else { OpKind::MatMul }
}
