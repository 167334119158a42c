//! How threads walk a job list together.
//!
//! Any thread may join at any time and leave between two tasks. A group has ended when as many of its tasks are done as
//! it has, whoever did them; the thread that finds this out opens the next group, or runs it if it is a single task. So
//! nobody is handed work, and a barrier costs one atomic addition a claim and one store, or nothing. The protocol itself is in
//! `claims.rs`.
//!
//! Threads claim a share of what is left (Polychronopoulos, Kuck: "Guided self-scheduling", 1987): many tasks at first, so
//! that each reads long stretches of memory; single ones at last, so that all end together.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::claims::{Claim, Next};
use super::kernel::Prepared;
use super::recorder::{CpuCommandBuffer, Job};
use crate::{CpuChecks, CpuSchedule, HalError, TimeSpan, Timing};

/// Spins before a thread that has nothing to claim gives its core away.
const SPINS: u32 = 4096;

/// What a walk needs to know of its device.
#[derive(Clone, Copy)]
pub(crate) struct Crew {
    pub(crate) threads: u32,
    pub(crate) schedule: CpuSchedule,
    pub(crate) checks: CpuChecks,
    pub(crate) epoch: Instant,
}

impl Crew {
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Tasks of those left that a thread claims at once: single ones where there are few, which are long.
    fn share(&self, left: u32) -> u32 {
        left.saturating_sub(2 * self.threads).saturating_mul(3) / (4 * self.threads)
    }

    /// Whether one thread does all the work.
    pub(crate) fn is_alone(&self) -> bool {
        self.checks.races || self.schedule != CpuSchedule::Parallel
    }
}

/// What a thread has prepared, and for which job of which execution.
#[derive(Default)]
struct Own {
    job: Option<(u32, usize)>,
    prepared: Prepared,
}

impl Own {
    fn of(&mut self, execution: u32, number: usize) -> &Prepared {
        if self.job != Some((execution, number)) {
            *self = Own { job: Some((execution, number)), prepared: Prepared::new() };
        }
        &self.prepared
    }
}

impl CpuCommandBuffer {
    pub(crate) fn has_ended(&self) -> bool {
        self.claims.has_ended()
    }

    /// Makes the list ready to be walked. Returns `true` if there was nothing to do and it has ended.
    pub(crate) fn begin(&self, crew: &Crew) -> bool {
        self.claims.begin();
        let now = crew.now();
        {
            let mut outcome = self.outcome();
            outcome.fault = None;
            outcome.groups.clear();
            outcome.span = (self.timing != Timing::Off).then_some(TimeSpan { start: now, end: now });
        }
        self.open_group(0, crew)
    }

    /// Opens the first group from `group` on that has tasks. Returns `true` if there was none: the walk has ended.
    fn open_group(&self, group: usize, crew: &Crew) -> bool {
        let Some((group, tasks)) = self.next_group(group, crew) else {
            self.claims.end();
            return true;
        };
        self.claims.open(group, tasks);
        false
    }

    /// Makes the first group from `group` on that has tasks ready, and counts them.
    fn next_group(&self, mut group: usize, crew: &Crew) -> Option<(usize, u32)> {
        while group < self.groups.len() {
            if self.timing == Timing::Dispatches {
                let now = crew.now();
                self.outcome().groups.push(TimeSpan { start: now, end: now });
            }
            let mut total = 0u32;
            for number in self.groups[group].clone() {
                let job = &self.jobs[number];
                let tasks = self.count(number, crew.threads).unwrap_or_else(|cause| {
                    self.record_fault(job, cause);
                    0
                });
                job.first.store(total, Ordering::Relaxed);
                job.tasks.store(tasks, Ordering::Relaxed);
                total = total.saturating_add(tasks);
            }
            if total > 0 {
                return Some((group, total));
            }
            self.check_group();
            group += 1;
        }
        if let Some(span) = &mut self.outcome().span {
            span.end = crew.now();
        }
        None
    }

