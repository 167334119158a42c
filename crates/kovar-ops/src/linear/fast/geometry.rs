//! How a product is cut into workgroups.

use kovar::Device;

use crate::tuning::Tuning;

/// Subgroups of a workgroup, rows that a subgroup takes at a time, workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) subgroups: u32,
    pub(crate) rows: u32,
    pub(crate) groups: u32,
}

/// What is to be cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Rows of all matrices.
    pub(crate) rows: u32,
    /// Rows that cannot be parted: two of a gated pair.
    pub(crate) together: u32,
}

impl Geometry {
    pub(crate) fn new(device: &Device, work: Work) -> Geometry {
        let (info, tuning) = (device.info(), Tuning::of(device));
        let threads = tuning.product_threads.min(info.limits.group_threads);
        let subgroups = (threads / info.subgroup.size.max(1)).clamp(1, 32);
        let rows = work.together.max(tuning.product_rows);
        // One more for each further matrix, whose last group may be a part.
        let groups = work.rows.div_ceil(rows * subgroups) + 2;
        Geometry { subgroups, rows, groups: groups.min(tuning.product_groups) }
    }
}
