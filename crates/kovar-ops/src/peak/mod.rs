//! What a device can do at most: kernels that do one thing and nothing else, to hold others against.

mod cpu;

use bytemuck::{Pod, Zeroable};
use kovar::profile::Cost;
use kovar::{Buffer, CommandEncoder, DType, DeviceInfo, Dispatch, KernelSource, OpKind, Result};

use crate::KernelForm;
use crate::check::{Check, Length};
use crate::grid::MOST_GROUPS;

static READ: KernelSource = KernelSource::wgsl("peak_read", include_str!("read.wgsl")).with_cpu(cpu::read);
static FMA: KernelSource = KernelSource::wgsl("peak_fma", include_str!("fma.wgsl")).with_cpu(cpu::fma);
static DOT: KernelSource = KernelSource::wgsl("peak_dot", include_str!("dot.wgsl")).with_cpu(cpu::dot);

macro_rules! matrix {
    ($name:literal, $tile:literal) => {
        KernelSource::wgsl($name, concat!(include_str!($tile), include_str!("matrix.wgsl")))
    };
}

static MATRIX: [(u32, KernelSource); 2] =
    [(16, matrix!("peak_matrix_coop16", "coop16.wgsl")), (8, matrix!("peak_matrix_coop8", "../linear/coop8.wgsl"))];

/// Threads of a workgroup.
const WIDTH: u32 = 256;
/// Chains of a thread, and sums of a subgroup: enough to hide how long one takes.
const CHAINS: u32 = 8;
/// Subgroups of a workgroup that multiplies tiles.
const SUBGROUPS: u32 = 4;
/// Of each round, towards 1: numbers stay as they are, neither large nor tiny.
const TOWARDS_ONE: (f32, f32) = (0.999, 0.001);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Rounds {
    rounds: u32,
    factor: f32,
    summand: f32,
}

/// Reads all of `x` and sums it up: f32, a multiple of 4. The sum of `y`, f32 `[t]` with `t` a multiple of 256, is that of
/// `x`; each thread of a GPU makes one element of it, and so does each task of the CPU.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[0.5f32; 4096], &[4096])?;
/// let y = device.buffer(DType::F32, &[256])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::peak::read(&mut encoder, &x, &y)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<f32>()?.iter().sum::<f32>(), 2048.0);
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or lengths do not fit, device errors.
pub fn read(enc: &mut CommandEncoder, x: &Buffer, y: &Buffer) -> Result<()> {
    let check = Check("peak::read");
    check.dtype("x", x, DType::F32)?;
    let groups = groups(check, y, DType::F32)?;
    let n = Some(check.len32("x", x)?).filter(|n| n.is_multiple_of(4));
    let n = n.ok_or_else(|| check.unfit("x", x, "a multiple of 4 elements"))? / 4;
    let kernel = enc.device().kernel(&READ, &[])?;
    let (length, cost) = (Length { n }, Cost::of_operations(u64::from(n) * 4));
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, y).constants(&length).groups(groups);
    enc.dispatch(dispatch.kind(OpKind::Other).cost(&cost))
}

/// Computes eight chains of `rounds` multiply-adds of f32 for each element of `y`, f32 `[t]` with `t` a multiple of 256:
/// `a = 0.999 a + 0.001`, from different starts. An element is their sum.
///
/// # Errors
/// As [`read`].
pub fn fma(enc: &mut CommandEncoder, y: &Buffer, rounds: u32) -> Result<()> {
    let groups = groups(Check("peak::fma"), y, DType::F32)?;
    let kernel = enc.device().kernel(&FMA, &[])?;
    let (factor, summand) = TOWARDS_ONE;
    let cost = Cost::of_operations(y.len() as u64 * u64::from(rounds) * u64::from(CHAINS) * 2);
    let constants = Rounds { rounds, factor, summand };
    let dispatch = Dispatch::new(&kernel).bind(0, y).constants(&constants).groups(groups).kind(OpKind::Other);
    enc.dispatch(dispatch.cost(&cost))
}

