use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use kovar_hal::{Limits, RecorderDesc};

use super::arguments::{self, Context};
use super::command::{Baked, Given};
use super::commit::{Parts, Waits};
use super::dispatch::Dispatch;
use super::effects::note_transfer;
use super::issue::Issuer;
use super::lists::Lists;
use super::node::{Node, Work};
use super::record::DispatchRecord;
use super::ring::Ring;
use crate::flight::Used;
use crate::hazard::{Access, Mode, Tracing, Tracker};
use crate::hold::Kept;
use crate::profile::{About, Cost};
use crate::stats::Stats;
use crate::{Buffer, DType, Device, EncoderOptions, Error, Kernel, Misuse, OpKind, Result};

/// Bits that count encoders alive; the others number all there have been.
pub(super) const LIVING: u32 = 24;

/// Where commands go: to the device's recorder, or into the list of a graph.
#[allow(clippy::large_enum_variant, reason = "there is one for each encoder, and the recording path is the large one")]
pub(super) enum Sink {
    Live(Issuer),
    Capture(Vec<Node>),
}

/// Records a forward pass: one command buffer, one concurrent pass, barriers where they are needed and nowhere else.
///
/// An encoder may move between threads, and many may record at once. Dropping one runs nothing of it, but what was handed
/// over in part: see [`flush`](CommandEncoder::flush).
pub struct CommandEncoder {
    pub(super) device: Device,
    /// Unique among the encoders of a device, until 2^40 of them have been.
    pub(super) id: u64,
    /// No other encoder lived when this one was made.
    pub(super) alone: bool,
    pub(super) limits: Limits,
    pub(super) label: String,
    pub(super) sink: Sink,
    pub(super) lists: Lists,
    pub(super) ring: Ring,
    /// Regions that are open in the recorder.
    pub(super) regions: Vec<Box<str>>,
    pub(super) waits: Waits,
    pub(super) parts: Parts,
    /// Dropped after the parts, which may use what it keeps.
    pub(super) kept: Option<Kept>,
    pub(super) retains: bool,
}

/// What a graph takes over from the encoder that captured it.
pub(crate) struct Captured {
    pub(crate) nodes: Vec<Node>,
    pub(crate) used: Vec<Used>,
}

impl CommandEncoder {
    pub(crate) fn new(device: Device, options: EncoderOptions) -> Result<CommandEncoder> {
        let desc = RecorderDesc { label: &options.label, timing: options.timing, reusable: false };
        let recorder = device.0.core.hal.create_recorder(&desc)?;
        let mut issuer = Issuer::new(recorder, options.barriers, options.timing);
        issuer.tracing = options.trace.then(Tracing::default);
        issuer.timed = options.time_barriers;
        issuer.begun = device.0.core.collector().map(|_| Instant::now());
        let mut lists = device.0.core.shelf.take();
        issuer.tracker = std::mem::take(&mut lists.tracker);
        let mut encoder = CommandEncoder::with(device, options.label, Sink::Live(issuer), lists);
        encoder.parts.timing = options.timing;
        encoder.parts.split = options.split.map(|split| split.first());
        encoder.kept = options.kept;
        Ok(encoder)
    }

    /// An encoder that keeps its commands for a graph.
    pub(crate) fn capturing(device: Device, label: String) -> CommandEncoder {
        let lists = device.0.core.shelf.take();
        CommandEncoder::with(device, label, Sink::Capture(Vec::new()), lists)
    }

    fn with(device: Device, label: String, sink: Sink, lists: Lists) -> CommandEncoder {
        let encoders = device.0.core.encoders.fetch_add(1 << LIVING | 1, Acquire);
        let (id, alone) = (encoders >> LIVING, encoders.trailing_zeros() >= LIVING);
        let parts = Parts::new(device.0.core.clone(), id);
        CommandEncoder {
            limits: device.info().limits,
            device,
            id,
            alone,
            label,
            sink,
            lists,
            ring: Ring::default(),
            regions: Vec::new(),
            waits: Waits::default(),
            parts,
            kept: None,
            retains: true,
        }
    }

