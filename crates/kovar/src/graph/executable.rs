use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use kovar_hal::{Binding, CommandBuffer, MemoryKind, OpenOptions, RecorderDesc, Timing};
use smallvec::SmallVec;

use super::{Graph, MemoryPlan};
use crate::claim::Claims;
use crate::device;
use crate::encoder::{Accesses, Issuer, Part, Work, names};
use crate::flight::Used;
use crate::hazard::{Access, ResourceId, Trace, Tracing};
use crate::hold::Held;
use crate::kernel::Tally;
use crate::poison::Effect;
use crate::profile::{Command, Listing};
use crate::stats::Stats;
use crate::{Barriers, Buffer, DType, Device, Kernel, Result, Submission};

/// How a graph is made ready.
#[derive(Debug, Clone)]
pub struct ExecutableOptions {
    /// Times that the commands run in one submission, one pass after the other.
    pub repeat: u32,
    /// Submissions that may be in flight before [`Executable::submit`] waits for the oldest.
    pub in_flight: u32,
    /// Sets of named buffers, the present one among them, whose commands are kept, with the buffers: 2 where two sets take
    /// turns, so that they are recorded once.
    pub kept_bindings: u32,
    /// Whether scratch buffers share memory by lifetime.
    pub share_memory: bool,
    /// What times are kept.
    pub timing: Timing,
}

impl Default for ExecutableOptions {
    fn default() -> ExecutableOptions {
        ExecutableOptions { repeat: 1, in_flight: 2, kept_bindings: 1, share_memory: true, timing: Timing::Whole }
    }
}

/// A command buffer that was recorded once, with the submission that used it last.
struct Copy {
    commands: Arc<dyn CommandBuffer>,
    last: u64,
}

/// The commands with a set of buffers, as far as they were recorded with it.
pub(super) struct Bound {
    /// What goes by the names, in their order.
    pub(super) buffers: Vec<Buffer>,
    /// Where each numbered allocation of the graph lies.
    pub(super) places: Vec<Place>,
    pub(super) claims: Claims,
    copies: SmallVec<[Copy; 2]>,
    next: usize,
}

impl Bound {
    pub(super) fn new(buffers: Vec<Buffer>, places: Vec<Place>, used: Vec<Used>) -> Bound {
        Bound { buffers, places, claims: Claims::new(used.into()), copies: SmallVec::new(), next: 0 }
    }
}

/// A graph with its memory and its commands recorded: submitted again and again with no re-recording.
pub struct Executable {
    pub(super) device: Device,
    pub(super) graph: Graph,
    pub(super) options: ExecutableOptions,
    plan: MemoryPlan,
    /// Bytes that the commands use of each named buffer, as captured.
    pub(super) hulls: Vec<Range<u64>>,
    pub(super) bound: Bound,
    /// Other sets that are kept, the one that was left last at the end.
    pub(super) kept: Vec<Bound>,
    /// The last submissions, as many as may be in flight.
    recent: VecDeque<u64>,
    kernels: Arc<[Kernel]>,
    tally: Tally,
    stats: Stats,
    /// The commands of one submission, if they are timed.
    listed: Option<Arc<[Command]>>,
}

/// An allocation, and where in it the bytes of a numbered one begin: modulo 2^64, for a view may go to an earlier place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Index in `used`, which is also the number for the tracker.
    pub(super) used: u32,
    pub(super) base: u64,
}

impl Executable {
    pub(super) fn new(graph: Graph, options: &ExecutableOptions) -> Result<Executable> {
        let device = graph.device.clone();
        let plan = MemoryPlan::new(&graph, options.share_memory, options.repeat);
        let mut used: Vec<Used> = Vec::new();
        let mut places = vec![Place { used: 0, base: 0 }; graph.used.len()];
        if plan.size > 0 {
            let bytes = usize::try_from(plan.size).unwrap_or(usize::MAX);
            let block = device.buffer_in(MemoryKind::Device, DType::U8, &[bytes], "scratch of a graph")?;
            // Scratch is written before it is read, and nobody else sees it.
            let effect = Effect { writes: 0..plan.size, fresh: 0..plan.size, ..Effect::default() };
            used.push(Used { allocation: Held::counted(&block.allocation), effect });
            for (resource, base) in &plan.places {
                places[resource.0 as usize] = Place { used: 0, base: *base };
            }
        }
        for (place, entry) in places.iter_mut().zip(&graph.used).filter(|(_, entry)| !entry.allocation.transient) {
            *place = Place { used: used.len() as u32, base: 0 };
            used.push(entry.clone());
        }
        let mut tally = Tally::default();
        for node in &graph.nodes {
            if let Work::Dispatch(work) = &node.work {
                tally.add(&work.kernel, u64::from(options.repeat.max(1)));
            }
        }
        let (hulls, buffers) = (graph.hulls(), graph.names().map(|(_, buffer)| buffer.clone()).collect());
        let mut executable = Executable {
            device,
            graph,
            options: options.clone(),
            plan,
            hulls,
            bound: Bound::new(buffers, places, used),
            kept: Vec::new(),
            recent: VecDeque::new(),
            kernels: tally.kernels(),
            tally,
            stats: Stats::default(),
            listed: None,
        };
        for _ in 0..executable.in_flight() {
            let commands = executable.record()?;
            executable.bound.copies.push(Copy { commands, last: 0 });
        }
        Ok(executable)
    }

