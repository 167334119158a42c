//! The list of all kernels, for snapshots, warm-up and checks.

use kovar::KernelSource;

/// A kernel with the values of its constants.
#[derive(Debug, Clone)]
pub struct KernelForm {
    /// The source.
    pub source: &'static KernelSource,
    /// Values of its `override` constants; the subgroup size is the device's.
    pub constants: Vec<(&'static str, f64)>,
}

/// Every kernel and specialisation that the library uses, on a device with subgroups of 32 and 32 KiB of workgroup
/// memory; for head sizes of 64 and 128 where the head size is a constant.
pub fn all_kernels() -> Vec<KernelForm> {
    [
        crate::activation::kernels(),
        crate::add_norm::kernels(),
        crate::argmax::kernels(),
        crate::attention::kernels(),
        crate::cache::kernels(),
        crate::cast::kernels(),
        crate::elementwise::kernels(),
        crate::embedding::kernels(),
        crate::linear::kernels(),
        crate::linear::fast::kernels(),
        crate::norm::kernels(),
        crate::norm_rotary::kernels(),
        crate::peak::kernels(),
        crate::random::kernels(),
        crate::rotary::kernels(),
        crate::step::kernels(),
    ]
    .concat()
}
