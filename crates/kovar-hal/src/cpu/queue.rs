use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::recorder::CpuCommandBuffer;
use super::walk::Crew;
use crate::timeline::HostEvent;
use crate::{CommandBuffer, HalError, Result};

/// How long a worker looks for new work before it sleeps: longer than a host takes between two tokens, shorter than
/// anyone would notice on a power meter.
const LINGER: Duration = Duration::from_micros(100);

pub(crate) struct Submission {
    pub(crate) commands: VecDeque<Arc<dyn CommandBuffer>>,
    pub(crate) waits: Vec<(Arc<HostEvent>, u64)>,
    pub(crate) signals: Vec<(Arc<HostEvent>, u64)>,
}

#[derive(Default)]
struct State {
    pending: VecDeque<Submission>,
    running: Option<Submission>,
    active: Option<Arc<dyn CommandBuffer>>,
}

struct Shared {
    crew: Crew,
    state: Mutex<State>,
    changed: Condvar,
    /// Counts changes, so that lingering threads notice them without the lock.
    changes: AtomicU64,
    stop: AtomicBool,
}

/// Submissions in order, and the threads that execute them.
pub(crate) struct Queue {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    host_helps: bool,
}

fn as_cpu(commands: &Arc<dyn CommandBuffer>) -> Option<&CpuCommandBuffer> {
    commands.as_any().downcast_ref()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Makes the next command buffer active, ending submissions on the way. The lock is held.
    fn advance(&self, state: &mut State) {
        state.active = None;
        loop {
            if state.running.is_none() {
                let ready = |s: &Submission| s.waits.iter().all(|(event, value)| event.value() >= *value);
                if !state.pending.front().is_some_and(ready) {
                    break;
                }
                state.running = state.pending.pop_front();
            }
            let Some(running) = &mut state.running else { break };
            match running.commands.pop_front() {
                Some(next) => {
                    if as_cpu(&next).is_some_and(|commands| !commands.begin(&self.crew)) {
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

    /// Works on the active command buffer until it has ended or `leave` says so.
    fn help(&self, active: &Arc<dyn CommandBuffer>, leave: impl FnMut() -> bool) {
        if as_cpu(active).is_some_and(|commands| commands.help(&self.crew, leave)) {
            self.advance(&mut self.lock());
        }
    }

    fn work(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let seen = self.changes.load(Ordering::Acquire);
            let active = self.lock().active.clone();
            if let Some(active) = active
                && as_cpu(&active).is_some_and(|commands| !commands.has_ended())
            {
                self.help(&active, || false);
                continue;
            }
            self.linger(seen);
        }
    }

    /// Returns when something has changed since `seen`.
    fn linger(&self, seen: u64) {
        let changed = || self.changes.load(Ordering::Acquire) != seen || self.stop.load(Ordering::Acquire);
        let until = Instant::now() + LINGER;
        while Instant::now() < until {
            for _ in 0..64 {
                if changed() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        let mut state = self.lock();
        while !changed() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    /// The threads of a crew count the host thread that waits and helps; there is always a worker besides it, so that work goes on
    /// while nobody waits.
    pub(crate) fn new(crew: Crew) -> Result<Queue> {
        let host_helps = crew.threads > 1 && !crew.is_alone();
        let workers = if host_helps { crew.threads as usize - 1 } else { 1 };
        let shared = Arc::new(Shared {
            crew,
            state: Mutex::default(),
            changed: Condvar::new(),
            changes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut queue = Queue { shared: shared.clone(), workers: Vec::with_capacity(workers), host_helps };
        for index in 0..workers {
            let shared = shared.clone();
            let worker = std::thread::Builder::new()
                .name(format!("kovar-cpu-{index}"))
                .spawn(move || shared.work())
                .map_err(|e| HalError::Driver { call: "starting a worker thread", reason: e.to_string() })?;
            queue.workers.push(worker);
        }
        Ok(queue)
    }

    pub(crate) fn crew(&self) -> &Crew {
        &self.shared.crew
    }

    pub(crate) fn submit(&self, submission: Submission) {
        let mut state = self.shared.lock();
        state.pending.push_back(submission);
        if state.running.is_none() {
            self.shared.advance(&mut state);
        }
    }

    /// Raises an event from the host; what waited for it may start.
    pub(crate) fn signal(&self, event: &HostEvent, value: u64) {
        let mut state = self.shared.lock();
        event.raise(value);
        if state.running.is_none() {
            self.shared.advance(&mut state);
        } else {
            self.shared.notify();
        }
    }

    /// Waits for a value, working while there is work. `false` if the time ran out.
    pub(crate) fn wait(&self, event: &HostEvent, value: u64, timeout: Option<Duration>) -> bool {
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
            let mut state = self.shared.lock();
            let active = state.active.clone();
            if self.host_helps
                && let Some(active) = active
                && as_cpu(&active).is_some_and(|commands| !commands.has_ended())
            {
                drop(state);
                self.shared.help(&active, || there() || late());
                // Whoever ended the list signals within a microsecond: shorter than going to sleep.
                for _ in 0..4096 {
                    if there() {
                        return true;
                    }
                    std::hint::spin_loop();
                }
                continue;
            }
            let seen = self.shared.changes.load(Ordering::Acquire);
            while !there() && self.shared.changes.load(Ordering::Acquire) == seen {
                state = match deadline {
                    None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(at) => {
                        let left = at.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            return false;
                        }
                        self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        {
            let _state = self.shared.lock();
            self.shared.stop.store(true, Ordering::Release);
            self.shared.notify();
        }
        for worker in self.workers.drain(..) {
            // A worker catches what kernels throw; it has no panic of its own to report.
            let _ = worker.join();
        }
    }
}
