//! Calling back when submissions end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use kovar_hal::HalError;

use crate::{Completed, Result, Submission};

type Callback = Box<dyn FnOnce(Result<Completed>) + Send>;

#[derive(Default)]
struct State {
    /// By the number of the submission, in the order in which they were registered.
    waiting: BTreeMap<u64, Vec<(Submission, Callback)>>,
    running: bool,
    closed: bool,
}

/// One thread a device, started by the first callback, asleep while there are none.
#[derive(Default)]
pub(crate) struct Notifier(Arc<(Mutex<State>, Condvar)>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notifier {
    pub(crate) fn add(&self, submission: Submission, callback: Callback) -> Result<()> {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        if !state.running {
            let shared = self.0.clone();
            let thread = std::thread::Builder::new().name("kovar-callbacks".into());
            let started = thread.spawn(move || while serve(&shared) {});
            let call = "starting the thread of callbacks";
            started.map_err(|e| HalError::Driver { call, reason: e.to_string() })?;
            state.running = true;
        }
        state.waiting.entry(submission.number()).or_default().push((submission, callback));
        changed.notify_one();
        Ok(())
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // Submissions that wait hold their device, so there are none, and the thread ends.
        let (state, changed) = &*self.0;
        lock(state).closed = true;
        changed.notify_one();
    }
}

/// Waits for the end of one submission and calls back. `false` when there will be no more.
fn serve((state, changed): &(Mutex<State>, Condvar)) -> bool {
    let (first, device) = {
        let mut state = lock(state);
        loop {
            match state.waiting.first_key_value() {
                Some((number, waiting)) => break (*number, waiting.first().map(|(submission, _)| submission.device())),
                None if state.closed => return false,
                None => state = changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    };
    // One number at a time: a callback of an earlier submission may still be registered. Where waiting fails, the
    // submission says so itself.
    let ended = device.map_or(first, |device| device.0.core.wait_for_next(first).unwrap_or(first));
    let due = {
        let mut state = lock(state);
        let later = state.waiting.split_off(&(ended + 1));
        std::mem::replace(&mut state.waiting, later)
    };
    for (submission, callback) in due.into_values().flatten() {
        // The submission is gone before its owner hears of its end: a device that the owner then drops ends there.
        let result = submission.wait();
        // What a callback throws is its own affair: the hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(move || callback(result)));
    }
    true
}
