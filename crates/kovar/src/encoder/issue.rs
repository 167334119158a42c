use std::time::Instant;

use kovar_hal::Recorder;

use crate::hazard::{Access, Cause, NodeId, Tracing, Tracker};
use crate::profile::{About, Listing};
use crate::stats::Stats;
use crate::{Barriers, Error, Result, Timing};

/// The one way from a command to a recorder: live recording and replay of a graph both issue through it, so that their
/// barriers are equal by construction.
pub(crate) struct Issuer {
    pub(crate) recorder: Box<dyn Recorder>,
    pub(crate) tracker: Tracker,
    pub(crate) stats: Stats,
    /// What was issued, if it is to be examined.
    pub(crate) tracing: Option<Tracing>,
    /// What was issued, if it is timed command by command.
    pub(crate) listing: Option<Listing>,
    /// When recording began, if somebody keeps times.
    pub(crate) begun: Option<Instant>,
    /// Whether the time that barriers take is taken.
    pub(crate) timed: bool,
    barriers: Barriers,
    nodes: u32,
    /// The first command of the present recorder.
    first: u32,
}

impl Issuer {
    pub(crate) fn new(recorder: Box<dyn Recorder>, barriers: Barriers, timing: Timing) -> Issuer {
        Issuer {
            recorder,
            tracker: Tracker::default(),
            stats: Stats::default(),
            tracing: None,
            listing: (timing == Timing::Dispatches).then(Listing::default),
            begun: None,
            timed: false,
            barriers,
            nodes: 0,
            first: 0,
        }
    }

    /// Issues a command, with a barrier before it if it may not join the open group.
    #[inline]
    pub(crate) fn issue<'a>(
        &mut self,
        about: impl Fn() -> About<'a>,
        accesses: &[Access],
        record: impl FnOnce(&mut dyn Recorder),
    ) -> Result<()> {
        match self.barriers {
            Barriers::Serial if self.tracker.is_empty() => {}
            Barriers::Serial => self.close(Cause::Caller),
            Barriers::Auto => {
                if self.tracker.conflict(accesses).is_some() {
                    self.close(Cause::Tracker);
                }
            }
            Barriers::Manual => {
                if let Some(conflict) = self.tracker.conflict(accesses) {
                    return Err(Error::MissingBarrier { label: about().label.into(), conflict });
                }
            }
        }
        // The first of its group has nothing to leave out.
        if !self.tracker.is_empty() {
            self.stats.barriers_elided += 1;
        }
        record(self.recorder.as_mut());
        if let Some(tracing) = &mut self.tracing {
            tracing.command(about().label, accesses);
        }
        if let Some(listing) = &mut self.listing {
            listing.push(&about(), accesses);
        }
        self.tracker.record(NodeId(self.nodes), accesses);
        self.nodes += 1;
        Ok(())
    }

    fn close(&mut self, cause: Cause) {
        self.end_group(cause);
        self.stats.barriers_placed += 1;
    }

    fn end_group(&mut self, cause: Cause) {
        let start = self.timed.then(Instant::now);
        self.recorder.barrier();
        if let Some(start) = start {
            self.stats.barrier_ns += start.elapsed().as_nanos() as u64;
        }
        self.tracker.close_group();
        if let Some(tracing) = &mut self.tracing {
            tracing.barrier(cause);
        }
    }

    /// Whether its recorder has no commands yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.nodes == self.first
    }

    /// Goes on in another recorder, whose commands the queue orders after those of this one, which comes back.
    pub(crate) fn continue_in(&mut self, next: Box<dyn Recorder>) -> Box<dyn Recorder> {
        self.tracker.close_group();
        self.first = self.nodes;
        if let Some(tracing) = &mut self.tracing {
            tracing.barrier(Cause::Queue);
        }
        std::mem::replace(&mut self.recorder, next)
    }

    /// Ends the group by the caller's wish.
    pub(crate) fn barrier(&mut self) {
        if !self.tracker.is_empty() {
            self.end_group(Cause::Caller);
            self.stats.barriers_manual += 1;
        }
    }

    /// Ends the group even if it is empty.
    pub(crate) fn force_barrier(&mut self) {
        self.end_group(Cause::Caller);
        self.stats.barriers_forced += 1;
    }
}