    pub(crate) fn captured(mut self) -> Captured {
        let nodes = match &mut self.sink {
            Sink::Capture(nodes) => std::mem::take(nodes),
            Sink::Live(_) => Vec::new(),
        };
        Captured { nodes, used: std::mem::take(&mut self.lists.used) }
    }

    /// The device it records for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether commands are kept for a graph instead of being recorded.
    pub fn is_capturing(&self) -> bool {
        matches!(self.sink, Sink::Capture(_))
    }

    /// The hazard tracker: what the open group has touched. A capture has no groups yet.
    pub fn hazards(&self) -> Option<&Tracker> {
        match &self.sink {
            Sink::Live(issuer) => Some(&issuer.tracker),
            Sink::Capture(_) => None,
        }
    }

    /// What was recorded so far.
    pub fn stats(&self) -> Stats {
        match &self.sink {
            Sink::Live(issuer) => issuer.stats,
            Sink::Capture(_) => Stats::default(),
        }
    }

    /// A buffer for intermediate results of this recording; its bytes are unspecified until written. A live recording
    /// takes it from the device's pool, a capture leaves its place in memory to the graph's plan.
    ///
    /// # Errors
    /// As [`Device::scratch`].
    pub fn scratch(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        match self.sink {
            Sink::Live(_) => self.device.scratch(dtype, shape),
            Sink::Capture(_) => self.device.transient(dtype, shape),
        }
    }

    /// Records a kernel.
    ///
    /// # Errors
    /// [`Error::Dispatch`], naming kernel and slot, if the arguments do not fit; [`Error::MissingBarrier`] in manual
    /// mode. Nothing is recorded then and the encoder stays usable.
    pub fn dispatch(&mut self, dispatch: Dispatch<'_>) -> Result<()> {
        self.check_kernel(dispatch.kernel)?;
        arguments::constants(&dispatch)?;
        let grid = arguments::grid(&dispatch, self.context())?;
        arguments::group_memory(&dispatch, &self.limits)?;
        self.send(&Given { dispatch: &dispatch, grid })
    }

    /// Records a baked dispatch on these buffers, one for each slot in order.
    ///
    /// # Errors
    /// As [`dispatch`](CommandEncoder::dispatch).
    pub fn dispatch_record(&mut self, record: &DispatchRecord, buffers: &[&Buffer]) -> Result<()> {
        self.check_kernel(&record.kernel)?;
        self.send(&Baked { record, buffers })
    }

    /// Records a copy between buffers of one element type and length, at word boundaries.
    ///
    /// # Errors
    /// [`Error::Dispatch`] with what does not fit.
    pub fn copy(&mut self, from: &Buffer, to: &Buffer) -> Result<()> {
        if from.dtype() != to.dtype() || from.len() != to.len() {
            let part = |b: &Buffer| format!("{} {} elements of {:?}", b.len(), b.dtype(), b.label());
            return Err(transfer(format!("{} to {}", part(from), part(to))));
        }
        let source = self.transfer_access(from, Mode::Read)?;
        let target = self.transfer_access(to, Mode::Write)?;
        let meet = source.range.start < target.range.end && target.range.start < source.range.end;
        if source.resource == target.resource && meet {
            return Err(transfer(format!("source and destination overlap in {:?}", to.label())));
        }
        self.transfer("copy", Work::Copy, [source, target])
    }

    /// Records a fill with a repeated word, at word boundaries.
    ///
    /// # Errors
    /// [`Error::Dispatch`] with what does not fit.
    pub fn fill(&mut self, buffer: &Buffer, word: u32) -> Result<()> {
        let target = self.transfer_access(buffer, Mode::Write)?;
        self.transfer("fill", Work::Fill(word), [target])
    }

    /// Ends the group by the caller's wish. A capture has no groups; its barriers are computed when it is compiled.
    pub fn barrier(&mut self) {
        if let Sink::Live(issuer) = &mut self.sink {
            issuer.barrier();
        }
    }

