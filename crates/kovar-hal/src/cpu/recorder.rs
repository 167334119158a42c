use std::any::Any;
use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use super::claims::{Claims, MAX_GROUPS};
use super::kernel::{CpuBinding, CpuDispatch, Prepared};
use super::memory;
use super::pipeline::CpuPipeline;
use super::race::{AccessLog, Actor, Watch};
use crate::{
    CommandBuffer, DispatchCommand, Grid, HalError, RacePlace, RawBuffer, Recorder, RecorderDesc, Result, TimeSpan,
    Timing,
};

/// Bytes that one task of a copy or fill moves.
const COPY_TASK: usize = 256 << 10;

pub(crate) enum Work {
    Kernel { pipeline: Arc<CpuPipeline>, bindings: Range<usize>, constants: Range<usize>, grid: JobGrid },
    Copy { from: CpuBinding, to: CpuBinding },
    Fill { to: CpuBinding, word: u32 },
}

pub(crate) enum JobGrid {
    Groups([u32; 3]),
    Indirect(CpuBinding),
}

pub(crate) struct Job {
    pub(crate) work: Work,
    /// First task of the job within its group; set when the group begins, because indirect grids are known then.
    pub(crate) first: AtomicU32,
    pub(crate) tasks: AtomicU32,
}

#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) fault: Option<HalError>,
    pub(crate) span: Option<TimeSpan>,
    pub(crate) groups: Vec<TimeSpan>,
}

/// A job list, cut into groups by barriers, with the claims by which threads walk it.
pub(crate) struct CpuCommandBuffer {
    pub(crate) label: String,
    pub(crate) timing: Timing,
    pub(crate) jobs: Vec<Job>,
    pub(crate) groups: Vec<Range<usize>>,
    pub(crate) bindings: Vec<CpuBinding>,
    constants: Vec<u8>,
    pub(crate) claims: Claims,
    pub(crate) outcome: Mutex<Outcome>,
    /// For the race detector.
    pub(crate) watch: Option<Watched>,
}

/// What the race detector keeps of a job list.
pub(crate) struct Watched {
    pub(crate) log: AccessLog,
    /// Of each job.
    pub(crate) labels: Vec<String>,
}

impl CpuCommandBuffer {
    pub(crate) fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the tasks of a job. A fault in the kernel's own count is the job's, which then has none.
    pub(crate) fn count(&self, number: usize, threads: u32) -> std::thread::Result<u32> {
        match &self.jobs[number].work {
            Work::Copy { to, .. } | Work::Fill { to, .. } => Ok(to.len.div_ceil(COPY_TASK) as u32),
            Work::Kernel { pipeline, grid, .. } => {
                let watch = self.watch(number, None);
                if let (Some(watch), JobGrid::Indirect(at)) = (watch, grid) {
                    watch.reads(RacePlace::Grid, at.ptr, 0..at.len, true);
                }
                let prepared = Prepared::new();
                let Some(dispatch) = self.dispatch(number, threads, &prepared, watch) else { return Ok(0) };
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pipeline.kernel.tasks(&dispatch)))
            }
        }
    }

    /// What the kernel of a job sees; `None` for an empty grid, a copy or a fill.
    fn dispatch<'a>(
        &'a self,
        number: usize,
        threads: u32,
        prepared: &'a Prepared,
        watch: Option<Watch<'a>>,
    ) -> Option<CpuDispatch<'a>> {
        let Work::Kernel { pipeline, bindings, constants, grid } = &self.jobs[number].work else { return None };
        let groups = match grid {
            JobGrid::Groups(groups) => *groups,
            // SAFETY: the binding is 12 live bytes, a multiple of 4 from the start of a buffer aligned to a page, and
            // whoever wrote them belongs to an earlier group.
            JobGrid::Indirect(at) => unsafe { at.ptr.cast::<[u32; 3]>().read_unaligned() },
        };
        (!groups.contains(&0)).then(|| CpuDispatch {
            groups,
            group_size: pipeline.group_size,
            constants: &self.constants[constants.clone()],
            bindings: &self.bindings[bindings.clone()],
            threads,
            prepared,
            watch,
        })
    }

    fn watch(&self, number: usize, task: Option<u32>) -> Option<Watch<'_>> {
        let log = &self.watch.as_ref()?.log;
        Some(Watch { log, actor: Actor { job: number as u32, task } })
    }

    /// Runs some tasks of a job.
    pub(crate) fn run(&self, number: usize, tasks: Range<u32>, threads: u32, prepared: &Prepared) {
        let watch = self.watch(number, Some(tasks.start));
        match &self.jobs[number].work {
            Work::Kernel { pipeline, .. } => {
                if let Some(dispatch) = self.dispatch(number, threads, prepared, watch) {
                    pipeline.kernel.run(&dispatch, tasks);
                }
            }
            Work::Copy { from, to } => {
                let bytes = part(tasks, to.len);
                if let Some(watch) = watch {
                    watch.reads(RacePlace::Source, from.ptr, bytes.clone(), false);
                    watch.writes(RacePlace::Destination, to.ptr, bytes.clone());
                }
                // SAFETY: both are live and of the same length, do not overlap, and no other command of the group
                // touches them in conflict (contract of `Recorder::copy`).
                unsafe {
                    std::ptr::copy_nonoverlapping(from.ptr.add(bytes.start), to.ptr.add(bytes.start), bytes.len())
                }
            }
            Work::Fill { to, word } => {
                let bytes = part(tasks, to.len);
                if let Some(watch) = watch {
                    watch.writes(RacePlace::Destination, to.ptr, bytes.clone());
                }
                for at in bytes.step_by(4) {
                    // SAFETY: offset and length are multiples of 4 within a live buffer (contract of `fill`).
                    unsafe { to.ptr.add(at).cast::<u32>().write_unaligned(*word) }
                }
            }
        }
    }

    pub(crate) fn job_label(&self, job: &Job) -> String {
        match &job.work {
            Work::Kernel { pipeline, .. } => format!("{}: {}", self.label, pipeline.label),
            Work::Copy { .. } => format!("{}: copy", self.label),
            Work::Fill { .. } => format!("{}: fill", self.label),
        }
    }
}

