use std::sync::{Mutex, PoisonError};

use kovar_hal::Binding;
use rustc_hash::FxHashMap;

use crate::flight::Used;
use crate::hazard::{Access, Tracker};
use crate::kernel::Tally;

/// The lists that a recording fills.
#[derive(Default)]
pub(crate) struct Lists {
    /// Numbers of the allocations in `used`, of as many as there are here, once another encoder may have taken their hints.
    pub(super) known: FxHashMap<u64, u32>,
    pub(super) used: Vec<Used>,
    pub(super) tally: Tally,
    /// Not here while a live recording has it.
    pub(super) tracker: Tracker,
    /// Of the dispatch that is being recorded.
    pub(super) bindings: Vec<Binding>,
    pub(super) accesses: Vec<Access>,
}

/// Sets of lists that a device keeps: as many as are recorded at once, as a rule.
const KEPT: usize = 4;

/// Empty lists of recordings that have ended: the next one grows none, and touches no memory for the first time.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<Vec<Lists>>);

impl Shelf {
    pub(super) fn take(&self) -> Lists {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn give(&self, mut lists: Lists) {
        lists.known.clear();
        lists.used.clear();
        lists.tally.clear();
        lists.tracker.restart();
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.len() < KEPT {
            shelf.push(lists);
        }
    }
}