    /// A barrier for what the tracker cannot see, even if the group is empty. In a capture nothing is moved across it.
    pub fn force_barrier(&mut self) {
        match &mut self.sink {
            Sink::Live(issuer) => issuer.force_barrier(),
            Sink::Capture(nodes) => nodes.push(Node::barrier()),
        }
    }

    /// Opens a named region, shown in vendor tools.
    pub fn push_label(&mut self, label: &str) {
        if let Sink::Live(issuer) = &mut self.sink {
            issuer.recorder.push_label(label);
            self.regions.push(label.into());
        }
    }

    /// Closes it.
    pub fn pop_label(&mut self) {
        if let Sink::Live(issuer) = &mut self.sink
            && self.regions.pop().is_some()
        {
            issuer.recorder.pop_label();
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context { limits: &self.limits, capturing: self.is_capturing() }
    }

    fn check_kernel(&self, kernel: &Kernel) -> Result<()> {
        if Arc::ptr_eq(&self.device.0.core, &kernel.0.core) {
            return Ok(());
        }
        Err(Error::Dispatch { kernel: kernel.name().into(), misuse: Misuse::ForeignKernel })
    }

    fn transfer<const N: usize>(&mut self, label: &str, work: Work, accesses: [Access; N]) -> Result<()> {
        match &mut self.sink {
            Sink::Live(issuer) => {
                let used = &self.lists.used;
                let about = || About { label, kernel: None, kind: OpKind::Transfer, groups: None, cost: None };
                issuer.issue(about, &accesses, |recorder| {
                    // SAFETY: ranges lie in live buffers that `used` keeps, are whole words, and do not overlap.
                    unsafe { work.transfer(recorder, &accesses, |r| used[r.0 as usize].allocation.raw) }
                })?;
                issuer.stats.transfers += 1;
                note_transfer(&mut self.lists.used, &accesses);
            }
            Sink::Capture(nodes) => {
                note_transfer(&mut self.lists.used, &accesses);
                let accesses = accesses.into_iter().collect();
                let (label, kind, cost) = (label.into(), OpKind::Transfer, Cost::default());
                nodes.push(Node { work, accesses, label, kind, cost, opaque: false });
            }
        }
        Ok(())
    }

    fn transfer_access(&mut self, buffer: &Buffer, mode: Mode) -> Result<Access> {
        let (offset, len) = (buffer.offset, buffer.byte_len());
        if !Arc::ptr_eq(&buffer.allocation.core, &self.device.0.core) {
            return Err(transfer(format!("{:?} belongs to another device", buffer.label())));
        }
        if buffer.allocation.transient && !self.is_capturing() {
            return Err(Error::Transient { label: buffer.label().into() });
        }
        if !self.is_capturing() && buffer.is_mapped_against(mode == Mode::Write) {
            return Err(transfer(format!("{:?} is mapped by the host; drop the view first", buffer.label())));
        }
        if !offset.is_multiple_of(4) || !len.is_multiple_of(4) {
            return Err(transfer(format!("{len} bytes at offset {offset} of {:?}: not whole words", buffer.label())));
        }
        if mode == Mode::Write && buffer.allocation.read_only {
            return Err(transfer(format!("{:?} is imported memory, which is read-only", buffer.label())));
        }
        let range = offset..offset + len;
        let resource = self.resource(buffer);
        Ok(Access::new(resource, range, mode))
    }
}

impl Drop for CommandEncoder {
    fn drop(&mut self) {
        let mut lists = std::mem::take(&mut self.lists);
        if let Sink::Live(issuer) = &mut self.sink {
            lists.tracker = std::mem::take(&mut issuer.tracker);
        }
        let core = &self.device.0.core;
        core.shelf.give(lists);
        core.encoders.fetch_sub(1, Release);
    }
}

/// Identity and name of each allocation, by its number.
pub(crate) fn names(used: &[Used]) -> Vec<(u64, String)> {
    used.iter().map(|used| (used.allocation.id, used.allocation.label.to_string())).collect()
}

pub(super) fn transfer(message: String) -> Error {
    Error::Dispatch { kernel: "transfer".into(), misuse: Misuse::Transfer(message) }
}
