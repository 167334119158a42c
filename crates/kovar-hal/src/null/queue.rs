use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::timeline::HostEvent;

/// Events of a submission with their values.
type Points = Vec<(Arc<HostEvent>, u64)>;

struct Held {
    waits: Points,
    signals: Points,
}

/// Submissions in order, each held back until what it waits for is there; then it has ended.
#[derive(Default)]
pub(super) struct Queue {
    held: Mutex<VecDeque<Held>>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, held: &mut VecDeque<Held>) {
        let is_ready = |held: &Held| held.waits.iter().all(|(event, value)| event.value() >= *value);
        while held.front().is_some_and(is_ready) {
            for (event, value) in held.pop_front().into_iter().flat_map(|held| held.signals) {
                event.raise(value);
            }
        }
        self.changed.notify_all();
    }

    pub(super) fn submit(&self, waits: Points, signals: Points) {
        let mut held = self.lock();
        held.push_back(Held { waits, signals });
        self.advance(&mut held);
    }

    pub(super) fn signal(&self, event: &HostEvent, value: u64) {
        let mut held = self.lock();
        event.raise(value);
        self.advance(&mut held);
    }

    /// `false` if the time ran out.
    pub(super) fn wait(&self, event: &HostEvent, value: u64, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|limit| Instant::now().checked_add(limit));
        let mut held = self.lock();
        while event.value() < value {
            held = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(held).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => self.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        true
    }
}
