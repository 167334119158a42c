//! Submissions under way, and what becomes of them.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kovar_hal::{CommandBuffer, HalError, TimeSpan};
use smallvec::SmallVec;

use crate::device::Part;
use crate::event::Timeline;
use crate::hold::{Held, Kept};
use crate::kernel::Kernel;
use crate::poison::Effect;
use crate::profile::{Collector, Command, Run};

/// An allocation that a recording uses.
#[derive(Clone)]
pub(crate) struct Used {
    pub(crate) allocation: Held,
    pub(crate) effect: Effect,
}

impl Used {
    pub(crate) fn is_written(&self) -> bool {
        !self.effect.writes.is_empty()
    }
}

/// How a submission ended. A command buffer that is submitted again tells of its last execution only, so it is asked
/// when the end is first seen.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: Result<(), HalError>,
    pub(crate) time: Option<TimeSpan>,
    pub(crate) times: Vec<Option<TimeSpan>>,
    pub(crate) listed: Option<Arc<[Command]>>,
}

/// Who wants to know of the end of a submission.
pub(crate) struct Watch {
    pub(crate) collector: Arc<Collector>,
    pub(crate) submitted: Instant,
}

/// A submission that has not been seen to end, with all that it uses.
pub(crate) struct Flight {
    pub(crate) value: u64,
    pub(crate) label: Box<str>,
    pub(crate) commands: Arc<dyn CommandBuffer>,
    pub(crate) used: Arc<[Used]>,
    pub(crate) _kernels: Arc<[Kernel]>,
    /// Holds what is used without a count.
    pub(crate) _kept: Option<Kept>,
    pub(crate) _events: SmallVec<[Arc<Timeline>; 2]>,
    /// Its commands, if they are timed.
    pub(crate) listed: Option<Arc<[Command]>>,
    pub(crate) watch: Option<Watch>,
    /// If it is not the whole of a recording.
    pub(crate) part: Option<Part>,
    /// The rest of its recording will never come: what it wrote is no result.
    pub(crate) condemned: bool,
    /// Shared with whoever waits for it.
    pub(crate) end: Arc<OnceLock<End>>,
}

impl Flight {
    /// Notes how it ended. What a failed one wrote is poisoned, and so is what was computed from poisoned bytes.
    /// Whether there may be poison comes in and goes out.
    fn land(&self, poison: bool) -> bool {
        let own = self.commands.status();
        let failed = self.before().and_then(|end| end.status.clone().err());
        let status = failed.map_or(own, Err);
        let tainted = |used: &Used| used.allocation.poison.hits(&used.effect.reads);
        let poison = poison || self.condemned || status.is_err();
        let used = if poison { &self.used[..] } else { &[] };
        let bad = self.condemned || status.is_err() || used.iter().any(tainted);
        for Used { allocation, effect } in used {
            if bad {
                allocation.poison.add(&effect.writes);
            } else {
                allocation.poison.clear(&effect.fresh);
            }
        }
        let (time, times) = match (Arc::strong_count(&self.end), &self.watch) {
            (1, None) => (None, Vec::new()),
            _ => (self.commands.time(), self.commands.times()),
        };
        if let Some(watch) = &self.watch {
            watch.collector.note(Run {
                number: self.value,
                label: self.label.to_string(),
                submitted: watch.submitted,
                time,
                commands: self.listed.clone().unwrap_or_default(),
                times: times.clone(),
                position: None,
            });
        }
        // It lands once.
        let _ = self.end.set(self.whole(End { status, time, times, listed: self.listed.clone() }));
        poison
    }

    /// How the parts before ended, which land first.
    fn before(&self) -> Option<&End> {
        self.part.as_ref()?.before.as_ref()?.get()
    }

    /// The end of all parts so far, given that of the last.
    fn whole(&self, last: End) -> End {
        let Some(before) = self.before() else { return last };
        let time = before.time.zip(last.time).map(|(first, last)| TimeSpan { start: first.start, end: last.end });
        let times = [&before.times[..], &last.times[..]].concat();
        let listed = before.listed.iter().zip(&last.listed).next().map(|(before, last)| [&before[..], last].concat());
        End { status: last.status, time, times, listed: listed.map(Into::into) }
    }
}

/// Submissions in order, the oldest first.
#[derive(Default)]
pub(crate) struct Flights {
    list: VecDeque<Flight>,
    /// One has failed: until then nothing is poisoned, and a replay costs the same whatever it uses.
    failed: bool,
}

impl Flights {
    pub(crate) fn launch(&mut self, flight: Flight) {
        self.list.push_back(flight);
    }

    /// Gives up the parts of a recording: what they wrote, and will have written, is no result.
    pub(crate) fn condemn(&mut self, recording: u64) {
        let of_it = |flight: &&mut Flight| flight.part.as_ref().is_some_and(|part| part.recording == recording);
        self.list.iter_mut().filter(of_it).for_each(|flight| flight.condemned = true);
        self.failed = true;
    }

    pub(crate) fn first(&self) -> Option<&Flight> {
        self.list.front()
    }

    pub(crate) fn last(&self) -> Option<&Flight> {
        self.list.back()
    }

    /// Lands what has ended. It comes back, to be dropped when nothing is locked any more.
    pub(crate) fn land(&mut self, reached: u64) -> Vec<Flight> {
        let ended = self.list.partition_point(|flight| flight.value <= reached);
        let ended: Vec<Flight> = self.list.drain(..ended).collect();
        ended.iter().for_each(|flight| self.failed = flight.land(self.failed));
        ended
    }

    /// Takes all, ended or not.
    pub(crate) fn take(&mut self) -> VecDeque<Flight> {
        std::mem::take(&mut self.list)
    }
}
