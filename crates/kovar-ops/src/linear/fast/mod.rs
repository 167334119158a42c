//! Products with one or few rows that are rounded to 8 bits in blocks of 32, alone and with what stands around them in a
//! layer: the norm before, the activation or the addition after, products with the same input beside.

mod geometry;
mod host;

use kovar::{Device, KernelSource};

use super::cpu;
use crate::attention::combine_form;
use crate::{AffineMatrix, KernelForm};
pub(crate) use geometry::Geometry;
pub use host::{Normed, add_linear, attended_linear, gated_linear, norm_linear};

/// Sizes of a product, as the kernels take them.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct FastParams {
    /// Rows of x and y.
    pub(crate) m: u32,
    /// Rows of the weights.
    pub(crate) n: u32,
    /// Length of a row of x and of the weights.
    pub(crate) k: u32,
    /// Rows of the second and third matrix, where there are.
    pub(crate) n1: u32,
    pub(crate) n2: u32,
    /// Of the norm, where there is one.
    pub(crate) eps: f32,
}

impl FastParams {
    /// One matrix, no norm.
    pub(crate) fn plain(super::Params { m, n, k }: super::Params) -> FastParams {
        FastParams { m, n, k, n1: 0, n2: 0, eps: 0.0 }
    }
}

/// What a kernel of this family does around the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `y = x Wᵀ`. Slots: x, y, and codes, scales, biases of the matrix.
    Plain,
    /// `y = other + x Wᵀ`. Slot 5: other.
    Add,
    /// `y = other + combine(x) Wᵀ`, of parts of attention. Slot 5: other.
    Attended,
    /// `y = norm(x) Wᵀ`. Slot 5: the weight of the norm.
    Norm,
    /// `y = silu(norm(x) Gᵀ) · norm(x) Uᵀ`. Slots 5 to 7: U; 8: the weight of the norm.
    Gated,
    /// `y = norm(x) Wᵀ` for three matrices. Slots 5 to 10: the second and third; 11, 12: their y; 13: weight of the norm.
    Three,
}

impl Shape {
    /// Slots of matrices and of the norm's weight, which files have at any byte.
    const fn weights(self) -> &'static [usize] {
        match self {
            Shape::Plain | Shape::Add | Shape::Attended => &[2, 3, 4],
            Shape::Norm => &[2, 3, 4, 5],
            Shape::Gated => &[2, 3, 4, 5, 6, 7, 8],
            Shape::Three => &[2, 3, 4, 5, 6, 7, 8, 9, 10, 13],
        }
    }

    /// Its name in graphs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Shape::Plain => "product",
            Shape::Add => "product + add",
            Shape::Attended => "combined attention + product + add",
            Shape::Norm => "norm + product",
            Shape::Gated => "norm + gate and up + activation",
            Shape::Three => "norm + queries, keys, values",
        }
    }
}

macro_rules! source {
    ($shape:ident, $name:literal, $cpu:expr, $($file:literal),+) => {
        KernelSource::wgsl($name, concat!(include_str!("round.wgsl"), $(include_str!($file),)+ include_str!("rows.wgsl")))
            .with_cpu($cpu)
            .unaligned(Shape::$shape.weights())
    };
}

/// Name of the product alone, in patterns.
pub(crate) const PLAIN: &str = "affine_vec_fast";

/// The kernels.
pub(super) struct Sources {
    plain: KernelSource,
    add: KernelSource,
    attended: KernelSource,
    norm: KernelSource,
    gated: KernelSource,
    three: KernelSource,
}

