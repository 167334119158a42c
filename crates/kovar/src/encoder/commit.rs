//! How a recording gets to the device, in one piece or in parts, and what it waits for there.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kovar_hal::{CommandBuffer, RecorderDesc};
use smallvec::SmallVec;

use super::encoder::{CommandEncoder, Sink, names, transfer};
use super::ring::Ring;
use super::submission::Submission;
use crate::device::{Awaits, Core, Part, Work};
use crate::event::Point;
use crate::flight::End;
use crate::profile::{Command, HostWork, Listing};
use crate::stats::Stats;
use crate::{Error, Event, Result, Timing};

/// What the device waits for before it runs a recording.
#[derive(Default)]
pub(super) struct Waits {
    points: SmallVec<[Point; 2]>,
    /// The host's handles, until the wait is the device's.
    events: SmallVec<[Event; 2]>,
    /// A submission.
    pub(super) submission: Option<u64>,
}

/// The parts of a recording that were handed over.
pub(super) struct Parts {
    core: Arc<Core>,
    recording: u64,
    pub(super) timing: Timing,
    /// Dispatches after which the first part is handed over by itself.
    pub(super) split: Option<u64>,
    /// The submission that the first one waits for.
    after: Option<u64>,
    /// End of the last one.
    last: Option<Arc<OnceLock<End>>>,
    /// Counted already.
    counted: Stats,
    /// A part could not be handed over: what follows has lost its beginning.
    failed: Option<Error>,
}

impl Parts {
    pub(super) fn new(core: Arc<Core>, recording: u64) -> Parts {
        let timing = Timing::default();
        Parts { core, recording, timing, split: None, after: None, last: None, counted: Stats::default(), failed: None }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.last.is_some() {
            self.core.abandon(self.recording);
        }
    }
}

impl CommandEncoder {
    /// Has the device wait until the host has raised an event to a value, before any command of this recording runs.
    /// Work committed later waits too: submissions run in their order.
    ///
    /// # Errors
    /// [`Error::Event`] for a value out of reach; [`Error::Dispatch`] for an event of another device, in a capture, and
    /// after a [`flush`](CommandEncoder::flush).
    pub fn wait_for(&mut self, event: &Event, value: u64) -> Result<()> {
        if self.is_capturing() {
            return Err(transfer("a capture cannot wait for an event".into()));
        }
        if self.parts.last.is_some() {
            return Err(transfer("a part of the recording was handed over, and waits for nothing more".into()));
        }
        let point = event.promise(value)?;
        if !point.timeline.belongs_to(&self.device.0.core) {
            return Err(transfer("the event belongs to another device".into()));
        }
        self.waits.points.push(point);
        self.waits.events.push(event.clone());
        Ok(())
    }

    /// Has the recording keep no buffer alive that is bound from now on: the raw form of [`Kept`](crate::Kept). A capture
    /// keeps its buffers all the same.
    ///
    /// # Safety
    /// Each buffer that is bound or copied from now on lives until a wait for the submission has returned, or until the
    /// device is gone; where the encoder is not committed, until it is dropped.
    pub unsafe fn retain_nothing(&mut self) {
        self.retains = self.is_capturing();
    }

