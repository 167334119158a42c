//! What `cpu/sync.rs` gives, made of steps of a world; and the same with something broken.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

use super::explore::{Clock, block, fail, pause, step, wake};

/// How much an operation on an atomic carries over to other threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strength {
    pub acquires: bool,
    pub releases: bool,
}

macro_rules! orderings {
    ($name:ident, $($variant:ident($acquires:literal, $releases:literal)),*) => {
        #[derive(Clone, Copy)]
        pub enum $name { $($variant),* }

        impl From<$name> for Strength {
            fn from(ordering: $name) -> Strength {
                match ordering { $($name::$variant => Strength { acquires: $acquires, releases: $releases }),* }
            }
        }
    };
}

orderings!(Ordering, Relaxed(false, false), Acquire(true, false), Release(false, true), AcqRel(true, true));
orderings!(WithoutRelease, Relaxed(false, false), Acquire(true, false), Release(false, false), AcqRel(true, false));
orderings!(WithoutAcquire, Relaxed(false, false), Acquire(false, false), Release(false, true), AcqRel(false, true));

/// A value with the clock of what was released into it.
struct Atomic(std::sync::Mutex<(u64, Clock)>);

impl Atomic {
    fn new(value: u64) -> Atomic {
        Atomic(std::sync::Mutex::new((value, Clock::default())))
    }

    /// `change` gives the new value, if there is one, of the old. A store breaks the chain of what was released before.
    fn act(&self, strength: Strength, stores: bool, change: impl FnOnce(u64) -> Option<u64>) -> u64 {
        step(|clock| {
            let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let old = place.0;
            if strength.acquires {
                clock.join(&place.1);
            }
            if let Some(new) = change(old) {
                place.0 = new;
                if stores {
                    place.1 = Clock::default();
                }
                if strength.releases {
                    place.1.join(clock);
                }
            }
            old
        })
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        pub struct $name(Atomic);

        #[allow(dead_code)]
        impl $name {
            pub fn new(value: $value) -> $name {
                $name(Atomic::new(value as u64))
            }

            pub fn load(&self, ordering: impl Into<Strength>) -> $value {
                self.0.act(ordering.into(), false, |_| None) as $value
            }

            pub fn store(&self, value: $value, ordering: impl Into<Strength>) {
                self.0.act(ordering.into(), true, |_| Some(value as u64));
            }

            pub fn fetch_add(&self, more: $value, ordering: impl Into<Strength>) -> $value {
                self.0.act(ordering.into(), false, |old| Some((old as $value).wrapping_add(more) as u64)) as $value
            }

            pub fn fetch_max(&self, value: $value, ordering: impl Into<Strength>) -> $value {
                self.0.act(ordering.into(), false, |old| Some(old.max(value as u64))) as $value
            }

            pub fn compare_exchange(
                &self,
                seen: $value,
                new: $value,
                ordering: impl Into<Strength>,
                _: impl Into<Strength>,
            ) -> Result<$value, $value> {
                let old = self.0.act(ordering.into(), false, |old| (old == seen as u64).then_some(new as u64));
                if old == seen as u64 { Ok(seen) } else { Err(old as $value) }
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

pub struct AtomicBool(Atomic);

impl AtomicBool {
    pub fn new(value: bool) -> AtomicBool {
        AtomicBool(Atomic::new(u64::from(value)))
    }

    pub fn load(&self, ordering: impl Into<Strength>) -> bool {
        self.0.act(ordering.into(), false, |_| None) != 0
    }

    pub fn store(&self, value: bool, ordering: impl Into<Strength>) {
        self.0.act(ordering.into(), true, |_| Some(u64::from(value)));
    }
}

#[derive(Default)]
struct LockState {
    taken: bool,
    waiting: Vec<usize>,
    clock: Clock,
}

pub struct Mutex<T> {
    state: std::sync::Mutex<LockState>,
    value: std::sync::Mutex<T>,
}

pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    value: Option<std::sync::MutexGuard<'a, T>>,
}

fn state<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex { state: std::sync::Mutex::default(), value: std::sync::Mutex::new(value) }
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        while !step(|clock| {
            let mut state = state(&self.state);
            let free = !std::mem::replace(&mut state.taken, true);
            if free {
                clock.join(&state.clock);
            }
            free
        }) {
            block(|thread| state(&self.state).waiting.push(thread));
        }
        Ok(MutexGuard { mutex: self, value: Some(self.value.lock().unwrap_or_else(PoisonError::into_inner)) })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("until it is dropped")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("until it is dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        let waiting = step(|clock| {
            let mut state = state(&self.mutex.state);
            state.taken = false;
            state.clock = clock.clone();
            std::mem::take(&mut state.waiting)
        });
        wake(waiting);
    }
}

