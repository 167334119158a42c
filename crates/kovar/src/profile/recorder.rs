//! What was recorded and when it ran.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use kovar_hal::{ClockPair, DeviceInfo, TimeSpan};

use super::clocks::Clock;
use super::cost::Cost;
use crate::hazard::{Access, Mode};
use crate::{Device, Kernel, OpKind, Result};

/// A command of a recording whose commands are timed.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Its label: the kernel's name, unless it was given another.
    pub label: Arc<str>,
    /// Its kernel; `None` for a copy or fill.
    pub kernel: Option<Arc<str>>,
    /// What it is.
    pub kind: OpKind,
    /// Its grid in workgroups; `None` for a copy or fill, and where it is read from a buffer.
    pub groups: Option<[u32; 3]>,
    /// What it moves and computes. Bytes are always there: where nobody said, those of its accesses.
    pub cost: Cost,
}

/// A command as it is handed to a recorder.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) label: &'a str,
    pub(crate) kernel: Option<&'a Kernel>,
    pub(crate) kind: OpKind,
    pub(crate) groups: Option<[u32; 3]>,
    pub(crate) cost: Option<&'a Cost>,
}

/// The commands of a recording in the making.
#[derive(Debug, Default)]
pub(crate) struct Listing(Vec<Command>);

impl Listing {
    pub(crate) fn push(&mut self, about: &About<'_>, accesses: &[Access]) {
        let About { label, kernel, kind, groups, cost } = *about;
        let cost = cost.copied().unwrap_or_default();
        let of = |mode| -> u64 {
            let all = accesses.iter().enumerate().filter(|(_, access)| access.mode == mode);
            // A buffer that is bound at two slots is read once.
            let first = all.filter(|(at, access)| !accesses[..*at].contains(access));
            first.map(|(_, access)| access.range.end - access.range.start).sum()
        };
        let cost = Cost {
            read: cost.read.or_else(|| Some(of(Mode::Read) + updated(kernel, accesses))),
            written: cost.written.or_else(|| Some(of(Mode::Write))),
            ..cost
        };
        let kernel: Option<Arc<str>> = kernel.map(|kernel| kernel.name().into());
        let label = match &kernel {
            Some(name) if **name == *label => name.clone(),
            _ => label.into(),
        };
        self.0.push(Command { label, kernel, kind, groups, cost });
    }

    pub(crate) fn finish(self) -> Arc<[Command]> {
        self.0.into()
    }
}

/// Bytes that a kernel reads where it writes.
fn updated(kernel: Option<&Kernel>, accesses: &[Access]) -> u64 {
    let slots = kernel.map_or(&[][..], |kernel| &kernel.reflection().slots);
    let both = slots.iter().zip(accesses).filter(|(slot, _)| slot.access == Mode::Write && slot.updated);
    both.map(|(_, access)| access.range.end - access.range.start).sum()
}

/// A submission that has ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its number: submissions of a device are numbered from 1.
    pub number: u64,
    /// Label of its recording.
    pub label: String,
    /// When the host handed it over.
    pub submitted: Instant,
    /// Start and end on the device's clock; `None` if the device keeps no time, or none was asked for.
    pub time: Option<TimeSpan>,
    /// Its commands; empty unless they were timed.
    pub commands: Arc<[Command]>,
    /// Start and end of each of them.
    pub times: Vec<Option<TimeSpan>>,
    /// Positions of the context before its first row, if whoever took the profile knows: see [`Cost`].
    pub position: Option<u64>,
}

/// What a thread of the host did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostWork {
    /// From the making of an encoder to its commit.
    Record,
    /// Handed commands over.
    Submit,
    /// Waited for the device.
    Wait,
}

/// A stretch of a host thread's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSpan {
    /// What it did.
    pub work: HostWork,
    /// Label of the recording; empty for a wait.
    pub label: String,
    /// The submission that was handed over or waited for.
    pub submission: Option<u64>,
    /// The thread, by the order in which threads were first seen.
    pub thread: usize,
    /// From here.
    pub start: Instant,
    /// To here.
    pub end: Instant,
}

