//! Recordings that are handed over in parts.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustc_hash::FxHashMap;

use super::core::{Core, lock};
use crate::buffer::Allocation;
use crate::flight::{End, Used};
use crate::poison::Effect;
use crate::{Error, Result};

/// One of several parts of a recording.
#[derive(Clone, Default)]
pub(crate) struct Part {
    /// Number of its encoder.
    pub(crate) recording: u64,
    /// Whether another follows.
    pub(crate) more: bool,
    /// End of the part before, and so of all before.
    pub(crate) before: Option<Arc<OnceLock<End>>>,
}

/// A recording of which a part was handed over, and the rest was not yet.
struct Unfinished {
    recording: u64,
    label: Box<str>,
    used: Arc<[Used]>,
    /// Where in it an allocation is, by its number on the device.
    places: FxHashMap<u64, usize>,
}

/// Recordings handed over in part. What they use belongs to them until the rest is handed over: anybody else would come in
/// between, where a recording in one piece lets nobody in. Changes under the lock that orders submissions.
#[derive(Default)]
pub(crate) struct PartLedger {
    any: AtomicBool,
    list: Mutex<Vec<Unfinished>>,
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn conflict(a: &Effect, b: &Effect) -> bool {
    overlap(&a.writes, &b.writes) || overlap(&a.writes, &b.reads) || overlap(&a.reads, &b.writes)
}

impl PartLedger {
    fn change(&self, change: impl FnOnce(&mut Vec<Unfinished>)) {
        let mut list = lock(&self.list);
        change(&mut list);
        self.any.store(!list.is_empty(), Ordering::Release);
    }

    fn unfinished(&self) -> Option<MutexGuard<'_, Vec<Unfinished>>> {
        self.any.load(Ordering::Acquire).then(|| lock(&self.list))
    }

    /// Refuses work that conflicts with the unfinished recording of another.
    pub(super) fn check(&self, used: &[Used], recording: Option<u64>, label: &str) -> Result<()> {
        let Some(list) = self.unfinished() else { return Ok(()) };
        for unfinished in list.iter().filter(|unfinished| Some(unfinished.recording) != recording) {
            let meets = |ours: &&Used| {
                unfinished.find(&ours.allocation).is_some_and(|theirs| conflict(&ours.effect, &theirs.effect))
            };
            if let Some(ours) = used.iter().find(meets) {
                return Err(unfinished.refuse(label, &ours.allocation));
            }
        }
        Ok(())
    }

    /// Refuses the host what an unfinished recording writes, and to write what it reads.
    pub(crate) fn check_host(&self, allocation: &Allocation, writer: bool) -> Result<()> {
        let Some(list) = self.unfinished() else { return Ok(()) };
        for unfinished in list.iter() {
            if unfinished.find(allocation).is_some_and(|theirs| writer || theirs.is_written()) {
                return Err(unfinished.refuse("host access", allocation));
            }
        }
        Ok(())
    }

    /// Takes note of a part that was handed over.
    pub(super) fn note(&self, part: &Part, label: &str, used: &Arc<[Used]>) {
        self.change(|list| {
            list.retain(|unfinished| unfinished.recording != part.recording);
            if part.more {
                let places = used.iter().enumerate().map(|(at, used)| (used.allocation.id, at)).collect();
                let (recording, label, used) = (part.recording, label.into(), used.clone());
                list.push(Unfinished { recording, label, used, places });
            }
        });
    }
}

impl Unfinished {
    fn find(&self, allocation: &Allocation) -> Option<&Used> {
        self.used.get(*self.places.get(&allocation.id)?)
    }

    fn refuse(&self, label: &str, allocation: &Allocation) -> Error {
        let (label, recording) = (label.into(), self.label.to_string());
        Error::Unfinished { label, recording, buffer: allocation.label.to_string() }
    }
}

impl Core {
    /// Gives up a recording whose rest will never come: what its parts wrote is no result.
    pub(crate) fn abandon(&self, recording: u64) {
        let mut gone = Vec::new();
        {
            let _turn = self.turn();
            let mut flights = lock(&self.flights);
            self.parts.change(|list| gone.extend(list.extract_if(.., |part| part.recording == recording)));
            for used in gone.iter().flat_map(|unfinished| unfinished.used.iter()) {
                used.allocation.poison.add(&used.effect.writes);
            }
            flights.condemn(recording);
        }
        // Dropped when nothing is locked any more.
        drop(gone);
    }
}
