//! What stands between the caller and the wrapped device: what is in flight, what is held back, and whether all is lost.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::ledger::Handle;
use super::plan::{Call, Failure};
use super::{Book, lock};
use crate::{Backend, CommandBuffer, Device, HalError, RawEvent, Result, SubmitDesc};

/// How long a wait looks away from the loss of the device.
const GLANCE: Duration = Duration::from_millis(2);
/// How long a lost device may take to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// A submission as it goes to the wrapped device.
pub(super) struct Passage {
    pub(super) label: String,
    pub(super) number: u64,
    pub(super) commands: Vec<Arc<dyn CommandBuffer>>,
    pub(super) waits: Vec<(RawEvent, u64)>,
    pub(super) signals: Vec<(RawEvent, u64)>,
    pub(super) uses: Arc<[HashSet<Handle>]>,
}

#[derive(Default)]
struct State {
    lost: Option<HalError>,
    /// Submissions hang.
    holding: bool,
    held: VecDeque<Passage>,
    submitted: u64,
    /// What submissions use that have not been seen to end, and what the device waits for in them.
    in_flight: HashMap<u64, Flight>,
    closed: bool,
}

struct Flight {
    label: String,
    uses: Arc<[HashSet<Handle>]>,
    waits: Vec<(RawEvent, u64)>,
    signals: Vec<(RawEvent, u64)>,
}