impl Sources {
    /// `LEVEL`: which of the processor's instruction sets the CPU uses, the best being 0.
    pub(super) const fn new<const LEVEL: usize>() -> Sources {
        Sources {
            plain: source!(
                Plain,
                "affine_vec_fast",
                cpu::fast::plain::<LEVEL>,
                "plain_input.wgsl",
                "one.wgsl",
                "one_end.wgsl"
            ),
            add: source!(
                Add,
                "affine_add_fast",
                cpu::fast::add::<LEVEL>,
                "plain_input.wgsl",
                "one.wgsl",
                "add_end.wgsl"
            ),
            attended: KernelSource::wgsl(
                "attended_add_fast",
                concat!(
                    include_str!("../../attention/combined.wgsl"),
                    include_str!("round.wgsl"),
                    include_str!("attended_input.wgsl"),
                    include_str!("one.wgsl"),
                    include_str!("add_end.wgsl"),
                    include_str!("rows.wgsl")
                ),
            )
            .with_cpu(cpu::fast::attended::<LEVEL>)
            .unaligned(Shape::Attended.weights()),
            norm: source!(
                Norm,
                "norm_affine_fast",
                cpu::fast::norm::<LEVEL>,
                "norm_input.wgsl",
                "one.wgsl",
                "one_norm.wgsl",
                "one_end.wgsl"
            ),
            gated: source!(Gated, "norm_gated_fast", cpu::fast::gated::<LEVEL>, "norm_input.wgsl", "gated.wgsl"),
            three: source!(Three, "norm_three_fast", cpu::fast::three::<LEVEL>, "norm_input.wgsl", "three.wgsl"),
        }
    }

    pub(super) fn of(&self, shape: Shape) -> &KernelSource {
        match shape {
            Shape::Plain => &self.plain,
            Shape::Add => &self.add,
            Shape::Attended => &self.attended,
            Shape::Norm => &self.norm,
            Shape::Gated => &self.gated,
            Shape::Three => &self.three,
        }
    }
}

static SOURCES: Sources = Sources::new::<0>();

/// The kernel that does this.
pub(crate) fn source(shape: Shape) -> &'static KernelSource {
    SOURCES.of(shape)
}

/// How a matrix is stored: the constants of the kernels that say so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stored {
    pub(crate) bits: f64,
    pub(crate) group: f64,
    pub(crate) stype: f64,
}

impl Stored {
    pub(crate) fn of(w: &AffineMatrix) -> Stored {
        let [(_, bits), (_, group), (_, stype)] = super::affine_form(w);
        Stored { bits, group, stype }
    }
}

/// The constants that make a kernel: the storage, the length of a row, the geometry, and the type of a norm's weight.
pub(crate) fn form(stored: Stored, k: u32, geometry: Geometry, dtype: Option<f64>) -> Vec<(&'static str, f64)> {
    let mut form = vec![
        ("K", f64::from(k)),
        ("SUBGROUPS", f64::from(geometry.subgroups)),
        ("ROWS", f64::from(geometry.rows)),
        ("SPLIT", f64::from(geometry.split)),
        ("BITS", stored.bits),
        ("GROUP", stored.group),
        ("STYPE", stored.stype),
    ];
    form.extend(dtype.map(|code| ("DTYPE", code)));
    form
}

/// Whether a device can keep a rounded row of this length in workgroup memory.
pub(crate) fn fits(device: &Device, k: u32) -> bool {
    let info = device.info();
    info.backend == kovar::Backend::Cpu
        || (info.subgroup.size >= 4 && k / 32 * 40 + 8 * 32 + 128 + 512 <= info.limits.group_memory)
}

/// Every kernel of this module, for a short row and both sizes of codes.
pub(crate) fn kernels() -> Vec<KernelForm> {
    let geometry = Geometry { subgroups: 8, rows: 2, split: 2, groups: 1 };
    let shapes = [Shape::Plain, Shape::Add, Shape::Attended, Shape::Norm, Shape::Gated, Shape::Three];
    let forms = shapes.into_iter().flat_map(|shape| {
        [(4.0, 2.0), (8.0, 1.0), (4.0, 0.0)].map(|(bits, stype)| {
            let dtype = matches!(shape, Shape::Norm | Shape::Gated | Shape::Three).then_some(stype);
            let mut constants = form(Stored { bits, group: 64.0, stype }, 1024, geometry, dtype);
            if shape == Shape::Attended {
                constants.extend(combine_form(128, 8));
            }
            KernelForm { source: source(shape), constants }
        })
    });
    forms.collect()
}
