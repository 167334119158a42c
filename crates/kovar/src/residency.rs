//! The device's residency set: what is allocated and destroyed is staged, and flushed once at each commit.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kovar_hal::{Device, RawBuffer};

use crate::Result;
use crate::stats::{Counters, Stats};

/// Bytes of dropped buffers that may wait for the next commit. More go at once, so that dropping a model frees its memory.
const LINGER: u64 = 16 << 20;

#[derive(Default)]
pub(crate) struct Residency {
    /// Whether anything is staged: a commit without changes takes no lock.
    dirty: AtomicBool,
    /// Bytes of all buffers that are alive.
    bytes: AtomicU64,
    changes: Mutex<Changes>,
}

/// Buffers whose place in the set changes with the next flush.
#[derive(Default)]
struct Changes {
    added: Vec<RawBuffer>,
    /// Used by nobody any more. They live until they are out of the set.
    removed: Vec<RawBuffer>,
    /// What imported ones of those lie in.
    owners: Vec<Owner>,
}

/// Whoever keeps imported memory.
pub(crate) type Owner = Arc<dyn Any + Send + Sync>;

impl Changes {
    /// The bytes that come free.
    fn destroy_removed(&mut self, hal: &dyn Device) -> u64 {
        let freed = self.removed.iter().map(|raw| raw.len).sum();
        for raw in self.removed.drain(..) {
            // SAFETY: nothing uses it (see `Residency::remove`), and it is in no list any more.
            unsafe { hal.destroy_buffer(raw) };
        }
        self.owners.clear();
        freed
    }
}

impl Residency {
    fn change<T>(&self, change: impl FnOnce(&mut Changes) -> T) -> T {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut changes);
        self.dirty.store(!changes.added.is_empty() || !changes.removed.is_empty(), Ordering::Release);
        result
    }

    /// A buffer was made.
    pub(crate) fn add(&self, raw: RawBuffer, counters: &Counters) {
        self.bytes.fetch_add(raw.len, Ordering::Relaxed);
        self.change(|changes| changes.added.push(raw));
        counters.add(&Stats { residency_added: 1, ..Stats::default() });
    }

    /// Takes a buffer that nothing uses any more, to destroy it once it is out of the set, and what it lies in.
    ///
    /// # Safety
    /// It came from this device by `add`, and is removed once.
    pub(crate) unsafe fn remove(&self, raw: RawBuffer, owner: Option<Owner>, hal: &dyn Device, counters: &Counters) {
        let waiting: u64 = self.change(|changes| {
            // One that was never in the set need not come out of it.
            if let Some(at) = changes.added.iter().rposition(|added| added.id == raw.id) {
                changes.added.swap_remove(at);
                self.bytes.fetch_sub(raw.len, Ordering::Relaxed);
                // SAFETY: nothing uses it (caller), and no list names it any more.
                unsafe { hal.destroy_buffer(raw) };
            } else {
                changes.removed.push(raw);
                changes.owners.extend(owner);
                counters.add(&Stats { residency_removed: 1, ..Stats::default() });
            }
            changes.removed.iter().map(|removed| removed.len).sum()
        });
        if waiting > LINGER {
            // A device that fails here fails at its next commit too, where somebody listens.
            let _ = self.flush(hal, counters);
        }
    }

    /// Hands what is staged to the device, and destroys what has left the set. What fails stays staged.
    pub(crate) fn flush(&self, hal: &dyn Device, counters: &Counters) -> Result<()> {
        if !self.dirty.load(Ordering::Acquire) {
            return Ok(());
        }
        // Under the lock, so that a commit that finds nothing staged finds everything flushed.
        self.change(|changes| {
            if changes.added.is_empty() && changes.removed.is_empty() {
                return Ok(());
            }
            // SAFETY: added buffers are alive, for `remove` takes those that die out of the list; removed ones are
            // destroyed below.
            unsafe { hal.update_residency(&changes.added, &changes.removed) }?;
            counters.add(&Stats { residency_flushes: 1, ..Stats::default() });
            changes.added.clear();
            self.bytes.fetch_sub(changes.destroy_removed(hal), Ordering::Relaxed);
            Ok(())
        })
    }

    /// Bytes of all buffers that are alive, those among them that wait to be destroyed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether memory comes free with the next flush.
    pub(crate) fn holds_memory(&self) -> bool {
        self.change(|changes| !changes.removed.is_empty())
    }

    /// Destroys what is left when the device closes.
    pub(crate) fn close(&self, hal: &dyn Device) {
        self.change(|changes| {
            // What is lost needs no residency.
            // SAFETY: as in `flush`.
            let _ = unsafe { hal.update_residency(&[], &changes.removed) };
            changes.destroy_removed(hal);
        });
    }
}
