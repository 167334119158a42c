//! What the protocols of this folder are made of. `tests/model` compiles their files a second time, on top of a module
//! of the same names that explores every interleaving, and on top of broken ones that it must find out.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a thread without work looks for some before it sleeps: longer than a host takes between two tokens, shorter
/// than anyone would notice on a power meter.
const LINGER: Duration = Duration::from_micros(100);

/// Looks at an event before a thread sleeps.
pub(crate) const SPINS: u32 = 4096;

/// Waits for a while. Whether there was a change.
pub(crate) fn linger(changed: impl Fn() -> bool) -> bool {
    let until = Instant::now() + LINGER;
    while Instant::now() < until {
        for _ in 0..64 {
            if changed() {
                return true;
            }
            spin_loop();
        }
    }
    false
}

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