/// Computes eight chains of `rounds` dot products of four signed bytes for each element of `y`, u32 `[t]` with `t` a
/// multiple of 256: each sum, which wraps, is as bytes a factor of another.
///
/// # Errors
/// As [`read`].
pub fn dot(enc: &mut CommandEncoder, y: &Buffer, rounds: u32) -> Result<()> {
    let groups = groups(Check("peak::dot"), y, DType::U32)?;
    let kernel = enc.device().kernel(&DOT, &[])?;
    let cost = Cost::of_operations(y.len() as u64 * u64::from(rounds) * u64::from(CHAINS) * 8);
    let dispatch = Dispatch::new(&kernel).bind(0, y).constants(&rounds).groups(groups).kind(OpKind::Other);
    enc.dispatch(dispatch.cost(&cost))
}

/// The edge of the tiles of f16, summed up in f32, that a device's matrix units multiply: 16 or 8. `None` if it has none
/// that Kovar uses.
pub fn matrix_edge(info: &DeviceInfo) -> Option<u32> {
    let shapes = || info.features.cooperative_matrix.iter();
    let has = |edge: u32| {
        shapes().any(|s| [s.m, s.n, s.k] == [edge; 3] && (s.input, s.output) == ("f16", "f32")) && info.features.f16
    };
    MATRIX.iter().map(|(edge, _)| *edge).find(|edge| has(*edge))
}

/// Elements of `y` that a workgroup of [`matrix`] works on.
pub fn matrix_elements(edge: u32) -> usize {
    (SUBGROUPS * CHAINS * edge * edge) as usize
}

/// Adds the product of two tiles to each tile of `y`, `rounds` times, on matrix units. `x` is f16 with two tiles of
/// [`matrix_edge`], `y` f32, as many tiles as whole workgroups have: see [`matrix_elements`].
///
/// # Errors
/// As [`read`], and where the device has no matrix units.
pub fn matrix(enc: &mut CommandEncoder, x: &Buffer, y: &Buffer, rounds: u32) -> Result<()> {
    let check = Check("peak::matrix");
    let info = enc.device().info();
    let edge = matrix_edge(info).ok_or_else(|| check.fail(format!("{} has no matrix units", info.name)))?;
    let (tiles, each) = ((2 * edge * edge) as usize, matrix_elements(edge));
    if x.dtype() != DType::F16 || x.len() != tiles {
        return Err(check.unfit("x", x, &format!("[{tiles}] f16")));
    }
    let groups = u32::try_from(y.len() / each).unwrap_or(u32::MAX);
    if y.dtype() != DType::F32 || !y.len().is_multiple_of(each) || groups > MOST_GROUPS {
        return Err(check.unfit("y", y, &format!("f32, up to {MOST_GROUPS} times {each}")));
    }
    let source = MATRIX.iter().find(|(of, _)| *of == edge).map(|(_, source)| source);
    let kernel = enc.device().kernel(source.ok_or_else(|| check.fail("no such tile"))?, &[])?;
    let products = u64::from(groups * SUBGROUPS * CHAINS) * u64::from(rounds);
    let cost = Cost::of_operations(products * 2 * u64::from(edge).pow(3));
    let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, y).constants(&rounds).groups([groups, 1, 1]);
    enc.dispatch(dispatch.kind(OpKind::Other).cost(&cost))
}

/// Workgroups with a thread for each element.
fn groups(check: Check, y: &Buffer, dtype: DType) -> Result<[u32; 3]> {
    check.dtype("y", y, dtype)?;
    let n = check.len32("y", y)?;
    if !n.is_multiple_of(WIDTH) || n / WIDTH > MOST_GROUPS {
        return Err(check.unfit("y", y, &format!("a multiple of {WIDTH} elements, up to {MOST_GROUPS} of them")));
    }
    Ok([n / WIDTH, 1, 1])
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    let matrices = MATRIX.iter().map(|(_, source)| source);
    [&READ, &FMA, &DOT].into_iter().chain(matrices).map(|source| KernelForm { source, constants: vec![] }).collect()
}