/// What was kept while a [`Profiler`] was attached.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The device.
    pub device: DeviceInfo,
    /// How its clock and the host's go together; `None` if it has no clock.
    pub clock: Option<Clock>,
    /// Submissions that have ended, in their order.
    pub runs: Vec<Run>,
    /// What host threads did for them.
    pub host: Vec<HostSpan>,
}

impl Profile {
    /// Adds what was kept later, of the same device.
    pub fn append(&mut self, later: Profile) {
        self.clock = match (self.clock, later.clock) {
            (Some(first), Some(last)) => Some(first.until(last)),
            (first, last) => first.or(last),
        };
        self.runs.extend(later.runs);
        self.host.extend(later.host);
    }
}

#[derive(Debug, Default)]
struct Kept {
    runs: Vec<Run>,
    host: Vec<HostSpan>,
    threads: Vec<ThreadId>,
}

/// Where ended submissions are noted.
#[derive(Debug, Default)]
pub(crate) struct Collector(Mutex<Kept>);

impl Collector {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, run: Run) {
        self.kept().runs.push(run);
    }

    /// Notes what this thread did until now.
    pub(crate) fn host(&self, work: HostWork, label: &str, submission: Option<u64>, start: Instant) {
        let (id, end) = (std::thread::current().id(), Instant::now());
        let mut kept = self.kept();
        let thread = kept.threads.iter().position(|known| *known == id).unwrap_or_else(|| {
            kept.threads.push(id);
            kept.threads.len() - 1
        });
        kept.host.push(HostSpan { work, label: label.into(), submission, thread, start, end });
    }
}

/// Keeps the times of every submission of a device, from when it is attached until it is dropped. A device has one at a
/// time: the last that was attached.
///
/// Command buffers keep start and end by default. Those of their commands are kept where
/// [`EncoderOptions::timing`](crate::EncoderOptions) or [`ExecutableOptions::timing`](crate::ExecutableOptions) is
/// [`Timing::Dispatches`](crate::Timing), which runs each command by itself.
///
/// ```
/// # use kovar::{Backend, Device, DeviceOptions, DType, EncoderOptions, Timing};
/// use kovar::profile::{Profiler, Report};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let buffer = device.buffer(DType::F32, &[1 << 20])?;
/// let profiler = Profiler::attach(&device)?;
/// for _ in 0..3 {
///     let options = EncoderOptions { label: "clear".into(), timing: Timing::Dispatches, ..EncoderOptions::default() };
///     let mut encoder = device.encoder_with(options)?;
///     encoder.fill(&buffer, 0)?;
///     encoder.commit()?.wait()?;
/// }
/// let report = Report::of(&profiler.take()?);
/// let fill = &report.commands[0];
/// assert_eq!((fill.calls, fill.bytes), (3, Some(3 << 22)));
/// print!("{report}");
/// # Ok::<(), kovar::Error>(())
/// ```
pub struct Profiler {
    device: Device,
    collector: Arc<Collector>,
    first: Option<ClockPair>,
}

impl Profiler {
    /// Begins to keep times.
    ///
    /// # Errors
    /// Device errors.
    pub fn attach(device: &Device) -> Result<Profiler> {
        let first = super::clocks::read(device)?.pair;
        let collector = Arc::<Collector>::default();
        device.0.core.set_collector(Some(collector.clone()));
        Ok(Profiler { device: device.clone(), collector, first })
    }

    /// Gives what was kept since the last call. Submissions that have not ended are in what a later call gives.
    ///
    /// # Errors
    /// Device errors.
    pub fn take(&self) -> Result<Profile> {
        self.device.0.core.reap()?;
        let (runs, host) = {
            let mut kept = self.collector.kept();
            (std::mem::take(&mut kept.runs), std::mem::take(&mut kept.host))
        };
        let last = super::clocks::read(&self.device)?;
        if let Some(number) = last.submission {
            // The look at the clock is none of the work.
            let mut kept = self.collector.kept();
            kept.runs.retain(|run| run.number != number);
            kept.host.retain(|span| span.label != super::clocks::LABEL && span.submission != Some(number));
        }
        let clock = self.first.zip(last.pair).map(|(first, last)| Clock { first, last });
        Ok(Profile { device: self.device.info().clone(), clock, runs, host })
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        self.device.0.core.drop_collector(&self.collector);
    }
}
