//! What the protocols of this folder are made of. `tests/model` compiles their files a second time, on top of a module
//! of the same names that explores every interleaving, and on top of broken ones that it must find out.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A count for each group of a list.
pub(crate) struct PerGroup(Box<[AtomicU32]>);

impl PerGroup {
    pub(crate) fn new(groups: usize) -> PerGroup {
        PerGroup((0..groups).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn of(&self, group: usize) -> &AtomicU32 {
        &self.0[group]
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
