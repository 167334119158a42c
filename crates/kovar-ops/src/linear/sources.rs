//! The kernels: a way to read weights in front of a way to multiply.

use kovar::KernelSource;

use super::{cpu, fast};
use crate::KernelForm;

/// The kernels of the products.
pub(super) struct Sources {
    pub(super) affine_vec: KernelSource,
    pub(super) affine_mat: KernelSource,
    /// As `affine_mat`, on matrix units with tiles of 8 and 16.
    pub(super) affine_mat_coop8: KernelSource,
    pub(super) affine_mat_coop16_wide: KernelSource,
    pub(super) affine_mat_coop16_narrow: KernelSource,
    pub(super) affine_mat_coop16_small: KernelSource,
    pub(super) dense_vec: KernelSource,
    pub(super) dense_mat: KernelSource,
    /// One or few rows that the kernel rounds itself.
    pub(super) fast: fast::Sources,
    /// Takes what `round` makes.
    pub(super) affine_mat_fast: KernelSource,
    pub(super) round: KernelSource,
    /// Rounds for the kernels of f32, on GPUs.
    pub(super) round_values: KernelSource,
    /// For those of f16.
    pub(super) round_halves: KernelSource,
}

macro_rules! source {
    ($name:literal, $($file:literal),+) => { KernelSource::wgsl($name, concat!($(include_str!($file)),+)) };
}

/// Slots of a matrix, which files have at any byte.
const AFFINE: &[usize] = &[2, 3, 4];
const DENSE: &[usize] = &[2];

impl Sources {
    /// `LEVEL`: which of the processor's instruction sets the CPU uses, the best being 0.
    pub(super) const fn new<const LEVEL: usize>() -> Sources {
        Sources {
            affine_vec: source!("affine_vec", "affine.wgsl", "affine_vec.wgsl")
                .with_cpu(cpu::affine_vec::<LEVEL>)
                .unaligned(AFFINE),
            affine_mat: source!("affine_mat", "affine.wgsl", "mat.wgsl")
                .with_cpu(cpu::affine_mat::<LEVEL>)
                .unaligned(AFFINE),
            affine_mat_coop8: source!("affine_mat_coop8", "coop8.wgsl", "affine.wgsl", "mat_coop.wgsl"),
            affine_mat_coop16_wide: source!(
                "affine_mat_coop16_wide",
                "coop16_wide.wgsl",
                "affine.wgsl",
                "mat_coop16.wgsl"
            ),
            affine_mat_coop16_narrow: source!(
                "affine_mat_coop16_narrow",
                "coop16_narrow.wgsl",
                "affine.wgsl",
                "mat_coop16.wgsl"
            ),
            affine_mat_coop16_small: source!(
                "affine_mat_coop16_small",
                "coop16_small.wgsl",
                "affine.wgsl",
                "mat_coop16.wgsl"
            ),
            dense_vec: source!("dense_vec", "dense.wgsl", "dense_vec.wgsl")
                .with_cpu(cpu::dense_vec::<LEVEL>)
                .unaligned(DENSE),
            dense_mat: source!("dense_mat", "dense.wgsl", "mat.wgsl")
                .with_cpu(cpu::dense_mat::<LEVEL>)
                .unaligned(DENSE),
            fast: fast::Sources::new::<LEVEL>(),
            affine_mat_fast: source!("affine_mat_fast", "affine.wgsl", "mat_fast.wgsl")
                .with_cpu(cpu::affine_mat_fast::<LEVEL>)
                .unaligned(AFFINE),
            round: source!("round", "round.wgsl").with_cpu(cpu::round::<LEVEL>),
            round_values: source!("round_values", "round_f32.wgsl", "round_values.wgsl"),
            round_halves: source!("round_halves", "round_f16.wgsl", "round_values.wgsl"),
        }
    }
}

pub(super) static SOURCES: Sources = Sources::new::<0>();

/// Each kernel with the constants of each of its forms.
pub(super) fn all() -> Vec<KernelForm> {
    let s = &SOURCES;
    let affine = [
        &s.affine_vec,
        &s.affine_mat,
        &s.affine_mat_coop8,
        &s.affine_mat_coop16_wide,
        &s.affine_mat_coop16_narrow,
        &s.affine_mat_coop16_small,
        &s.affine_mat_fast,
    ];
    let mut all = Vec::new();
    for source in affine {
        all.extend(affine_forms().into_iter().map(|constants| KernelForm { source, constants }));
    }
    for source in [&s.dense_vec, &s.dense_mat] {
        all.extend(dense_forms().into_iter().map(|constants| KernelForm { source, constants }));
    }
    let round = [4.0, 8.0].map(|bits| vec![("BITS", bits), ("GROUP", 64.0)]);
    all.extend(round.map(|constants| KernelForm { source: &s.round, constants }));
    all.extend([&s.round_values, &s.round_halves].map(|source| KernelForm { source, constants: Vec::new() }));
    all
}

/// Constants of every kind of quantised matrix, but for group sizes, which change one number in the code.
pub(crate) fn affine_forms() -> Vec<Vec<(&'static str, f64)>> {
    let form = |bits, stype| vec![("BITS", bits), ("GROUP", 64.0), ("STYPE", stype)];
    [4.0, 8.0].into_iter().flat_map(|bits| [0.0, 1.0, 2.0].map(|stype| form(bits, stype))).collect()
}

/// Constants of every kind of dense matrix.
pub(crate) fn dense_forms() -> Vec<Vec<(&'static str, f64)>> {
    let form = |stype, aligned| vec![("STYPE", stype), ("ALIGNED", aligned)];
    [0.0, 1.0, 2.0].into_iter().flat_map(|stype| [1.0, 0.0].map(|aligned| form(stype, aligned))).collect()
}
