use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kovar_hal::{CommandBuffer, RawEvent, SubmitDesc};
use smallvec::SmallVec;

use super::Device;
use super::core::Core;
use super::parts::Part;
use crate::claim::Stamp;
use crate::event::Point;
use crate::flight::{End, Flight, Used, Watch};
use crate::hold::Kept;
use crate::kernel::Kernel;
use crate::profile::{Command, HostWork};
use crate::{Error, Result, Submission};

/// Finished commands, with all that they use.
pub(crate) struct Work<'a> {
    pub(crate) commands: Arc<dyn CommandBuffer>,
    pub(crate) used: Arc<[Used]>,
    pub(crate) kernels: Arc<[Kernel]>,
    /// The commands, if they are timed.
    pub(crate) listed: Option<Arc<[Command]>>,
    pub(crate) watch: Option<Watch>,
    pub(crate) label: &'a str,
    /// Holds what is used without a count.
    pub(crate) kept: Option<Kept>,
    pub(crate) awaits: Awaits,
    /// If it is not the whole of a recording.
    pub(crate) part: Option<Part>,
}

impl<'a> Work<'a> {
    /// Work that is whole and waits for nothing.
    pub(crate) fn new(
        commands: Arc<dyn CommandBuffer>,
        used: Arc<[Used]>,
        kernels: Arc<[Kernel]>,
        label: &'a str,
    ) -> Work<'a> {
        let (listed, watch, kept, awaits, part) = (None, None, None, Awaits::default(), None);
        Work { commands, used, kernels, listed, watch, label, kept, awaits, part }
    }
}

/// What the device waits for before it runs work.
#[derive(Default)]
pub(crate) struct Awaits {
    pub(crate) points: SmallVec<[Point; 2]>,
    /// A submission that must have ended.
    pub(crate) submission: Option<u64>,
}

impl Device {
    /// Hands work over. With the stamp of an executable, which knows of the host's views, what it uses is not walked.
    pub(crate) fn submit(&self, mut work: Work<'_>, stamp: Option<&Stamp>) -> Result<Submission> {
        let core = &self.0.core;
        core.reap()?;
        let mut submitted = core.turn();
        if stamp.is_none_or(Stamp::is_blocked) {
            check_views(&work.used)?;
        }
        core.parts.check(&work.used, work.part.as_ref().map(|part| part.recording), work.label)?;
        let label: String = work.label.into();
        let watch = core.collector().map(|collector| (collector, Instant::now()));
        work.watch = watch.clone().map(|(collector, submitted)| Watch { collector, submitted });
        let (value, end) = core.launch(&mut submitted, work, stamp)?;
        drop(submitted);
        if let Some((collector, start)) = watch {
            collector.host(HostWork::Submit, &label, Some(value), start);
        }
        core.counters.submissions.fetch_add(1, Ordering::Relaxed);
        Ok(Submission::new(self.clone(), end, value, label))
    }

    /// Whether work that uses this would be refused now.
    pub(crate) fn check(&self, used: &[Used], recording: u64, label: &str) -> Result<()> {
        let _turn = self.0.core.turn();
        check_views(used)?;
        self.0.core.parts.check(used, Some(recording), label)
    }

    /// Waits until everything submitted so far has ended.
    ///
    /// # Errors
    /// Device errors.
    pub fn wait_idle(&self) -> Result<()> {
        let last = *self.0.core.turn();
        self.0.core.wait_for(last)?;
        self.0.core.reap()
    }
}

impl Core {
    /// Hands work to the device, whatever views the host has. `submitted` is the number of the last submission, whose lock
    /// the caller holds; the new one comes back.
    pub(super) fn launch(
        &self,
        submitted: &mut u64,
        work: Work<'_>,
        stamp: Option<&Stamp>,
    ) -> Result<(u64, Arc<OnceLock<End>>)> {
        let Work { commands, used, kernels, listed, watch, label, kept, awaits, part } = work;
        self.residency.flush(self.hal.as_ref(), &self.counters)?;
        let value = *submitted + 1;
        let points = awaits.points.iter().map(|point| (point.timeline.raw, point.value));
        let waits: SmallVec<[(RawEvent, u64); 2]> =
            points.chain(awaits.submission.map(|number| (self.timeline, number))).collect();
        let desc = SubmitDesc {
            label,
            commands: std::slice::from_ref(&commands),
            waits: &waits,
            signals: &[(self.timeline, value)],
        };
        // SAFETY: the commands are fresh or have ended, and what they use, events included, is kept by the flight below
        // until the signal.
        unsafe { self.hal.submit(&desc) }?;
        *submitted = value;
        match stamp {
            Some(stamp) => stamp.set(value),
            None => used.iter().for_each(|used| used.allocation.stamp(value, used.is_written())),
        }
        let end = Arc::new(OnceLock::new());
        let ended = end.clone();
        if let Some(part) = &part {
            self.parts.note(part, label, &used);
        }
        let (_kernels, _kept, _events) =
            (kernels, kept, awaits.points.into_iter().map(|point| point.timeline).collect());
        let (label, condemned) = (label.into(), false);
        self.launched(Flight {
            value,
            label,
            commands,
            used,
            _kernels,
            _kept,
            _events,
            listed,
            watch,
            part,
            condemned,
            end: ended,
        });
        Ok((value, end))
    }
}

/// Refuses memory that the host looks at. The lock that orders submissions is held.
fn check_views(used: &[Used]) -> Result<()> {
    for used in used {
        let views = used.allocation.views.load(Ordering::Relaxed);
        if views < 0 || (used.is_written() && views > 0) {
            return Err(Error::Mapped { label: used.allocation.label.as_ref().into() });
        }
    }
    Ok(())
}
