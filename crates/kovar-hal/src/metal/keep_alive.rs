//! The thread that asks for residency again: the system takes memory of an idle process out of the GPU's reach after
//! about a second, and the next submission then pays for bringing it back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two requests: half of the second after which memory goes.
const BEAT: Duration = Duration::from_millis(500);

/// How long a device without submissions keeps its memory: the pause of a user who reads an answer.
const LINGER: Duration = Duration::from_secs(180);

struct State {
    stop: bool,
    used: Instant,
}

impl State {
    /// Whether the device was used lately enough to keep its memory.
    fn lingers(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < LINGER
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for a beat, or for as long as the device is not used; `false` when it is time to end.
    fn pause(&self, beat: Duration) -> bool {
        let state = self.lock();
        let idle = |state: &mut State| !state.stop && !state.lingers(Instant::now());
        let state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        if state.stop {
            return false;
        }
        let (state, _) =
            self.changed.wait_timeout_while(state, beat, |state| !state.stop).unwrap_or_else(PoisonError::into_inner);
        !state.stop
    }
}

/// Calls a function every half second for as long as the device was used in the last three minutes.
pub(crate) struct KeepAlive {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl KeepAlive {
    pub(crate) fn start(request: impl Fn() + Send + 'static) -> std::io::Result<KeepAlive> {
        KeepAlive::with(BEAT, request)
    }

    fn with(beat: Duration, request: impl Fn() + Send + 'static) -> std::io::Result<KeepAlive> {
        let state = Mutex::new(State { stop: false, used: Instant::now() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let seen = shared.clone();
        let work = move || {
            while seen.pause(beat) {
                request();
            }
        };
        let thread = std::thread::Builder::new().name("kovar-residency".into()).spawn(work)?;
        Ok(KeepAlive { shared, thread: Some(thread) })
    }

    /// Notes that the device is used.
    pub(crate) fn touch(&self) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let slept = !state.lingers(now);
        state.used = now;
        if slept {
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread has no panic of its own to report.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn requests_repeat_until_dropped() {
        let (send, receive) = mpsc::channel();
        let keeper = KeepAlive::with(Duration::from_millis(1), move || send.send(()).unwrap_or_default()).unwrap();
        for _ in 0..3 {
            receive.recv().unwrap();
        }
        keeper.touch();
        drop(keeper);
        while receive.try_recv().is_ok() {}
        assert_eq!(receive.try_recv(), Err(mpsc::TryRecvError::Disconnected), "the thread has ended");
    }

    #[test]
    fn an_idle_device_lets_go() {
        let used = Instant::now();
        let state = State { stop: false, used };
        assert!(state.lingers(used + LINGER / 2));
        assert!(!state.lingers(used + LINGER));
    }
}
