//! Who runs which task: the protocol by which threads share a list of groups of tasks.
//!
//! One word says which execution, which group and which task is next. A thread claims tasks by raising the word, which
//! fails if anything has moved on meanwhile; whoever ends the last task of a group opens the next one. A group of one task
//! that follows is not opened: that thread runs it, and the others, whose word stays as it was, are not disturbed. The count of
//! tasks of a group has a place of its own: with one place for the present group, a thread that has read the word of a
//! group whose tasks are all taken could see the count of the next group before its word, and claim a task that is not.

use super::sync::{AtomicU32, AtomicU64, Ordering, PerGroup};

/// Groups that a word can name, the end of the list among them.
pub(crate) const MAX_GROUPS: usize = 1 << 20;

/// 12 bits of execution, 20 of group, 32 of task.
fn word(execution: u32, group: usize) -> u64 {
    u64::from(execution & 0xfff) << 52 | (group as u64) << 32
}

fn group_of(word: u64) -> usize {
    (word >> 32) as usize & (MAX_GROUPS - 1)
}

/// Consecutive tasks of a group, claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The number of the execution, which tells all of them apart.
    pub(crate) execution: u32,
    pub(crate) group: usize,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run these.
    Run(Claim),
    /// All tasks of the group are taken, and some of them still run.
    Wait,
    /// The list has ended.
    Ended,
}

/// The state of one list.
pub(crate) struct Claims {
    word: AtomicU64,
    /// Sets the words of one execution apart from those of the one before.
    execution: AtomicU32,
    totals: PerGroup,
    /// Tasks of the present group that have ended.
    done: AtomicU32,
}

impl Claims {
    /// A list of so many groups, fewer than [`MAX_GROUPS`], that has ended.
    pub(crate) fn new(groups: usize) -> Claims {
        Claims {
            word: AtomicU64::new(word(0, groups)),
            execution: AtomicU32::new(0),
            totals: PerGroup::new(groups),
            done: AtomicU32::new(0),
        }
    }

    /// Begins another execution of a list that has ended; its first group is opened next.
    pub(crate) fn begin(&self) {
        self.execution.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets threads claim the tasks of a group, of which there is at least one. Only the thread that began the
    /// execution or closed the group before may do this, once.
    pub(crate) fn open(&self, group: usize, tasks: u32) {
        self.totals.of(group).store(tasks, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.publish(group);
    }

    /// Ends the list, in place of opening a group.
    pub(crate) fn end(&self) {
        self.publish(self.totals.len());
    }

    fn publish(&self, group: usize) {
        self.word.store(word(self.execution.load(Ordering::Relaxed), group), Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        group_of(self.word.load(Ordering::Acquire)) == self.totals.len()
    }

    /// Claims some tasks of the present group: `share` says how many of those that are left.
    pub(crate) fn claim(&self, share: impl Fn(u32) -> u32) -> Next {
        loop {
            let seen = self.word.load(Ordering::Acquire);
            let (group, first) = (group_of(seen), seen as u32);
            if group == self.totals.len() {
                return Next::Ended;
            }
            let total = self.totals.of(group).load(Ordering::Relaxed);
            if first >= total {
                return Next::Wait;
            }
            let count = share(total - first).clamp(1, total - first);
            let raised = seen + u64::from(count);
            if self.word.compare_exchange(seen, raised, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // The list does not end before these tasks do, so that no other execution has begun.
                let execution = self.execution.load(Ordering::Relaxed);
                return Next::Run(Claim { execution, group, first, count });
            }
        }
    }

    /// Says that claimed tasks have ended. `true` if they were the last of their group: the caller then goes on, opens the
    /// next group, or ends the list.
    pub(crate) fn finish(&self, claim: Claim) -> bool {
        let total = self.totals.of(claim.group).load(Ordering::Relaxed);
        self.done.fetch_add(claim.count, Ordering::AcqRel) + claim.count == total
    }

    /// What the thread that ended the last task of a group does next: it runs groups of one task itself, which nobody could
    /// help with and so nobody is told of, and opens the first of more. `next` gives the first group from a number on that
    /// has tasks, and how many. `true` if there is none: the list has ended.
    pub(crate) fn go_on(
        &self,
        mut group: usize,
        mut next: impl FnMut(usize) -> Option<(usize, u32)>,
        mut run: impl FnMut(Claim),
        mut leave: impl FnMut() -> bool,
    ) -> bool {
        while let Some((follows, tasks)) = next(group + 1) {
            if tasks > 1 || leave() {
                self.open(follows, tasks);
                return false;
            }
            let execution = self.execution.load(Ordering::Relaxed);
            run(Claim { execution, group: follows, first: 0, count: 1 });
            group = follows;
        }
        self.end();
        true
    }
}
