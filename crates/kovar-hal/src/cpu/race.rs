//! What tasks touch, and which of them touch the same bytes with nothing between them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Race, RacePlace, RaceSide};

/// One task of one job of a command buffer; without a number: the count of the tasks of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Actor {
    pub(crate) job: u32,
    pub(crate) task: Option<u32>,
}

/// Bytes that an actor asked for, as addresses.
#[derive(Debug, Clone)]
struct Touch {
    actor: Actor,
    place: RacePlace,
    /// Address of the first byte of the place.
    base: usize,
    start: usize,
    end: usize,
    /// The kernel asked for the place, not for a part of it.
    whole: bool,
    writes: bool,
}

#[derive(Default)]
struct State {
    writes: Vec<Touch>,
    reads: Vec<Touch>,
    /// Where in `reads` the first two actors of a job stand that read this: slots are read whole by every task, and two
    /// are enough to find one that conflicts.
    read: HashMap<(u32, usize, usize), (usize, bool)>,
}

/// What the tasks of the present group have asked for.
#[derive(Default)]
pub(crate) struct AccessLog(Mutex<State>);

/// A log and who writes to it.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    pub(crate) log: &'a AccessLog,
    pub(crate) actor: Actor,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.actor.fmt(f)
    }
}

impl Watch<'_> {
    /// Notes a read of some bytes of a place that begins at `base`, `whole` if the kernel did not say which bytes.
    pub(crate) fn reads(&self, place: RacePlace, base: *const u8, bytes: Range<usize>, whole: bool) {
        let base = base as usize;
        let (start, end) = (base + bytes.start, base + bytes.end);
        self.log.lock().add_read(Touch { actor: self.actor, place, base, start, end, whole, writes: false });
    }

    /// Notes that some bytes of a place are the actor's alone.
    pub(crate) fn writes(&self, place: RacePlace, base: *const u8, bytes: Range<usize>) {
        let base = base as usize;
        let (start, end) = (base + bytes.start, base + bytes.end);
        self.log.lock().add_write(Touch { actor: self.actor, place, base, start, end, whole: false, writes: true });
    }
}

impl State {
    fn add_read(&mut self, touch: Touch) {
        if touch.start == touch.end {
            return;
        }
        let next = self.reads.len();
        let key = (touch.actor.job, touch.start, touch.end);
        let (first, second) = self.read.entry(key).or_insert((next, false));
        if *first == next || (!*second && self.reads[*first].actor != touch.actor) {
            *second = *first != next;
            self.reads.push(touch);
        }
    }

    fn add_write(&mut self, touch: Touch) {
        if touch.start == touch.end {
            return;
        }
        // Kernels that write element by element ask for them in order.
        if let Some(last) = self.writes.last_mut()
            && last.actor == touch.actor
            && last.place == touch.place
            && touch.start <= last.end
            && last.start <= touch.start
        {
            last.end = last.end.max(touch.end);
            return;
        }
        self.writes.push(touch);
    }
}

impl AccessLog {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a slot that tasks of a job asked for to write them, sorted.
    pub(crate) fn written(&self, job: u32, slot: usize) -> Vec<Range<usize>> {
        let state = self.lock();
        let place = RacePlace::Slot(slot);
        let own = state.writes.iter().filter(|touch| touch.actor.job == job && touch.place == place);
        let mut ranges: Vec<_> = own.map(|touch| touch.start - touch.base..touch.end - touch.base).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// Ends the group. Of its races, the first by the order of recording comes back, if there is any. `name` gives the
    /// name of a job's kernel and its own.
    pub(crate) fn take_race(&self, label: &str, name: impl Fn(u32) -> (String, String)) -> Option<Race> {
        let State { writes, reads, .. } = std::mem::take(&mut *self.lock());
        let writes = coalesced(writes);
        let mut pairs = write_write(&writes);
        pairs.extend(read_write(&reads, &writes));
        for (a, b) in &mut pairs {
            if b.actor < a.actor {
                std::mem::swap(a, b);
            }
        }
        pairs.sort_by_key(|(a, b)| (a.actor, b.actor, a.start));
        let kinds: HashSet<_> = pairs.iter().map(|(a, b)| (a.actor.job, a.place, b.actor.job, b.place)).collect();
        let (earlier, later) = pairs.first()?;
        let bytes = earlier.start.max(later.start)..earlier.end.min(later.end);
        let side = |touch: &Touch| {
            let (kernel, label) = name(touch.actor.job);
            RaceSide {
                kernel,
                label,
                command: touch.actor.job as usize,
                task: touch.actor.task,
                place: touch.place,
                bytes: (bytes.start - touch.base) as u64..(bytes.end - touch.base) as u64,
                writes: touch.writes,
                whole: touch.whole,
            }
        };
        let (earlier, later) = (side(earlier), side(later));
        Some(Race { label: label.into(), earlier, later, others: kinds.len() - 1 })
    }
}

/// Touches of one actor that meet, joined; sorted by address.
fn coalesced(mut touches: Vec<Touch>) -> Vec<Touch> {
    touches.sort_unstable_by_key(|touch| (touch.actor, touch.start));
    touches.dedup_by(|next, kept| {
        let joined = kept.actor == next.actor && next.start <= kept.end;
        if joined {
            kept.end = kept.end.max(next.end);
        }
        joined
    });
    touches.sort_unstable_by_key(|touch| touch.start);
    touches
}

/// Pairs of writes of different actors that meet: for each write, one with a write that starts before it.
fn write_write(writes: &[Touch]) -> Vec<(Touch, Touch)> {
    let mut pairs = Vec::new();
    let mut furthest: Option<&Touch> = None;
    for write in writes {
        // Touches of one actor are disjoint, so what reaches over the start of this one is another's.
        if let Some(open) = furthest
            && write.start < open.end
        {
            pairs.push((open.clone(), write.clone()));
        }
        if furthest.is_none_or(|open| open.end < write.end) {
            furthest = Some(write);
        }
    }
    pairs
}

/// Pairs of a read and a write of another actor that meet: for each read, one with each job that writes.
fn read_write(reads: &[Touch], writes: &[Touch]) -> Vec<(Touch, Touch)> {
    let mut pairs: Vec<(Touch, Touch)> = Vec::new();
    // Ends are not sorted when writes meet each other; those are reported in any case.
    for read in reads {
        let from = writes.partition_point(|write| write.end <= read.start);
        let first = pairs.len();
        for write in writes[from..].iter().take_while(|write| write.start < read.end) {
            let known = pairs[first..].iter().any(|(_, known)| known.actor.job == write.actor.job);
            if write.actor != read.actor && read.start < write.end && !known {
                pairs.push((read.clone(), write.clone()));
            }
        }
    }
    pairs
}
