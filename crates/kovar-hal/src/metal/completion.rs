//! What the host knows of executions: records that completion handlers fill, and the order in which submissions retire.
//!
//! A shared event shows its value before Metal has called the completion handler, so that a host that looks at the event
//! could destroy what Metal still counts as in use, or ask for an error that is not there yet. The host therefore waits
//! for its own mirror of each event, which moves when the handlers of the submission, and of all before it, have run.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::{HalError, TimeSpan};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an execution of a command buffer ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) fault: Option<HalError>,
    pub(crate) span: Option<TimeSpan>,
}

/// One execution of a command buffer.
#[derive(Debug, Default)]
pub(crate) struct Execution {
    ended: Mutex<Option<Ended>>,
    changed: Condvar,
}

impl Execution {
    /// One that has ended well, for a command buffer that was never submitted.
    pub(crate) fn never() -> Execution {
        Execution { ended: Mutex::new(Some(Ended::default())), changed: Condvar::new() }
    }

    pub(crate) fn end(&self, ended: Ended) {
        *lock(&self.ended) = Some(ended);
        self.changed.notify_all();
    }

    /// The result, waited for where the completion handler has not run yet.
    pub(crate) fn result(&self) -> Ended {
        let mut ended = lock(&self.ended);
        loop {
            match &*ended {
                Some(result) => return result.clone(),
                None => ended = self.changed.wait(ended).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The latest execution of a command buffer.
#[derive(Debug)]
pub(crate) struct Latest(Mutex<Arc<Execution>>);

impl Default for Latest {
    fn default() -> Self {
        Latest(Mutex::new(Arc::new(Execution::never())))
    }
}

impl Latest {
    /// Begins an execution: a completion handler of the one before may still be on its way.
    pub(crate) fn begin(&self) -> Arc<Execution> {
        let execution = Arc::new(Execution::default());
        *lock(&self.0) = execution.clone();
        execution
    }

    pub(crate) fn result(&self) -> Ended {
        let execution = lock(&self.0).clone();
        execution.result()
    }
}

/// The loss of a device: the first that was noticed, for all later calls.
#[derive(Debug, Default)]
pub(crate) struct Loss(OnceLock<HalError>);

impl Loss {
    /// The loss, if there was one.
    pub(crate) fn check(&self) -> Result<(), HalError> {
        self.0.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Remembers an error that is a loss; gives the one to return.
    pub(crate) fn note(&self, error: HalError) -> HalError {
        match error {
            HalError::DeviceLost { .. } => self.0.get_or_init(|| error).clone(),
            error => error,
        }
    }
}

/// The host's mirror of an event.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    value: Mutex<u64>,
    changed: Condvar,
}

impl Mirror {
    pub(crate) fn new(value: u64) -> Mirror {
        Mirror { value: Mutex::new(value), changed: Condvar::new() }
    }

    pub(crate) fn value(&self) -> u64 {
        *lock(&self.value)
    }

    /// Raises the value, and while no other thread does, lets `also` see the result.
    pub(crate) fn raise(&self, value: u64, also: impl FnOnce(u64)) {
        let mut present = lock(&self.value);
        *present = value.max(*present);
        also(*present);
        self.changed.notify_all();
    }

    /// Waits until the value is there; `false` if the time ran out.
    pub(crate) fn wait(&self, value: u64, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|limit| Instant::now().checked_add(limit));
        let mut present = lock(&self.value);
        while *present < value {
            present = match deadline {
                None => self.changed.wait(present).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed.wait_timeout(present, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }
}

/// An event that a submission signals.
pub(crate) trait Signal {
    /// Makes the value visible to host and device, if it is not yet.
    fn raise(&self, value: u64);
}

/// Names a submission to [`Retirement::ended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

struct Pending<E> {
    ticket: Ticket,
    /// Command buffers that have not ended.
    left: usize,
    signals: Vec<(Arc<E>, u64)>,
}

/// Submissions in order, each until it and all before it have ended.
pub(crate) struct Retirement<E> {
    state: Mutex<(u64, VecDeque<Pending<E>>)>,
}

impl<E> Default for Retirement<E> {
    fn default() -> Self {
        Retirement { state: Mutex::new((0, VecDeque::new())) }
    }
}

impl<E: Signal> Retirement<E> {
    /// Enters a submission of so many command buffers, at least one. Called in the order of commitment.
    pub(crate) fn enter(&self, buffers: usize, signals: Vec<(Arc<E>, u64)>) -> Ticket {
        let mut state = lock(&self.state);
        let ticket = Ticket(state.0);
        state.0 += 1;
        state.1.push_back(Pending { ticket, left: buffers, signals });
        ticket
    }

    /// Notes that one of its command buffers has ended, well or not, and raises the events of what retires.
    pub(crate) fn ended(&self, ticket: Ticket) {
        let mut retired = Vec::new();
        {
            let mut state = lock(&self.state);
            if let Some(pending) = state.1.iter_mut().find(|pending| pending.ticket == ticket) {
                pending.left = pending.left.saturating_sub(1);
            }
            while state.1.front().is_some_and(|pending| pending.left == 0) {
                retired.extend(state.1.pop_front());
            }
        }
        for (event, value) in retired.iter().flat_map(|pending| &pending.signals) {
            event.raise(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Signal for Mirror {
        fn raise(&self, value: u64) {
            Mirror::raise(self, value, |_| {});
        }
    }

    #[test]
    fn submissions_retire_in_order_whatever_the_order_of_their_handlers() {
        let (retirement, event) = (Retirement::default(), Arc::new(Mirror::new(0)));
        let first = retirement.enter(2, vec![(event.clone(), 1)]);
        let second = retirement.enter(1, vec![(event.clone(), 2)]);
        retirement.ended(second);
        retirement.ended(first);
        assert_eq!(event.value(), 0, "one command buffer of the first submission still runs");
        retirement.ended(first);
        assert_eq!(event.value(), 2);
    }

    #[test]
    fn a_mirror_never_falls_and_waits_end_with_their_time() {
        let mirror = Mirror::new(3);
        mirror.raise(2, |value| assert_eq!(value, 3));
        assert!(mirror.wait(3, None));
        assert!(!mirror.wait(4, Some(Duration::ZERO)));
        std::thread::scope(|scope| {
            scope.spawn(|| mirror.raise(4, |_| {}));
            assert!(mirror.wait(4, None));
        });
    }

    #[test]
    fn a_result_is_waited_for() {
        let execution = Execution::default();
        let ended = Ended { fault: None, span: Some(TimeSpan { start: 1, end: 2 }) };
        std::thread::scope(|scope| {
            scope.spawn(|| execution.end(ended.clone()));
            assert_eq!(execution.result(), ended);
        });
        let latest = Latest::default();
        assert_eq!(latest.result(), Ended::default(), "never submitted");
        let (first, second) = (latest.begin(), latest.begin());
        second.end(ended.clone());
        first.end(Ended::default());
        assert_eq!(latest.result(), ended, "a late handler of the execution before changes nothing");
    }

    #[test]
    fn the_first_loss_stays() {
        let lost = |reason: &str| HalError::DeviceLost { label: "step".into(), reason: reason.into() };
        let loss = Loss::default();
        loss.note(HalError::Fault { label: "step".into(), reason: "page".into() });
        assert_eq!(loss.check(), Ok(()));
        assert_eq!(loss.note(lost("removed")), lost("removed"));
        assert_eq!(loss.note(lost("again")), lost("removed"));
        assert_eq!(loss.check(), Err(lost("removed")));
    }
}
