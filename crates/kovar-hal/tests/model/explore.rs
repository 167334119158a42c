//! Runs a model under every interleaving of its steps, with at most so many preemptions.
//!
//! A step is one operation on something shared. Threads are real ones that pass a baton: one runs, and before each of its
//! steps the world decides who goes on. The decisions of a run are a list of numbers; the next run changes the last of them
//! that can be raised. Steps are seen in one order by all threads, so that values which weak memory delays are not
//! explored; what a thread may rely on having happened is, by vector clocks: see [`Clock`] and `sync::Shared`.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Steps of one run, beyond which its threads only go round in circles.
const STEPS: usize = 20_000;

/// What happened before: the number of steps of each thread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clock(Vec<u32>);

impl Clock {
    pub fn join(&mut self, other: &Clock) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*other);
        }
    }

    /// Whether all of this happened before `other`.
    pub fn is_before(&self, other: &Clock) -> bool {
        self.0.iter().enumerate().all(|(thread, steps)| *steps <= other.0.get(thread).copied().unwrap_or(0))
    }

    fn tick(&mut self, thread: usize) {
        self.0.resize(self.0.len().max(thread + 1), 0);
        self.0[thread] += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Status {
    Ready,
    /// Can go on when another has taken a step.
    Yielded,
    Blocked,
    Ended,
}

struct Thread {
    status: Status,
    clock: Clock,
}

/// A decision: which of how many.
#[derive(Clone, Copy)]
struct Choice {
    taken: usize,
    of: usize,
}

#[derive(Default)]
struct State {
    threads: Vec<Thread>,
    current: usize,
    choices: Vec<Choice>,
    decided: usize,
    preemptions: usize,
    steps: usize,
    failure: Option<String>,
}

#[derive(Clone)]
pub struct World(Arc<(Mutex<State>, Condvar)>, usize);

thread_local! {
    static ME: RefCell<Option<(World, usize)>> = const { RefCell::new(None) };
}

/// Thrown to end the threads of a run that has failed.
struct Over;

fn me() -> (World, usize) {
    ME.with_borrow(|me| me.clone()).expect("a model runs within `explore`")
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, mut state: MutexGuard<'_, State>, message: String) {
        state.failure.get_or_insert(message);
        self.0.1.notify_all();
        drop(state);
        if !std::thread::panicking() {
            resume_unwind(Box::new(Over));
        }
    }

    /// Decides who goes on, and waits until it is `thread`'s turn again unless it has ended.
    fn switch(&self, mut state: MutexGuard<'_, State>, thread: usize) {
        state.steps += 1;
        if state.steps > STEPS {
            return self.fail(state, "it goes round in circles".into());
        }
        let own = state.threads[thread].status;
        let ready = |state: &State| -> Vec<usize> {
            let all = (0..state.threads.len()).map(|step| (thread + step) % state.threads.len());
            all.filter(|other| state.threads[*other].status == Status::Ready).collect()
        };
        let mut candidates = ready(&state);
        if candidates.is_empty() {
            state.threads.iter_mut().filter(|t| t.status == Status::Yielded).for_each(|t| t.status = Status::Ready);
            candidates = ready(&state);
        }
        if candidates.is_empty() {
            let over = state.threads.iter().all(|thread| thread.status == Status::Ended);
            return if over { self.0.1.notify_all() } else { self.fail(state, "all threads wait for ever".into()) };
        }
        if own == Status::Ready && state.preemptions >= self.1 {
            candidates.truncate(1);
        }
        let at = state.decided;
        if at == state.choices.len() {
            state.choices.push(Choice { taken: 0, of: candidates.len() });
        }
        let next = candidates[state.choices[at].taken];
        state.decided += 1;
        state.preemptions += usize::from(own == Status::Ready && next != thread);
        state.current = next;
        self.0.1.notify_all();
        if own != Status::Ended {
            self.wait_turn(state, thread);
        }
    }

    fn wait_turn(&self, mut state: MutexGuard<'_, State>, thread: usize) {
        while state.failure.is_none() && (state.current != thread || state.threads[thread].status != Status::Ready) {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failure.is_some() {
            drop(state);
            if !std::thread::panicking() {
                resume_unwind(Box::new(Over));
            }
        }
    }

    fn run(&self, thread: usize, body: impl FnOnce()) {
        ME.set(Some((self.clone(), thread)));
        self.wait_turn(self.lock(), thread);
        body();
        let mut state = self.lock();
        state.threads[thread].status = Status::Ended;
        self.switch(state, thread);
    }
}

/// A step: others may go first. Then `act` on what is shared, with the clock of this thread.
pub fn step<T>(act: impl FnOnce(&mut Clock) -> T) -> T {
    let (world, thread) = me();
    world.switch(world.lock(), thread);
    let mut state = world.lock();
    // Whoever has waited for a step of another may look again.
    for other in state.threads.iter_mut().filter(|other| other.status == Status::Yielded) {
        other.status = Status::Ready;
    }
    let clock = &mut state.threads[thread].clock;
    clock.tick(thread);
    act(clock)
}

/// Lets others go first: this thread can do nothing now.
pub fn pause() {
    let (world, thread) = me();
    let mut state = world.lock();
    state.threads[thread].status = Status::Yielded;
    world.switch(state, thread);
}

/// Sleeps until `wake` names this thread, whose number `sleep` gets.
pub fn block(sleep: impl FnOnce(usize)) {
    let (world, thread) = me();
    let mut state = world.lock();
    sleep(thread);
    state.threads[thread].status = Status::Blocked;
    world.switch(state, thread);
}

pub fn wake(threads: impl IntoIterator<Item = usize>) {
    let (world, _) = me();
    let mut state = world.lock();
    threads.into_iter().for_each(|thread| state.threads[thread].status = Status::Ready);
}

/// Fails the run.
pub fn fail(message: String) {
    let (world, _) = me();
    world.fail(world.lock(), message);
}

/// One run: `bodies` as threads at once, then `check` in the first of them.
fn once(
    choices: Vec<Choice>,
    preemptions: usize,
    bodies: Vec<Box<dyn FnOnce() + Send>>,
) -> (Vec<Choice>, Option<String>) {
    let new = |_| Thread { status: Status::Ready, clock: Clock::default() };
    let threads = (0..bodies.len()).map(new).collect();
    let state = State { threads, choices, ..State::default() };
    let world = World(Arc::new((Mutex::new(state), Condvar::new())), preemptions);
    std::thread::scope(|scope| {
        for (thread, body) in bodies.into_iter().enumerate() {
            let world = world.clone();
            scope.spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| world.run(thread, body)));
                if let Err(cause) = result
                    && !cause.is::<Over>()
                {
                    let text = cause.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
                    let mut state = world.lock();
                    state.failure.get_or_insert(text.unwrap_or_default());
                    world.0.1.notify_all();
                }
            });
        }
    });
    let mut state = world.lock();
    (std::mem::take(&mut state.choices), state.failure.take())
}

/// Runs the threads that `model` makes, under every interleaving with at most so many preemptions. How many runs that
/// took, or how the first that failed did.
pub fn explore(preemptions: usize, model: impl Fn() -> Vec<Box<dyn FnOnce() + Send>>) -> Result<usize, String> {
    let mut choices: Vec<Choice> = Vec::new();
    for runs in 1.. {
        let (taken, failure) = once(choices, preemptions, model());
        if let Some(failure) = failure {
            return Err(format!("run {runs}: {failure}"));
        }
        choices = taken;
        while choices.last().is_some_and(|last| last.taken + 1 == last.of) {
            choices.pop();
        }
        match choices.last_mut() {
            Some(last) => last.taken += 1,
            None => return Ok(runs),
        }
    }
    Ok(0)
}
