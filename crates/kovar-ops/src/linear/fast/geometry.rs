//! How a product is cut into workgroups.

use kovar::Device;

use crate::tuning::Tuning;

/// Subgroups of a workgroup, at most: what the kernels have room for.
const MOST_SUBGROUPS: u32 = 32;
/// Elements of x that a lane multiplies in a step.
const BLOCK: u32 = 32;
/// Elements of x that a thread rounds at a time.
const ROUNDED: u32 = 8;

/// Groups of rows that a workgroup takes at a time, rows of a group, subgroups that share a group, workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) subgroups: u32,
    pub(crate) rows: u32,
    pub(crate) split: u32,
    pub(crate) groups: u32,
}

/// What is to be cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Rows of all matrices, and their length.
    pub(crate) rows: u32,
    pub(crate) k: u32,
    /// Rows that cannot be parted: two of a gated pair.
    pub(crate) together: u32,
}

impl Geometry {
    pub(crate) fn new(device: &Device, work: Work) -> Geometry {
        let (info, tuning) = (device.info(), Tuning::of(device));
        let lanes = info.subgroup.size.max(1);
        let most = (info.limits.group_threads / lanes).clamp(1, MOST_SUBGROUPS);
        let mut subgroups = (tuning.product_threads / lanes).clamp(1, most);
        let rows = work.together.max(tuning.product_rows);
        let taken = work.rows.div_ceil(rows);
        // Two subgroups share rows that are few enough for all of them to run at once, and have a step each to do: more of
        // the weights are on their way at a time.
        let few = taken.saturating_mul(2) <= tuning.product_groups.saturating_mul(subgroups);
        let split = if subgroups > 1 && few && work.k >= 2 * lanes * BLOCK { 2 } else { 1 };
        // Smaller workgroups spread over more of the device, where that makes none wait for another and no thread round
        // more of x.
        let smaller = |subgroups: u32| {
            let threads = subgroups / 2 * lanes;
            threads * ROUNDED >= work.k && taken.div_ceil(subgroups / 2 / split) <= tuning.product_groups
        };
        while subgroups >= 2 * split && smaller(subgroups) {
            subgroups /= 2;
        }
        // One more for each further matrix, whose last group may be a part.
        let groups = taken.div_ceil(subgroups / split) + 2;
        Geometry { subgroups: subgroups / split, rows, split, groups: groups.min(tuning.product_groups) }
    }
}
