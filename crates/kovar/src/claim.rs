//! Executables as their allocations know them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::buffer::Allocation;
use crate::flight::Used;

/// The last submission of an executable, for all allocations that it uses: one number, so that a submission costs the
/// same whatever their number.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    last: AtomicU64,
    /// Host views that forbid a submission. Changes under the lock that orders submissions.
    blocking: AtomicU32,
}

/// An executable that uses an allocation.
#[derive(Debug)]
pub(crate) struct Claim {
    stamp: Arc<Stamp>,
    written: bool,
}

impl Stamp {
    /// Whether the host holds a view that forbids a submission.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocking.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn set(&self, value: u64) {
        self.last.store(value, Ordering::Release);
    }
}

/// What an executable uses. While this lives, each of the allocations knows of the executable's submissions.
pub(crate) struct Claims {
    pub(crate) used: Arc<[Used]>,
    pub(crate) stamp: Arc<Stamp>,
}

impl Claims {
    pub(crate) fn new(used: Arc<[Used]>) -> Claims {
        let stamp = Arc::<Stamp>::default();
        for entry in used.iter() {
            let (allocation, written) = (&entry.allocation, entry.is_written());
            let _turn = allocation.core.turn();
            let views = allocation.views.load(Ordering::Relaxed);
            // A view that is open now counts when it is closed, and so must count already.
            let blocking = if views < 0 || written { views.unsigned_abs() } else { 0 };
            stamp.blocking.fetch_add(blocking, Ordering::Relaxed);
            allocation.claims().push(Claim { stamp: stamp.clone(), written });
        }
        Claims { used, stamp }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        let last = self.stamp.last.load(Ordering::Acquire);
        for entry in self.used.iter() {
            let allocation = &entry.allocation;
            allocation.last_use.fetch_max(last, Ordering::AcqRel);
            if entry.is_written() {
                allocation.last_write.fetch_max(last, Ordering::AcqRel);
            }
            allocation.claims().retain(|claim| !Arc::ptr_eq(&claim.stamp, &self.stamp));
        }
    }
}

impl Allocation {
    fn claims(&self) -> MutexGuard<'_, SmallVec<[Claim; 1]>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last submission that uses these bytes, or that writes them.
    pub(crate) fn busy_until(&self, to_write: bool) -> u64 {
        let claims = self.claims();
        let own = if to_write { &self.last_use } else { &self.last_write };
        let of_claims = claims.iter().filter(|claim| to_write || claim.written);
        let last = of_claims.map(|claim| claim.stamp.last.load(Ordering::Acquire)).max();
        own.load(Ordering::Acquire).max(last.unwrap_or(0))
    }

    /// Tells the executables that a host view was opened or closed. The caller holds the lock that orders submissions.
    pub(crate) fn view_changes(&self, writer: bool, opened: bool) {
        for claim in self.claims().iter().filter(|claim| writer || claim.written) {
            match opened {
                true => claim.stamp.blocking.fetch_add(1, Ordering::Relaxed),
                false => claim.stamp.blocking.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }

    /// Notes a submission, outside of executables, that uses these bytes.
    pub(crate) fn stamp(&self, value: u64, written: bool) {
        self.last_use.store(value, Ordering::Release);
        if written {
            self.last_write.store(value, Ordering::Release);
        }
    }
}
