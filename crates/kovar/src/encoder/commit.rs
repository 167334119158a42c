//! How a recording gets to the device, and what it waits for there.

use std::sync::Arc;

use smallvec::SmallVec;

use super::encoder::{CommandEncoder, Sink, names, transfer};
use super::submission::Submission;
use crate::device::{Awaits, Work};
use crate::event::Point;
use crate::profile::Listing;
use crate::stats::Stats;
use crate::{Event, Result};

/// What the device waits for before it runs a recording.
#[derive(Default)]
pub(super) struct Waits {
    points: SmallVec<[Point; 2]>,
    /// The host's handles, until the wait is the device's.
    events: SmallVec<[Event; 2]>,
}

impl CommandEncoder {
    /// Has the device wait until the host has raised an event to a value, before any command of this recording runs.
    /// Work committed later waits too: submissions run in their order.
    ///
    /// # Errors
    /// [`Error::Event`](crate::Error::Event) for a value out of reach; [`Error::Dispatch`](crate::Error::Dispatch) for an
    /// event of another device and in a capture.
    pub fn wait_for(&mut self, event: &Event, value: u64) -> Result<()> {
        if self.is_capturing() {
            return Err(transfer("a capture cannot wait for an event".into()));
        }
        let point = event.promise(value)?;
        if !point.timeline.belongs_to(&self.device.0.core) {
            return Err(transfer("the event belongs to another device".into()));
        }
        self.waits.points.push(point);
        self.waits.events.push(event.clone());
        Ok(())
    }

    /// Hands the recording to the device. It runs after everything committed before it.
    ///
    /// # Errors
    /// [`Error::Mapped`](crate::Error::Mapped) if the host holds a view of a buffer that the recording uses, device errors.
    pub fn commit(self) -> Result<Submission> {
        self.commit_after(None)
    }

    /// As [`commit`](CommandEncoder::commit); the device waits for a submission first.
    pub(super) fn commit_after(self, after: Option<u64>) -> Result<Submission> {
        let CommandEncoder { device, label, sink, used, tally, waits, .. } = self;
        let Sink::Live(issuer) = sink else {
            return Err(transfer("a capture is not committed; compile its graph".into()));
        };
        let trace = issuer.tracing.map(|tracing| Arc::new(tracing.finish(&label, names(&used))));
        let commands = issuer.recorder.finish()?;
        let stats = Stats { command_buffers: 1, ..issuer.stats };
        let (used, kernels) = (used.into(), tally.kernels());
        let Waits { points, events } = waits;
        let listed = issuer.listing.map(Listing::finish);
        let awaits = Awaits { points, submission: after };
        let work = Work { commands, used, kernels, listed, watch: None, label: &label, awaits };
        let mut submission = device.submit(work, None)?;
        drop(events);
        submission.trace = trace;
        device.0.core.counters.add(&stats);
        tally.count();
        Ok(submission)
    }
}