    /// Works until the list has ended or `leave` says so. Returns `true` for the one thread that ended it.
    pub(crate) fn help(&self, crew: &Crew, mut leave: impl FnMut() -> bool) -> bool {
        if crew.is_alone() {
            return self.walk_alone(crew);
        }
        let mut idle = 0u32;
        let mut own = Own::default();
        loop {
            match self.claims.claim(|left| crew.share(left)) {
                Next::Ended => return false,
                Next::Wait => {
                    idle += 1;
                    if idle < SPINS {
                        std::hint::spin_loop();
                    } else {
                        if leave() {
                            return false;
                        }
                        std::thread::yield_now();
                    }
                }
                Next::Run(claim) => {
                    idle = 0;
                    self.run_claim(claim, crew, &mut own);
                    if self.claims.finish(claim) && self.go_on(claim.group, crew, &mut own, &mut leave) {
                        return true;
                    }
                    if leave() {
                        return false;
                    }
                }
            }
        }
    }

    /// Goes on after a group whose tasks have all ended. Returns `true` if it was the last.
    fn go_on(&self, group: usize, crew: &Crew, own: &mut Own, leave: impl FnMut() -> bool) -> bool {
        let next = |group: usize| {
            self.close_span(crew);
            self.next_group(group, crew)
        };
        self.claims.go_on(group, next, |claim| self.run_claim(claim, crew, own), leave)
    }

    /// Closes a group whose tasks have all ended, and opens the next. Returns `true` if there was none.
    pub(crate) fn close_group(&self, group: usize, crew: &Crew) -> bool {
        self.close_span(crew);
        self.open_group(group + 1, crew)
    }

    /// Takes the time of the end of a group, if somebody wants it.
    fn close_span(&self, crew: &Crew) {
        if self.timing == Timing::Dispatches
            && let Some(span) = self.outcome().groups.last_mut()
        {
            span.end = crew.now();
        }
    }

    fn run_claim(&self, claim: Claim, crew: &Crew, own: &mut Own) {
        let Claim { execution, group, first: mut task, mut count } = claim;
        while count > 0 {
            let Some((number, first, tasks)) = self.locate(group, task) else { return };
            let n = count.min(tasks - first);
            self.run_tasks(number, first..first + n, crew, own.of(execution, number));
            task += n;
            count -= n;
        }
    }

    /// Runs tasks of a job. What they throw becomes the fault of the submission.
    pub(crate) fn run_tasks(&self, number: usize, tasks: Range<u32>, crew: &Crew, prepared: &Prepared) {
        let run = || self.run(number, tasks, crew.threads, prepared);
        if let Err(cause) = catch_unwind(AssertUnwindSafe(run)) {
            self.record_fault(&self.jobs[number], cause);
        }
    }

    fn record_fault(&self, job: &Job, cause: Box<dyn Any + Send>) {
        let reason = if let Some(text) = cause.downcast_ref::<String>() {
            text.clone()
        } else if let Some(text) = cause.downcast_ref::<&str>() {
            (*text).into()
        } else {
            "the kernel panicked".into()
        };
        self.fail(HalError::Fault { label: self.job_label(job), reason });
    }

    /// Takes note of what went wrong first.
    pub(crate) fn fail(&self, error: HalError) {
        self.outcome().fault.get_or_insert(error);
    }

    /// The job of a task of a group, the task's number in the job, and the tasks of the job.
    fn locate(&self, group: usize, task: u32) -> Option<(usize, u32, u32)> {
        let jobs = self.groups[group].clone();
        let within = self.jobs[jobs.clone()].partition_point(|job| job.first.load(Ordering::Relaxed) <= task);
        let number = jobs.start + within.checked_sub(1)?;
        let job = &self.jobs[number];
        Some((number, task - job.first.load(Ordering::Relaxed), job.tasks.load(Ordering::Relaxed)))
    }
}