    /// Hands over what was recorded so far, so that the device starts with it; the rest follows in a command buffer of its
    /// own. The submission that [`commit`](CommandEncoder::commit) gives is that of all parts: it fails when one of them
    /// does, and then poisons what all of them wrote.
    ///
    /// Until the rest is committed, nobody else may come in between: work and host accesses that conflict with what was
    /// handed over are refused with [`Error::Unfinished`]. Of each buffer they conflict if the bytes from the first to the last
    /// that each touches meet, the host by the whole buffer. An encoder that is dropped after this leaves what its parts
    /// wrote poisoned.
    ///
    /// # Errors
    /// As [`commit`](CommandEncoder::commit). Where the device refused, the encoder can only be dropped: its `commit` fails
    /// with the same error.
    pub fn flush(&mut self) -> Result<()> {
        let Sink::Live(issuer) = &mut self.sink else {
            return Err(transfer("a capture hands nothing over".into()));
        };
        if issuer.is_fresh() {
            return Ok(());
        }
        self.device.check(&self.lists.used, self.parts.recording, &self.label)?;
        let desc = RecorderDesc { label: &self.label, timing: self.parts.timing, reusable: false };
        let next = self.device.0.core.hal.create_recorder(&desc)?;
        let mut recorder = issuer.continue_in(next);
        for region in &self.regions {
            recorder.pop_label();
            issuer.recorder.push_label(region);
        }
        let listed = issuer.listing.as_mut().map(|listing| std::mem::take(listing).finish());
        // Its last block belongs to the device now: the host would wait for it.
        self.ring = Ring::default();
        let (stats, commands) = (issuer.stats, recorder.finish());
        let begun = issuer.begun.take();
        issuer.begun = begun.map(|_| Instant::now());
        self.note_recording(begun);
        let handed = commands.map_err(Error::from).and_then(|commands| self.hand_over(commands, listed, stats, true));
        handed.map(drop).inspect_err(|error| self.parts.failed = Some(error.clone()))
    }

    /// Hands the first part over if it is time.
    pub(super) fn split(&mut self) {
        let Sink::Live(issuer) = &self.sink else { return };
        let dispatches = issuer.stats.dispatches;
        if self.parts.split.take_if(|split| *split == dispatches).is_some() {
            // An early start that is refused is none; where the device failed, `commit` says so.
            let _ = self.flush();
        }
    }

    /// Hands the recording to the device. It runs after everything committed before it.
    ///
    /// # Errors
    /// [`Error::Mapped`] if the host holds a view of a buffer that the recording uses, [`Error::Unfinished`] if it conflicts
    /// with a recording that was handed over in part, device errors.
    pub fn commit(mut self) -> Result<Submission> {
        if let Some(error) = self.parts.failed.take() {
            return Err(error);
        }
        let sink = std::mem::replace(&mut self.sink, Sink::Capture(Vec::new()));
        let Sink::Live(mut issuer) = sink else {
            return Err(transfer("a capture is not committed; compile its graph".into()));
        };
        let trace = issuer.tracing.take().map(|tracing| Arc::new(tracing.finish(&self.label, names(&self.lists.used))));
        let listed = issuer.listing.take().map(Listing::finish);
        self.lists.tracker = issuer.tracker;
        let commands = issuer.recorder.finish()?;
        self.note_recording(issuer.begun);
        let mut submission = self.hand_over(commands, listed, issuer.stats, false)?;
        submission.trace = trace;
        Ok(submission)
    }

    /// Notes how long a part was recorded, if somebody keeps times.
    fn note_recording(&self, begun: Option<Instant>) {
        if let (Some(begun), Some(collector)) = (begun, self.device.0.core.collector()) {
            collector.host(HostWork::Record, &self.label, None, begun);
        }
    }

    /// Hands over a part; with the last one goes all that keeps the resources alive.
    fn hand_over(
        &mut self,
        commands: Arc<dyn CommandBuffer>,
        listed: Option<Arc<[Command]>>,
        stats: Stats,
        more: bool,
    ) -> Result<Submission> {
        let parts = &mut self.parts;
        let is_part = more || parts.last.is_some();
        let part = is_part.then(|| Part { recording: parts.recording, more, before: parts.last.clone() });
        let used = if more { self.lists.used.as_slice().into() } else { self.lists.used.drain(..).collect() };
        let Waits { points, events, submission } = std::mem::take(&mut self.waits);
        let awaits = Awaits { points, submission };
        let work = Work::new(commands, used, self.lists.tally.kernels(), &self.label);
        let kept = self.kept.clone();
        parts.after = parts.after.or(submission);
        let mut submission = self.device.submit(Work { listed, kept, awaits, part, ..work }, None)?;
        submission.after = parts.after;
        // From now on the wait is the device's.
        drop(events);
        parts.last = more.then(|| submission.end().clone());
        let fresh = Stats { command_buffers: 1, ..stats - parts.counted };
        self.device.0.core.counters.add(&fresh);
        parts.counted = stats;
        self.lists.tally.count_part();
        Ok(submission)
    }
}
