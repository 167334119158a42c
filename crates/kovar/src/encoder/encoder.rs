use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use kovar_hal::{Binding, DispatchCommand, Grid, RecorderDesc, ShaderFormat};
use rustc_hash::FxHashMap;

use super::arguments::{self, Bindings, Context, INDIRECT};
use super::commit::{Parts, Waits};
use super::dispatch::{Dispatch, GridSize};
use super::effects::{narrow, note, note_transfer};
use super::issue::Issuer;
use super::node::{Accesses, Node, Work};
use super::record::DispatchRecord;
use super::ring::Ring;
use crate::flight::Used;
use crate::hazard::{Access, Mode, ResourceId, Tracing, Tracker};
use crate::hold::{Held, Kept};
use crate::kernel::{ConstantsKind, Tally};
use crate::poison::Effect;
use crate::profile::{About, Cost};
use crate::stats::Stats;
use crate::{Buffer, DType, Device, EncoderOptions, Error, Kernel, Misuse, OpKind, Result};

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
    /// Unique among the encoders of a device, until 2^32 of them have been.
    id: u32,
    pub(super) label: String,
    pub(super) sink: Sink,
    /// Allocations met so far, numbered densely for the tracker.
    known: FxHashMap<u64, u32>,
    pub(super) used: Vec<Used>,
    pub(super) tally: Tally,
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
        let mut encoder = CommandEncoder::with_sink(device, options.label, Sink::Live(issuer));
        encoder.parts.timing = options.timing;
        encoder.parts.split = options.split.map(|split| split.first());
        encoder.kept = options.kept;
        Ok(encoder)
    }

    /// An encoder that keeps its commands for a graph.
    pub(crate) fn capturing(device: Device, label: String) -> CommandEncoder {
        CommandEncoder::with_sink(device, label, Sink::Capture(Vec::new()))
    }

    fn with_sink(device: Device, label: String, sink: Sink) -> CommandEncoder {
        let id = device.0.core.next_encoder.fetch_add(1, Relaxed);
        let parts = Parts::new(device.0.core.clone(), id);
        CommandEncoder {
            device,
            id,
            label,
            sink,
            known: FxHashMap::default(),
            used: Vec::new(),
            tally: Tally::default(),
            ring: Ring::default(),
            regions: Vec::new(),
            waits: Waits::default(),
            parts,
            kept: None,
            retains: true,
        }
    }

    pub(crate) fn captured(self) -> Captured {
        let nodes = match self.sink {
            Sink::Capture(nodes) => nodes,
            Sink::Live(_) => Vec::new(),
        };
        Captured { nodes, used: self.used }
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
        let context = self.context();
        arguments::constants(&dispatch)?;
        let mut bindings = Bindings::new();
        arguments::bindings(dispatch.kernel, &dispatch.slots, dispatch.misbound, context, &mut bindings)?;
        let grid = arguments::grid(&dispatch, context)?;
        arguments::group_memory(&dispatch, context.limits)?;
        arguments::touches(dispatch.kernel, &dispatch.slots, dispatch.touches)?;
        let mut accesses = Accesses::new();
        self.accesses(dispatch.kernel, &dispatch.slots, &bindings, &mut accesses);
        narrow(&dispatch.slots, dispatch.touches, &mut accesses);
        if let GridSize::Indirect(buffer) = dispatch.grid {
            let range = buffer.offset..buffer.offset + INDIRECT;
            let resource = self.resource(buffer);
            accesses.push(Access::new(resource, range, Mode::Read));
        }
        let Dispatch { kernel, constants, group_memory, label, kind, cost, opaque, .. } = dispatch;
        let (bindings, accesses) = (&mut bindings, &mut accesses);
        let narrowed = !dispatch.touches.is_empty();
        self.emit(Checked {
            kernel,
            bindings,
            accesses,
            narrowed,
            constants,
            grid,
            memory: group_memory,
            label,
            kind,
            cost,
            opaque,
        })
    }

    /// Records a baked dispatch on these buffers, one for each slot in order.
    ///
    /// # Errors
    /// As [`dispatch`](CommandEncoder::dispatch).
    pub fn dispatch_record(&mut self, record: &DispatchRecord, buffers: &[&Buffer]) -> Result<()> {
        let kernel = &record.kernel;
        self.check_kernel(kernel)?;
        let (slots, misbound) = record.slots(buffers);
        let (mut bindings, mut accesses) = (Bindings::new(), Accesses::new());
        arguments::bindings(kernel, &slots, misbound, self.context(), &mut bindings)?;
        arguments::touches(kernel, &slots, &record.touches)?;
        self.accesses(kernel, &slots, &bindings, &mut accesses);
        narrow(&slots, &record.touches, &mut accesses);
        let (constants, grid) = (record.constants.as_slice(), Grid::Groups(record.groups));
        let (label, kind, cost, opaque) = (record.label.as_ref(), record.kind, Some(&record.cost), record.opaque);
        let (bindings, accesses) = (&mut bindings, &mut accesses);
        let narrowed = !record.touches.is_empty();
        let memory = record.group_memory.as_slice();
        self.emit(Checked { kernel, bindings, accesses, narrowed, constants, grid, memory, label, kind, cost, opaque })
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

    fn context(&self) -> Context<'_> {
        Context { limits: &self.device.info().limits, capturing: self.is_capturing() }
    }

    fn check_kernel(&self, kernel: &Kernel) -> Result<()> {
        if Arc::ptr_eq(&self.device.0.core, &kernel.0.core) {
            return Ok(());
        }
        Err(Error::Dispatch { kernel: kernel.name().into(), misuse: Misuse::ForeignKernel })
    }

    /// Sends a checked dispatch on its way.
    fn emit(&mut self, checked: Checked<'_>) -> Result<()> {
        let Checked { kernel, bindings, accesses, narrowed, mut constants, grid, memory, label, kind, cost, opaque } =
            checked;
        self.split();
        let mut ring = None;
        if let ConstantsKind::Uniform { .. } = kernel.reflection().constants {
            let (binding, block) = self.ring.place(&self.device, constants)?;
            bindings.push(binding);
            // The block is nobody's but the recording's.
            ring = Some(self.number(&block, true));
            // A Rust function reads its constants from the dispatch, however large they are.
            if self.device.info().shader != ShaderFormat::Cpu {
                constants = &[];
            }
        }
        let label = if label.is_empty() { kernel.name() } else { label };
        match &mut self.sink {
            Sink::Live(issuer) => {
                let pipeline = kernel.0.pipeline;
                let command = DispatchCommand { pipeline, bindings, constants, grid, group_memory: memory, label };
                let groups = if let Grid::Groups(groups) = grid { Some(groups) } else { None };
                let about = About { label, kernel: Some(kernel), kind, groups, cost };
                // SAFETY: the bindings were checked against buffers and limits; `used` and `tally` keep everything
                // alive until the submission has ended; the issuer puts a barrier before what conflicts.
                issuer.issue(&about, accesses, |recorder| unsafe { recorder.dispatch(&command) })?;
                issuer.stats.dispatches += 1;
                note(&mut self.used, kernel, accesses, narrowed);
                self.tally.add(kernel, 1);
            }
            Sink::Capture(nodes) => {
                note(&mut self.used, kernel, accesses, narrowed);
                let node = Node::dispatch(kernel, bindings, std::mem::take(accesses), ring, constants, grid, memory);
                let cost = cost.copied().unwrap_or_default();
                nodes.push(Node { label: label.into(), kind, cost, opaque, ..node });
            }
        }
        Ok(())
    }

    fn transfer<const N: usize>(&mut self, label: &str, work: Work, accesses: [Access; N]) -> Result<()> {
        match &mut self.sink {
            Sink::Live(issuer) => {
                let used = &self.used;
                let about = About { label, kernel: None, kind: OpKind::Transfer, groups: None, cost: None };
                issuer.issue(&about, &accesses, |recorder| {
                    // SAFETY: ranges lie in live buffers that `used` keeps, are whole words, and do not overlap.
                    unsafe { work.transfer(recorder, &accesses, |r| used[r.0 as usize].allocation.raw) }
                })?;
                issuer.stats.transfers += 1;
                note_transfer(&mut self.used, &accesses);
            }
            Sink::Capture(nodes) => {
                note_transfer(&mut self.used, &accesses);
                let accesses = accesses.into_iter().collect();
                let (label, kind, cost) = (label.into(), OpKind::Transfer, Cost::default());
                nodes.push(Node { work, accesses, label, kind, cost, opaque: false });
            }
        }
        Ok(())
    }

    /// The number of an allocation, which is kept alive from now on.
    fn resource(&mut self, buffer: &Buffer) -> ResourceId {
        self.number(buffer, self.retains)
    }

    fn number(&mut self, buffer: &Buffer, retain: bool) -> ResourceId {
        let allocation = &buffer.allocation;
        let hint = allocation.hint.load(Relaxed);
        let known = (hint >> 32 == u64::from(self.id)).then_some(hint as u32);
        let id = known.unwrap_or_else(|| {
            let next = self.used.len() as u32;
            let id = *self.known.entry(allocation.id).or_insert(next);
            if id == next {
                let kept = self.kept.as_ref().is_some_and(|kept| kept.has(allocation));
                let held = match retain && !kept {
                    true => Held::counted(allocation),
                    // SAFETY: the set keeps it, and lives as long as this encoder and each flight of its parts; or the
                    // caller of `retain_nothing` has promised.
                    false => unsafe { Held::uncounted(allocation) },
                };
                self.used.push(Used { allocation: held, effect: Effect::default() });
            }
            allocation.hint.store(u64::from(self.id) << 32 | u64::from(id), Relaxed);
            id
        });
        ResourceId(id)
    }

    /// What a kernel does with its slots, in their order.
    fn accesses(&mut self, kernel: &Kernel, slots: &[Option<&Buffer>], bindings: &[Binding], accesses: &mut Accesses) {
        for ((slot, buffer), bound) in kernel.0.reflection.slots.iter().zip(slots.iter().flatten()).zip(bindings) {
            let range = bound.offset..bound.offset + bound.len;
            let resource = self.resource(buffer);
            accesses.push(Access::new(resource, range, slot.access));
        }
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

/// A dispatch whose arguments fit. The lists are borrowed: they are too large to be moved from call to call.
struct Checked<'a> {
    kernel: &'a Kernel,
    bindings: &'a mut Bindings,
    accesses: &'a mut Accesses,
    narrowed: bool,
    constants: &'a [u8],
    grid: Grid,
    /// Threadgroup memory that is not the kernel's own.
    memory: &'a [u32],
    label: &'a str,
    kind: OpKind,
    cost: Option<&'a Cost>,
    opaque: bool,
}

/// Identity and name of each allocation, by its number.
pub(crate) fn names(used: &[Used]) -> Vec<(u64, String)> {
    used.iter().map(|used| (used.allocation.id, used.allocation.label.to_string())).collect()
}

pub(super) fn transfer(message: String) -> Error {
    Error::Dispatch { kernel: "transfer".into(), misuse: Misuse::Transfer(message) }
}
