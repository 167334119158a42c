//! Sizes of dispatches.

/// Threads of a workgroup in kernels whose threads work alone.
const WIDTH: u32 = 256;
/// Elements a thread takes of a long array, to pay for its start.
const PER_THREAD: u32 = 4;
/// Workgroups along one axis that every device takes: the least that Vulkan asks for.
pub(crate) const MOST_GROUPS: u32 = 65_535;

/// Workgroups for `n` elements, where threads stride over the grid.
pub(crate) fn strided(n: u32) -> [u32; 3] {
    let groups = if n <= WIDTH * 1024 { n.div_ceil(WIDTH) } else { n.div_ceil(WIDTH * PER_THREAD) };
    [groups.min(MOST_GROUPS), 1, 1]
}

/// Workgroups for `n` rows, which kernels number `y * 65535 + x`.
pub(crate) fn rows(n: u32) -> [u32; 3] {
    [n.min(MOST_GROUPS), n.div_ceil(MOST_GROUPS), 1]
}
