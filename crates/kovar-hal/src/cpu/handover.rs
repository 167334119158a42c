//! Submissions in order, handed to threads that work on one list at a time, and threads that wait for events.
//!
//! Under the lock stand the submissions that wait, the one that runs, and its list that threads may help with. Whoever
//! ends a list makes the next one active. Threads that find nothing to do sleep on the condition, which every change
//! wakes; a count of changes lets them look for a while without the lock first.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::super::timeline::HostEvent;
use super::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, SPINS, linger, spin_loop};

/// Work that several threads do together.
pub(crate) trait List: Clone {
    /// Makes it ready to be worked on. `true` if there was nothing to do and it has ended.
    fn begin(&self) -> bool;
    fn has_ended(&self) -> bool;
    /// Works until it has ended or `leave` says so. `true` for the one thread that ended it.
    fn help(&self, leave: impl FnMut() -> bool) -> bool;
}

/// Events with values.
pub(crate) type Points = Vec<(Arc<HostEvent>, u64)>;

pub(crate) struct Submission<L> {
    pub(crate) lists: VecDeque<L>,
    pub(crate) waits: Points,
    pub(crate) signals: Points,
}

struct State<L> {
    pending: VecDeque<Submission<L>>,
    running: Option<Submission<L>>,
    active: Option<L>,
}

pub(crate) struct Handover<L> {
    state: Mutex<State<L>>,
    changed: Condvar,
    /// Counts changes, so that lingering threads notice them without the lock.
    changes: AtomicU64,
    stop: AtomicBool,
}

impl<L: List> Handover<L> {
    pub(crate) fn new() -> Handover<L> {
        Handover {
            state: Mutex::new(State { pending: VecDeque::new(), running: None, active: None }),
            changed: Condvar::new(),
            changes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock is held.
    fn notify(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Makes the next list active, ending submissions on the way. The lock is held.
    fn advance(&self, state: &mut State<L>) {
        state.active = None;
        loop {
            if state.running.is_none() {
                let ready = |s: &Submission<L>| s.waits.iter().all(|(event, value)| event.value() >= *value);
                if !state.pending.front().is_some_and(ready) {
                    break;
                }
                state.running = state.pending.pop_front();
            }
            let Some(running) = &mut state.running else { break };
            match running.lists.pop_front() {
                Some(next) => {
                    if !next.begin() {
                        state.active = Some(next);
                        break;
                    }
                }
                None => {
                    for (event, value) in running.signals.drain(..) {
                        event.raise(value);
                    }
                    state.running = None;
                }
            }
        }
        self.notify();
    }

    /// Works on the active list until it has ended or `leave` says so.
    fn help(&self, active: &L, leave: impl FnMut() -> bool) {
        if active.help(leave) {
            self.advance(&mut self.lock());
        }
    }

    /// What a worker thread does until it is told to stop.
    pub(crate) fn work(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let seen = self.changes.load(Ordering::Acquire);
            let active = self.lock().active.clone();
            match active.filter(|active| !active.has_ended()) {
                Some(active) => self.help(&active, || false),
                None => self.idle(seen),
            }
        }
    }

    /// Returns when something has changed since `seen`.
    fn idle(&self, seen: u64) {
        let changed = || self.changes.load(Ordering::Acquire) != seen || self.stop.load(Ordering::Acquire);
        if linger(changed) {
            return;
        }
        let mut state = self.lock();
        while !changed() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn stop(&self) {
        let _state = self.lock();
        self.stop.store(true, Ordering::Release);
        self.notify();
    }

    pub(crate) fn submit(&self, submission: Submission<L>) {
        let mut state = self.lock();
        state.pending.push_back(submission);
        if state.running.is_none() {
            self.advance(&mut state);
        }
    }

    /// Raises an event from the host; what waited for it may start.
    pub(crate) fn signal(&self, event: &HostEvent, value: u64) {
        let mut state = self.lock();
        event.raise(value);
        if state.running.is_none() {
            self.advance(&mut state);
        } else {
            self.notify();
        }
    }

    /// Waits for a value; a thread that helps works while there is work. `false` if the time ran out.
    pub(crate) fn wait(&self, event: &HostEvent, value: u64, timeout: Option<Duration>, helps: bool) -> bool {
        let deadline = timeout.and_then(|limit| Instant::now().checked_add(limit));
        let late = || deadline.is_some_and(|at| Instant::now() >= at);
        let there = || event.value() >= value;
        loop {
            if there() {
                return true;
            }
            if late() {
                return false;
            }
            let mut state = self.lock();
            let active = state.active.clone().filter(|active| helps && !active.has_ended());
            if let Some(active) = active {
                drop(state);
                self.help(&active, || there() || late());
                // Whoever ended the list signals within a microsecond: shorter than going to sleep.
                for _ in 0..SPINS {
                    if there() {
                        return true;
                    }
                    spin_loop();
                }
                continue;
            }
            let seen = self.changes.load(Ordering::Acquire);
            while !there() && self.changes.load(Ordering::Acquire) == seen {
                state = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                    None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(left) if left.is_zero() => return false,
                    Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                };
            }
        }
    }
}
