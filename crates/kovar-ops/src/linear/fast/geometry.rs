//! How a product is cut into workgroups.

use kovar::Device;

use super::{FastParams, Shape};
use crate::tuning::Tuning;

/// Subgroups of a workgroup, at most: what the kernels have room for.
const MOST_SUBGROUPS: u32 = 32;
/// Elements of x that a lane multiplies in a step.
const BLOCK: u32 = 32;
/// Steps of a row that are worth sharing.
const MANY_STEPS: u32 = 8;
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

impl Geometry {
    /// Of a product with rows of these sizes.
    pub(crate) fn new(device: &Device, shape: Shape, params: &FastParams) -> Geometry {
        let FastParams { n, n1, n2, k, .. } = *params;
        let all = n.saturating_add(n1).saturating_add(n2);
        let (info, tuning) = (device.info(), Tuning::of(device));
        let lanes = info.subgroup.size.max(1);
        let most = (info.limits.group_threads / lanes).clamp(1, MOST_SUBGROUPS);
        let mut subgroups = (tuning.product_threads / lanes).clamp(1, most);
        // Two subgroups share two rows at a time where these are long, and few enough for all to run at once: twice as much
        // of the weights is on its way, in as many workgroups that round x.
        let long_and_few = k >= MANY_STEPS * lanes * BLOCK && all <= tuning.product_groups * subgroups;
        let split = if subgroups > 1 && long_and_few { 2 } else { 1 };
        // The gated pair cannot be parted.
        let rows = if shape == Shape::Gated { 2 } else { tuning.product_rows.max(split) };
        let taken = all.div_ceil(rows);
        // Smaller workgroups spread over more of the device, where that makes none wait for another and no thread round
        // more of x. To combine the parts of attention in each takes longer than that saves.
        let smaller = |subgroups: u32| {
            let threads = subgroups / 2 * lanes;
            threads * ROUNDED >= k && taken.div_ceil(subgroups / 2 / split) <= tuning.product_groups
        };
        while shape != Shape::Attended && subgroups >= 2 * split && smaller(subgroups) {
            subgroups /= 2;
        }
        // One more for each further matrix, whose last group may be a part.
        let groups = taken.div_ceil(subgroups / split) + 2;
        Geometry { subgroups: subgroups / split, rows, split, groups: groups.min(tuning.product_groups) }
    }
}