fn part(tasks: Range<u32>, len: usize) -> Range<usize> {
    tasks.start as usize * COPY_TASK..(tasks.end as usize * COPY_TASK).min(len)
}

impl CommandBuffer for CpuCommandBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn status(&self) -> Result<()> {
        self.outcome().fault.clone().map_or(Ok(()), Err)
    }

    fn time(&self) -> Option<TimeSpan> {
        self.outcome().span
    }

    fn times(&self) -> Vec<Option<TimeSpan>> {
        self.outcome().groups.iter().copied().map(Some).collect()
    }
}

pub(crate) struct CpuRecorder {
    label: String,
    timing: Timing,
    jobs: Vec<Job>,
    groups: Vec<Range<usize>>,
    bindings: Vec<CpuBinding>,
    constants: Vec<u8>,
    open: usize,
    /// Of each job, if the race detector wants them.
    labels: Option<Vec<String>>,
}

/// # Safety
/// The buffer is alive and the range lies in it.
unsafe fn binding(buffer: RawBuffer, offset: u64, len: u64, writable: bool) -> CpuBinding {
    debug_assert!(offset + len <= buffer.len);
    // SAFETY: passed on from the caller.
    let ptr = unsafe { memory::address(buffer).add(offset as usize) };
    CpuBinding { ptr, len: len as usize, writable }
}

impl CpuRecorder {
    pub(crate) fn new(desc: &RecorderDesc<'_>, watched: bool) -> CpuRecorder {
        CpuRecorder {
            label: desc.label.into(),
            timing: desc.timing,
            jobs: Vec::new(),
            groups: Vec::new(),
            bindings: Vec::new(),
            constants: Vec::new(),
            open: 0,
            labels: watched.then(Vec::new),
        }
    }

    fn push(&mut self, work: Work, label: &str) {
        if let Some(labels) = &mut self.labels {
            labels.push(label.into());
        }
        self.jobs.push(Job { work, first: AtomicU32::new(0), tasks: AtomicU32::new(0) });
        if self.timing == Timing::Dispatches {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.open < self.jobs.len() {
            self.groups.push(self.open..self.jobs.len());
            self.open = self.jobs.len();
        }
    }
}

impl Recorder for CpuRecorder {
    unsafe fn dispatch(&mut self, command: &DispatchCommand<'_>) {
        // SAFETY: the handle is a live `Arc<CpuPipeline>` leaked by `create_pipeline` (contract), and stays so.
        let pipeline = unsafe {
            let raw = command.pipeline.0 as *const CpuPipeline;
            Arc::increment_strong_count(raw);
            Arc::from_raw(raw)
        };
        let first = self.bindings.len();
        for (slot, b) in command.bindings.iter().enumerate() {
            let writable = pipeline.writable.get(slot) == Some(&true);
            // SAFETY: bindings lie in live buffers (contract), here and below.
            self.bindings.push(unsafe { binding(b.buffer, b.offset, b.len, writable) });
        }
        let at = self.constants.len();
        self.constants.extend_from_slice(command.constants);
        let grid = match command.grid {
            Grid::Groups(groups) => JobGrid::Groups(groups),
            // SAFETY: as above.
            Grid::Indirect { buffer, offset } => JobGrid::Indirect(unsafe { binding(buffer, offset, 12, false) }),
        };
        let (bindings, constants) = (first..self.bindings.len(), at..self.constants.len());
        self.push(Work::Kernel { pipeline, bindings, constants, grid }, command.label);
    }

    unsafe fn copy(&mut self, source: RawBuffer, from: u64, destination: RawBuffer, to: u64, len: u64) {
        // SAFETY: both ranges lie in live buffers (contract).
        let (from, to) = unsafe { (binding(source, from, len, false), binding(destination, to, len, true)) };
        self.push(Work::Copy { from, to }, "");
    }

    unsafe fn fill(&mut self, buffer: RawBuffer, offset: u64, len: u64, word: u32) {
        // SAFETY: the range lies in a live buffer (contract).
        let to = unsafe { binding(buffer, offset, len, true) };
        self.push(Work::Fill { to, word }, "");
    }

    fn barrier(&mut self) {
        self.close();
    }

    fn push_label(&mut self, _: &str) {}

    fn pop_label(&mut self) {}

    fn finish(mut self: Box<Self>) -> Result<Arc<dyn CommandBuffer>> {
        self.close();
        let this = *self;
        if this.groups.len() >= MAX_GROUPS {
            return Err(HalError::Unsupported {
                what: "a command buffer of so many barriers",
                reason: format!("{} has {} groups, at most {MAX_GROUPS} are possible", this.label, this.groups.len()),
            });
        }
        Ok(Arc::new(CpuCommandBuffer {
            label: this.label,
            timing: this.timing,
            jobs: this.jobs,
            claims: Claims::new(this.groups.len()),
            groups: this.groups,
            bindings: this.bindings,
            constants: this.constants,
            outcome: Mutex::default(),
            watch: this.labels.map(|labels| Watched { log: AccessLog::default(), labels }),
        }))
    }
}
