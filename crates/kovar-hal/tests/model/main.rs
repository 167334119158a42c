//! The protocols of the CPU backend under every interleaving: how threads share a list of tasks (`cpu/claims.rs`), how
//! submissions are handed over and waited for (`cpu/handover.rs`), and the events that order them (`timeline.rs`).
//!
//! The files themselves are compiled here, on top of `sync.rs` in place of the standard library. Each model is also run on
//! top of something broken, which it must find out: so a model that finds nothing cannot pass.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]
#![allow(clippy::duplicate_mod, reason = "each world has the files on top of something else")]

mod explore;
mod sync;

use std::sync::Arc;

pub(crate) use kovar_hal::RawEvent;

use explore::explore;

type Bodies = Vec<Box<dyn FnOnce() + Send>>;

/// The files, on top of a choice of what they are made of, and the models of them.
macro_rules! world {
    ($name:ident, $ordering:ident, $condvar:ident, $per_group:ident) => {
        #[allow(dead_code, unused_imports)]
        #[path = "../../src"]
        pub(crate) mod $name {
            pub(crate) mod cpu {
                pub(crate) mod sync {
                    pub(crate) use crate::sync::$condvar as Condvar;
                    pub(crate) use crate::sync::$ordering as Ordering;
                    pub(crate) use crate::sync::$per_group as PerGroup;
                    pub(crate) use crate::sync::{
                        AtomicBool, AtomicU32, AtomicU64, Mutex, MutexGuard, SPINS, linger, spin_loop,
                    };
                }
                pub(crate) mod claims;
                pub(crate) mod handover;
            }
            #[path = "../tests/model/models.rs"]
            pub(crate) mod models;
            pub(crate) mod timeline;
        }
    };
}

world!(sound, Ordering, Condvar, PerGroup);
world!(without_release, WithoutRelease, Condvar, PerGroup);
world!(without_acquire, WithoutAcquire, Condvar, PerGroup);
world!(deaf, Ordering, DeafCondvar, PerGroup);
world!(one_count, Ordering, Condvar, OneForAll);

/// Runs a model that must hold.
#[track_caller]
fn holds(preemptions: usize, model: impl Fn() -> Bodies) {
    let runs = explore(preemptions, model).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{runs} interleavings");
    assert!(runs > 100, "only {runs} interleavings: the model does next to nothing");
}

/// Runs a model that is broken.
#[track_caller]
fn is_found_out(preemptions: usize, model: impl Fn() -> Bodies, how: &[&str]) {
    let failure = explore(preemptions, model).expect_err("nothing was found");
    assert!(how.iter().any(|how| failure.contains(how)), "{failure}");
}

const RACE: &[&str] = &["races"];

#[test]
fn tasks_run_once_and_groups_one_after_the_other() {
    holds(3, || sound::models::threads_share_a_list(&[2, 1]));
    holds(2, || sound::models::threads_share_a_list(&[1, 0, 2, 1]));
    holds(2, || sound::models::threads_share_a_list(&[2, 1, 1, 2]));
    holds(3, || sound::models::a_thread_leaves_a_list_and_comes_back(&[1, 1, 1]));
}

#[test]
fn groups_that_one_thread_runs_alone_must_be_released_to_those_after_and_acquired() {
    let groups = [1, 1, 2];
    is_found_out(3, || without_release::models::threads_share_a_list(&groups), RACE);
    is_found_out(3, || without_acquire::models::threads_share_a_list(&groups), RACE);
    is_found_out(3, || without_release::models::a_thread_leaves_a_list_and_comes_back(&[1, 1]), RACE);
    is_found_out(3, || without_acquire::models::a_thread_leaves_a_list_and_comes_back(&[1, 1]), RACE);
}

#[test]
fn what_a_group_wrote_must_be_released_and_acquired() {
    is_found_out(3, || without_release::models::threads_share_a_list(&[2, 1]), RACE);
    is_found_out(3, || without_acquire::models::threads_share_a_list(&[2, 1]), RACE);
}

#[test]
fn one_count_for_all_groups_is_not_enough() {
    is_found_out(3, || one_count::models::threads_share_a_list(&[1, 2]), &["races", "ran", "overflow"]);
}

#[test]
fn submissions_run_in_order_and_their_ends_are_seen() {
    holds(2, || sound::models::a_worker_runs_what_the_host_submits(false));
    holds(2, || sound::models::a_worker_runs_what_the_host_submits(true));
}

#[test]
fn a_submission_waits_for_an_event_of_another_thread() {
    holds(2, sound::models::the_host_releases_a_submission);
}

#[test]
fn two_threads_wait_for_one_event() {
    holds(2, sound::models::two_threads_wait);
}

#[test]
fn a_wait_must_be_woken_and_must_acquire() {
    is_found_out(2, || deaf::models::a_worker_runs_what_the_host_submits(false), &["wait for ever"]);
    is_found_out(2, deaf::models::the_host_releases_a_submission, &["wait for ever"]);
    is_found_out(2, deaf::models::two_threads_wait, &["wait for ever"]);
    is_found_out(2, || without_release::models::a_worker_runs_what_the_host_submits(true), RACE);
    is_found_out(2, || without_acquire::models::a_worker_runs_what_the_host_submits(true), RACE);
}

/// The explorer itself: it finds an update that is lost, and two locks taken in two orders.
#[test]
fn the_explorer_finds_a_lost_update_and_a_deadlock() {
    let adds = || -> Bodies {
        let shared = Arc::new((sync::AtomicU32::new(0), sync::AtomicU32::new(0)));
        let add = |shared: Arc<(sync::AtomicU32, sync::AtomicU32)>| {
            move || {
                let (count, ended) = &*shared;
                let seen = count.load(sync::Ordering::Acquire);
                count.store(seen + 1, sync::Ordering::Release);
                if ended.fetch_add(1, sync::Ordering::AcqRel) == 1 {
                    assert_eq!(count.load(sync::Ordering::Acquire), 2, "an update is lost");
                }
            }
        };
        vec![Box::new(add(shared.clone())), Box::new(add(shared))]
    };
    is_found_out(1, adds, &["an update is lost"]);
    assert!(explore(0, adds).is_ok(), "without preemption the threads never meet");
    let locks = || -> Bodies {
        let locks = Arc::new((sync::Mutex::new(()), sync::Mutex::new(())));
        let other = locks.clone();
        let first = move || drop((locks.0.lock(), locks.1.lock()));
        let second = move || drop((other.1.lock(), other.0.lock()));
        vec![Box::new(first), Box::new(second)]
    };
    is_found_out(1, locks, &["wait for ever"]);
    assert!(explore(0, locks).is_ok(), "nor do the locks");
}
