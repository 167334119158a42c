//! How a product is cut into workgroups.

use kovar::Device;

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

/// Threads of a workgroup. On an H100, with rows of 1,024 to 14,336: 512 of them, each subgroup with one row at a time, are
/// within 5 % of the best of 256 to 1,024 threads and one to four rows for every product of the shapes that are measured.
const THREADS: u32 = 512;
/// Workgroups, at most: more would round x too often; each takes several groups of rows instead.
const GROUPS: u32 = 1024;

impl Geometry {
    pub(crate) fn new(device: &Device, work: Work) -> Geometry {
        let info = device.info();
        let subgroups = (THREADS.min(info.limits.group_threads) / info.subgroup.size.max(1)).clamp(1, 32);
        let rows = work.together;
        // One more for each further matrix, whose last group may be a part.
        let groups = work.rows.div_ceil(rows * subgroups) + 2;
        Geometry { subgroups, rows, groups: groups.min(GROUPS) }
    }
}
