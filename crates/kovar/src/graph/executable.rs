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
use crate::{Barriers, Buffer, DType, Device, Error, Kernel, Result, Submission};

/// How a graph is made ready.
#[derive(Debug, Clone)]
pub struct ExecutableOptions {
    /// Times that the commands run in one submission, one pass after the other.
    pub repeat: u32,
    /// Submissions that may be in flight before [`Executable::submit`] waits for the oldest.
    pub in_flight: u32,
    /// Whether scratch buffers share memory by lifetime.
    pub share_memory: bool,
    /// What times are kept.
    pub timing: Timing,
}

impl Default for ExecutableOptions {
    fn default() -> ExecutableOptions {
        ExecutableOptions { repeat: 1, in_flight: 2, share_memory: true, timing: Timing::Whole }
    }
}

/// A command buffer that was recorded once, with the submission that used it last.
struct Copy {
    commands: Arc<dyn CommandBuffer>,
    last: u64,
}

/// A graph with its memory and its commands recorded: submitted again and again with no re-recording.
pub struct Executable {
    device: Device,
    graph: Graph,
    options: ExecutableOptions,
    plan: MemoryPlan,
    /// Where each numbered allocation of the graph lies.
    places: Vec<Place>,
    claims: Claims,
    kernels: Arc<[Kernel]>,
    tally: Tally,
    copies: SmallVec<[Copy; 2]>,
    next: usize,
    stats: Stats,
    /// The commands of one submission, if they are timed.
    listed: Option<Arc<[Command]>>,
}

/// An allocation, and where in it the bytes of a numbered one begin.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Index in `used`, which is also the number for the tracker.
    used: u32,
    base: u64,
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
        let mut executable = Executable {
            device,
            graph,
            options: options.clone(),
            plan,
            places,
            claims: Claims::new(used.into()),
            kernels: tally.kernels(),
            tally,
            copies: SmallVec::new(),
            next: 0,
            stats: Stats::default(),
            listed: None,
        };
        executable.record()?;
        Ok(executable)
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
    /// [`Error::Mapped`] if the host holds a view of a buffer that the commands use, device errors.
    pub fn submit(&mut self) -> Result<Submission> {
        let copy = &mut self.copies[self.next];
        self.device.0.core.wait_for(copy.last)?;
        let (commands, used, kernels) = (copy.commands.clone(), self.claims.used.clone(), self.kernels.clone());
        let (label, listed) = (&self.graph.label, self.listed.clone());
        let work = device::Work { listed, ..device::Work::new(commands, used, kernels, label) };
        let submission = self.device.submit(work, Some(&self.claims.stamp))?;
        copy.last = submission.number();
        self.next = (self.next + 1) % self.copies.len();
        self.device.0.core.counters.add(&self.stats);
        self.tally.count();
        Ok(submission)
    }

    /// Puts another buffer in the place of one that the graph uses, of the same length.
    ///
    /// # Errors
    /// [`Error::Graph`] if the graph does not use the first, or the second does not fit; device errors.
    pub fn rebind(&mut self, from: &Buffer, to: &Buffer) -> Result<()> {
        let wrong = |message: String| Error::Graph { label: self.graph.label.clone(), message };
        let number = self.graph.used.iter().position(|used| Arc::ptr_eq(&used.allocation, &from.allocation));
        let number = number.ok_or_else(|| wrong(format!("does not use {:?}", from.label())))?;
        let entry = &self.graph.used[number];
        let fits = to.allocation.raw.len >= entry.allocation.raw.len && to.offset == 0 && from.offset == 0;
        if !fits || to.allocation.transient || (entry.is_written() && to.allocation.read_only) {
            return Err(wrong(format!("{:?} cannot take the place of {:?}", to.label(), from.label())));
        }
        if !Arc::ptr_eq(&to.allocation.core, &self.device.0.core) {
            return Err(wrong(format!("{:?} belongs to another device", to.label())));
        }
        if self.claims.used.iter().any(|used| Arc::ptr_eq(&used.allocation, &to.allocation)) {
            return Err(wrong(format!("uses {:?} already, in another place", to.label())));
        }
        let entry = Used { allocation: Held::counted(&to.allocation), effect: entry.effect.clone() };
        let mut used: Vec<Used> = self.claims.used.iter().cloned().collect();
        used[self.places[number].used as usize] = entry.clone();
        let before = std::mem::replace(&mut self.claims, Claims::new(used.into()));
        if let Err(error) = self.record() {
            self.claims = before;
            return Err(error);
        }
        self.graph.used[number] = entry;
        Ok(())
    }

    /// Records the command buffers anew.
    fn record(&mut self) -> Result<()> {
        for copy in &self.copies {
            self.device.0.core.wait_for(copy.last)?;
        }
        let copies: Result<_> =
            (0..self.options.in_flight.max(1)).map(|_| Ok(Copy { commands: self.record_copy()?, last: 0 })).collect();
        self.copies = copies?;
        self.next = 0;
        Ok(())
    }

    fn record_copy(&mut self) -> Result<Arc<dyn CommandBuffer>> {
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
        Ok(issuer.tracing.unwrap_or_default().finish(&self.graph.label, names(&self.claims.used)))
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
                        let raw = |resource: ResourceId| self.claims.used[resource.0 as usize].allocation.raw;
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
        let Place { used, base } = self.places[access.resource.0 as usize];
        let range = base + access.range.start..base + access.range.end;
        Access { resource: ResourceId(used), range, ..access.clone() }
    }

    fn binding(&self, part: &Part) -> Binding {
        let Place { used, base } = self.places[part.resource.0 as usize];
        Binding { buffer: self.claims.used[used as usize].allocation.raw, offset: base + part.offset, len: part.len }
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        for copy in &self.copies {
            // A lost device reports an error here, and has nothing running.
            let _ = self.device.0.core.wait_for(copy.last);
        }
    }
}