/// A condition variable; one that is deaf wakes nobody.
pub struct AnyCondvar<const DEAF: bool>(std::sync::Mutex<VecDeque<usize>>);

pub type Condvar = AnyCondvar<false>;
pub type DeafCondvar = AnyCondvar<true>;

impl<const DEAF: bool> AnyCondvar<DEAF> {
    pub fn new() -> Self {
        AnyCondvar(std::sync::Mutex::default())
    }

    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex;
        // In one step: it lets go of the lock and sleeps.
        guard.value = None;
        let waiting = step(|clock| {
            let mut state = state(&mutex.state);
            state.taken = false;
            state.clock = clock.clone();
            std::mem::take(&mut state.waiting)
        });
        std::mem::forget(guard);
        wake(waiting);
        block(|thread| state(&self.0).push_back(thread));
        mutex.lock()
    }

    /// Models set no time limits.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, _: Duration) -> LockResult<(MutexGuard<'a, T>, ())> {
        Ok((self.wait(guard).unwrap_or_else(PoisonError::into_inner), ()))
    }

    pub fn notify_all(&self) {
        step(|_| ());
        if !DEAF {
            wake(state(&self.0).drain(..).collect::<Vec<_>>());
        }
    }
}

pub const SPINS: u32 = 1;

pub fn spin_loop() {}

pub fn linger(changed: impl Fn() -> bool) -> bool {
    changed()
}

/// A thread that has nothing to do for now.
pub fn yield_now() {
    pause();
}

/// A count for each group of a list; or one for all of them.
pub struct AnyPerGroup<const ONE: bool>(Vec<AtomicU32>);

pub type PerGroup = AnyPerGroup<false>;
pub type OneForAll = AnyPerGroup<true>;

impl<const ONE: bool> AnyPerGroup<ONE> {
    pub fn new(groups: usize) -> Self {
        AnyPerGroup((0..groups).map(|_| AtomicU32::new(0)).collect())
    }

    pub fn of(&self, group: usize) -> &AtomicU32 {
        &self.0[if ONE { 0 } else { group }]
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Memory that is not atomic: two accesses, one of them a write, must not be without order.
#[derive(Default)]
pub struct Shared(std::sync::Mutex<Accesses>);

#[derive(Default)]
struct Accesses {
    value: u64,
    written: Clock,
    read: Clock,
}

impl Shared {
    pub fn read(&self) -> u64 {
        let (value, ordered) = step(|clock| {
            let mut accesses = state(&self.0);
            let ordered = accesses.written.is_before(clock);
            accesses.read.join(clock);
            (accesses.value, ordered)
        });
        if !ordered {
            fail("a read races with a write".into());
        }
        value
    }

    pub fn add(&self, more: u64) {
        let ordered = step(|clock| {
            let mut accesses = state(&self.0);
            let ordered = accesses.written.is_before(clock) && accesses.read.is_before(clock);
            accesses.written = clock.clone();
            accesses.value += more;
            ordered
        });
        if !ordered {
            fail("a write races with another access".into());
        }
    }
}