    fn in_flight(&self) -> usize {
        self.options.in_flight.max(1) as usize
    }

    /// What one submission does: dispatches, transfers and barriers.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Where its scratch lies.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// The commands that it runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Hands the commands to the device, after everything submitted before. With as many submissions in flight as the
    /// options allow, waits for the oldest first.
    ///
    /// # Errors
    /// [`Error::Mapped`](crate::Error::Mapped) if the host holds a view of a buffer that the commands use, device errors.
    pub fn submit(&mut self) -> Result<Submission> {
        if self.recent.len() >= self.in_flight() {
            self.recent.front().map_or(Ok(()), |oldest| self.device.0.core.wait_for(*oldest))?;
            self.recent.pop_front();
        }
        let next = self.bound.next;
        match self.bound.copies.get(next) {
            Some(copy) => self.device.0.core.wait_for(copy.last)?,
            None => {
                let commands = self.record()?;
                self.bound.copies.push(Copy { commands, last: 0 });
            }
        }
        let (copy, claims) = (&mut self.bound.copies[next], &self.bound.claims);
        let (commands, used, kernels) = (copy.commands.clone(), claims.used.clone(), self.kernels.clone());
        let (label, listed) = (&self.graph.label, self.listed.clone());
        let work = device::Work { listed, ..device::Work::new(commands, used, kernels, label) };
        let submission = self.device.submit(work, Some(&claims.stamp))?;
        copy.last = submission.number();
        self.recent.push_back(copy.last);
        self.bound.next = (next + 1) % self.in_flight();
        self.device.0.core.counters.add(&self.stats);
        self.tally.count();
        Ok(submission)
    }

    /// Records a command buffer.
    fn record(&mut self) -> Result<Arc<dyn CommandBuffer>> {
        let desc = RecorderDesc { label: &self.graph.label, timing: self.options.timing, reusable: true };
        let recorder = self.device.0.core.hal.create_recorder(&desc)?;
        let mut issuer = Issuer::new(recorder, Barriers::Auto, self.options.timing);
        self.issue(&mut issuer)?;
        self.stats = issuer.stats;
        self.listed = issuer.listing.map(Listing::finish);
        let commands = issuer.recorder.finish()?;
        self.device.0.core.counters.add(&Stats { command_buffers: 1, ..Stats::default() });
        Ok(commands)
    }

    /// What one submission does, command by command, in terms of the memory that it really uses: to be verified and
    /// explained. It is found out by recording once more, into nothing.
    ///
    /// # Errors
    /// Those of recording.
    pub fn trace(&self) -> Result<Trace> {
        let null = kovar_hal::null::adapter().open(&OpenOptions::default())?;
        let desc = RecorderDesc { label: &self.graph.label, timing: Timing::Off, reusable: false };
        let mut issuer = Issuer::new(null.create_recorder(&desc)?, Barriers::Auto, Timing::Off);
        issuer.tracing = Some(Tracing::default());
        self.issue(&mut issuer)?;
        Ok(issuer.tracing.unwrap_or_default().finish(&self.graph.label, names(&self.bound.claims.used)))
    }

    fn issue(&self, issuer: &mut Issuer) -> Result<()> {
        for _ in 0..self.options.repeat.max(1) {
            for node in &self.graph.nodes {
                let accesses: Accesses = node.accesses.iter().map(|access| self.moved(access)).collect();
                match &node.work {
                    Work::Barrier => issuer.force_barrier(),
                    Work::Dispatch(work) => {
                        issuer.issue(
                            || node.about(),
                            &accesses,
                            |recorder| {
                                // SAFETY: capture checked the arguments; the places lie in live allocations that `used`
                                // keeps; the issuer orders what conflicts, in terms of the real bytes.
                                unsafe { work.record(recorder, &node.label, |part| self.binding(part)) }
                            },
                        )?;
                        issuer.stats.dispatches += 1;
                    }
                    Work::Copy | Work::Fill(_) => {
                        let raw = |resource: ResourceId| self.bound.claims.used[resource.0 as usize].allocation.raw;
                        issuer.issue(
                            || node.about(),
                            &accesses,
                            |recorder| {
                                // SAFETY: as above.
                                unsafe { node.work.transfer(recorder, &accesses, raw) }
                            },
                        )?;
                        issuer.stats.transfers += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// An access in terms of the real allocations.
    fn moved(&self, access: &Access) -> Access {
        let Place { used, base } = self.bound.places[access.resource.0 as usize];
        let range = base.wrapping_add(access.range.start)..base.wrapping_add(access.range.end);
        Access { resource: ResourceId(used), range, ..access.clone() }
    }

    fn binding(&self, part: &Part) -> Binding {
        let Place { used, base } = self.bound.places[part.resource.0 as usize];
        Binding {
            buffer: self.bound.claims.used[used as usize].allocation.raw,
            offset: base.wrapping_add(part.offset),
            len: part.len,
        }
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        for last in &self.recent {
            // A lost device reports an error here, and has nothing running.
            let _ = self.device.0.core.wait_for(*last);
        }
    }
}
