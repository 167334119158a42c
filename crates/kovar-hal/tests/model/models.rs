//! Models of one world: the list is `claims.rs` with tasks that touch memory, the queue is `handover.rs`.

use std::sync::Arc;

use super::cpu::claims::{Claim, Claims, Next};
use super::cpu::handover::{Handover, List, Submission};
use super::timeline::HostEvent;
use crate::Bodies;
use crate::sync::{Shared, yield_now};

/// A list of groups of tasks, each of which counts its runs in memory of its own and reads that of the group before.
pub(crate) struct Tasks {
    claims: Claims,
    runs: Vec<Vec<Shared>>,
}

#[derive(Clone)]
pub(crate) struct TaskList(Arc<Tasks>);

impl TaskList {
    fn new(groups: &[usize]) -> TaskList {
        let runs = groups.iter().map(|tasks| (0..*tasks).map(|_| Shared::default()).collect()).collect();
        TaskList(Arc::new(Tasks { claims: Claims::new(groups.len()), runs }))
    }

    /// The first group from this one on that has tasks, and how many.
    fn next(&self, from: usize) -> Option<(usize, u32)> {
        let (group, tasks) = self.0.runs.iter().enumerate().skip(from).find(|(_, tasks)| !tasks.is_empty())?;
        Some((group, tasks.len() as u32))
    }

    fn run(&self, group: usize, task: usize) {
        let before = self.0.runs[..group].iter().rev().find(|tasks| !tasks.is_empty());
        for earlier in before.into_iter().flatten() {
            assert_eq!(earlier.read(), 1, "a task of group {group} ran too early");
        }
        self.0.runs[group].get(task).unwrap_or_else(|| panic!("task {task} of group {group} ran and is none")).add(1);
    }

    fn check(&self) {
        for (group, tasks) in self.0.runs.iter().enumerate() {
            for (task, runs) in tasks.iter().enumerate() {
                assert_eq!(runs.read(), 1, "task {task} of group {group} ran so often");
            }
        }
    }
}

impl List for TaskList {
    fn begin(&self) -> bool {
        self.0.claims.begin();
        let Some((group, tasks)) = self.next(0) else {
            self.0.claims.end();
            return true;
        };
        self.0.claims.open(group, tasks);
        false
    }

    fn has_ended(&self) -> bool {
        self.0.claims.has_ended()
    }

    fn help(&self, mut leave: impl FnMut() -> bool) -> bool {
        loop {
            match self.0.claims.claim(|_| 1) {
                Next::Ended => return false,
                Next::Wait => {
                    if leave() {
                        return false;
                    }
                    yield_now();
                }
                Next::Run(claim) => {
                    self.run(claim.group, claim.first as usize);
                    let run = |alone: Claim| self.run(alone.group, alone.first as usize);
                    let last = self.0.claims.finish(claim);
                    if last && self.0.claims.go_on(claim.group, |from| self.next(from), run, &mut leave) {
                        return true;
                    }
                    if leave() {
                        return false;
                    }
                }
            }
        }
    }
}

/// Two threads work on a list that one of them has begun; each sees all of it when it has ended.
pub(crate) fn threads_share_a_list(groups: &[usize]) -> Bodies {
    let list = TaskList::new(groups);
    let other = list.clone();
    let first = move || {
        list.begin();
        list.help(|| false);
        list.check();
    };
    let second = move || {
        // It may come before the list is begun, and then has nothing to do.
        other.help(|| false);
    };
    vec![Box::new(first), Box::new(second)]
}

/// As [`threads_share_a_list`], where the first thread leaves whenever it may and comes back: also between two groups of one
/// task, which it would run in one go otherwise.
pub(crate) fn a_thread_leaves_a_list_and_comes_back(groups: &[usize]) -> Bodies {
    let list = TaskList::new(groups);
    let other = list.clone();
    let first = move || {
        list.begin();
        while !list.has_ended() {
            list.help(|| true);
            yield_now();
        }
        list.check();
    };
    let second = move || {
        other.help(|| false);
    };
    vec![Box::new(first), Box::new(second)]
}

fn event() -> Arc<HostEvent> {
    Arc::new(HostEvent::new(0))
}

/// Two submissions, one after the other; the host waits for the second, with or without helping.
pub(crate) fn a_worker_runs_what_the_host_submits(helps: bool) -> Bodies {
    let queue = Arc::new(Handover::<TaskList>::new());
    let (worker, done) = (queue.clone(), event());
    let host = move || {
        let lists = [TaskList::new(&[1]), TaskList::new(&[1])];
        for (number, list) in (1..).zip(&lists) {
            let signals = vec![(done.clone(), number)];
            queue.submit(Submission { lists: [list.clone()].into(), waits: Vec::new(), signals });
        }
        assert!(queue.wait(&done, 2, None, helps));
        lists.iter().for_each(TaskList::check);
        queue.stop();
    };
    vec![Box::new(host), Box::new(move || worker.work())]
}

/// A submission that waits for a value which another thread raises; what that thread wrote before is seen by its tasks.
pub(crate) fn the_host_releases_a_submission() -> Bodies {
    let queue = Arc::new(Handover::<TaskList>::new());
    let (worker, signaller) = (queue.clone(), queue.clone());
    let (gate, done) = (event(), event());
    let opened = gate.clone();
    let host = move || {
        let list = TaskList::new(&[1]);
        let (waits, signals) = (vec![(gate, 2)], vec![(done.clone(), 1)]);
        queue.submit(Submission { lists: [list.clone()].into(), waits, signals });
        assert!(queue.wait(&done, 1, None, false));
        list.check();
        queue.stop();
    };
    let opens = move || {
        signaller.signal(&opened, 1);
        signaller.signal(&opened, 2);
    };
    vec![Box::new(host), Box::new(opens), Box::new(move || worker.work())]
}

/// Two threads wait for an event that a third raises; each sees what was written before.
pub(crate) fn two_threads_wait() -> Bodies {
    let queue = Arc::new(Handover::<TaskList>::new());
    let (done, written) = (event(), Arc::new(Shared::default()));
    let waits = |queue: Arc<Handover<TaskList>>, done: Arc<HostEvent>, written: Arc<Shared>| {
        move || {
            assert!(queue.wait(&done, 1, None, false));
            assert_eq!(written.read(), 1);
        }
    };
    let first = waits(queue.clone(), done.clone(), written.clone());
    let second = waits(queue.clone(), done.clone(), written.clone());
    let raises = move || {
        written.add(1);
        queue.signal(&done, 1);
    };
    vec![Box::new(raises), Box::new(first), Box::new(second)]
}