pub(super) struct Gate {
    pub(super) inner: Arc<dyn Device>,
    pub(super) book: Arc<Book>,
    /// Raised by each submission to its number.
    fence: RawEvent,
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn new(inner: Arc<dyn Device>, book: Arc<Book>) -> Result<Gate> {
        let fence = inner.create_event(0)?;
        lock(&book.ledger).devices += 1;
        Ok(Gate { inner, book, fence, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Counts a call; fails it if its time has come or the device is lost. What is left is for `submit`.
    pub(super) fn enter(&self, call: Call, label: &str, bytes: u64) -> Result<Option<Failure>> {
        let failure = lock(&self.book.plan).enter(call);
        if let Some(lost) = &lock(&self.state).lost {
            return Err(lost.clone());
        }
        let Some(failure) = failure else { return Ok(None) };
        if failure == Failure::Lost {
            self.lose(label);
        }
        failure.error(call, label, bytes).map_or(Ok(Some(failure)), Err)
    }

    pub(super) fn misuse(&self, message: String) {
        lock(&self.book.ledger).misuse.push(message);
    }

    /// Stops the device: what it runs ends, what was held back never runs.
    pub(super) fn lose(&self, label: &str) {
        let (last, waits) = {
            let mut state = lock(&self.state);
            let reason = "injected".into();
            state.lost.get_or_insert(HalError::DeviceLost { label: label.into(), reason });
            let held: Vec<u64> = state.held.drain(..).map(|held| held.number).collect();
            let passed = state.in_flight.iter().filter(|(number, _)| !held.contains(number));
            let waits: Vec<_> = passed.clone().flat_map(|(_, flight)| flight.waits.iter().copied()).collect();
            (passed.map(|(number, _)| *number).max().unwrap_or(0), waits)
        };
        for (event, value) in waits {
            // SAFETY: events that submissions in flight wait for are alive (contract).
            unsafe {
                if self.inner.event_value(event).is_ok_and(|now| now < value) {
                    // Nobody will signal it any more, and the wrapped device must come to its end.
                    let _ = self.inner.signal_event(event, value);
                }
            }
        }
        // SAFETY: the fence lives as long as the gate.
        let stopped = unsafe { self.inner.wait_event(self.fence, last, Some(DRAIN)) };
        if stopped != Ok(true) {
            self.misuse(format!("a lost device did not stop: {stopped:?}"));
        }
        lock(&self.state).in_flight.clear();
        self.changed.notify_all();
    }

    pub(super) fn release(&self) -> Result<()> {
        let mut state = lock(&self.state);
        state.holding = false;
        while let Some(held) = state.held.pop_front() {
            self.pass(&held)?;
        }
        self.changed.notify_all();
        Ok(())
    }

    fn pass(&self, passage: &Passage) -> Result<()> {
        // The fence first: software drivers signal one after the other, and whoever sees the end of a submission by its own
        // signals may drop what it used.
        let signals = [&[(self.fence, passage.number)], &passage.signals[..]].concat();
        let desc =
            SubmitDesc { label: &passage.label, commands: &passage.commands, waits: &passage.waits, signals: &signals };
        // SAFETY: passed on from the caller of `submit`, in the same order.
        unsafe { self.inner.submit(&desc) }
    }

    /// Hands a submission over, or keeps it. Its number comes back.
    pub(super) fn submit(&self, mut passage: Passage, hang: bool) -> Result<u64> {
        self.settle();
        let mut state = lock(&self.state);
        if let Some(lost) = &state.lost {
            return Err(lost.clone());
        }
        let number = state.submitted + 1;
        passage.number = number;
        let flight = Flight {
            label: passage.label.clone(),
            uses: passage.uses.clone(),
            waits: passage.waits.clone(),
            signals: passage.signals.clone(),
        };
        state.holding |= hang;
        if state.holding {
            state.held.push_back(passage);
        } else {
            self.pass(&passage)?;
        }
        state.in_flight.insert(number, flight);
        state.submitted = number;
        Ok(number)
    }

    /// Forgets submissions that have ended.
    fn settle(&self) {
        let mut state = lock(&self.state);
        if state.closed || state.in_flight.is_empty() {
            return;
        }
        // SAFETY: the fence lives until `close`.
        if let Ok(done) = unsafe { self.inner.event_value(self.fence) } {
            state.in_flight.retain(|number, _| *number > done);
        }
    }

    /// Whether a submission may still run.
    pub(super) fn is_in_flight(&self, number: u64) -> bool {
        self.settle();
        lock(&self.state).in_flight.contains_key(&number)
    }

    /// Checks that nothing in flight uses a handle.
    pub(super) fn check_idle(&self, handle: Handle) {
        self.settle();
        let state = lock(&self.state);
        let user = state.in_flight.values().find(|flight| {
            let signals = flight.signals.iter().chain(&flight.waits);
            flight.uses.iter().any(|uses| uses.contains(&handle))
                || signals.map(|(event, _)| Handle::Event(event.0)).any(|event| event == handle)
        });
        if let Some(flight) = user {
            let name = lock(&self.book.ledger).name(handle);
            self.misuse(format!("{name} is destroyed while submission {:?} uses it", flight.label));
        }
    }

    /// Waits in glances, so that the loss of the device ends it.
    pub(super) fn wait(&self, event: RawEvent, value: u64, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let glance = left.map_or(GLANCE, |left| left.min(GLANCE));
            // SAFETY: passed on from the caller of `wait_event`.
            let there = unsafe { self.inner.wait_event(event, value, Some(glance)) }?;
            let state = lock(&self.state);
            if let Some(lost) = &state.lost {
                return Err(lost.clone());
            }
            if there || left.is_some_and(|left| left.is_zero()) {
                return Ok(there);
            }
            if self.inner.info().backend == Backend::Null {
                // The null device does not wait: nothing runs there but what is held back here.
                if state.held.is_empty() {
                    return Ok(false);
                }
                drop(self.changed.wait_timeout(state, glance));
            }
        }
    }

    /// The device goes.
    pub(super) fn close(&self) {
        self.settle();
        let mut state = lock(&self.state);
        if let Some(flight) = state.in_flight.values().next() {
            self.misuse(format!("the device is dropped while submission {:?} runs", flight.label));
        }
        state.closed = true;
        drop(state);
        lock(&self.book.ledger).devices -= 1;
        // SAFETY: made in `new`; a wrapped device that still runs was reported above.
        unsafe { self.inner.destroy_event(self.fence) };
    }
}
