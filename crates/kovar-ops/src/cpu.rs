//! Cutting dispatches into tasks for the CPU.

use std::ops::Range;

/// Tasks for `n` elements at `size` a task.
pub(crate) fn chunks(n: usize, size: usize) -> u32 {
    u32::try_from(n.div_ceil(size)).unwrap_or(u32::MAX)
}

/// The elements of consecutive tasks.
pub(crate) fn chunk(tasks: Range<u32>, size: usize, n: usize) -> Range<usize> {
    (tasks.start as usize * size).min(n)..(tasks.end as usize * size).min(n)
}
