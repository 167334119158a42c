use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory;
use super::pipeline::CpuPipeline;
use super::queue::Queue;
use super::recorder::CpuRecorder;
use super::regions::Regions;
use super::walk::Crew;
use crate::timeline::HostEvent;
use crate::{
    BufferDesc, ClockPair, CpuPaging, Device, DeviceInfo, OpenOptions, PipelineDesc, RawBuffer, RawEvent, RawPipeline,
    Recorder, RecorderDesc, Result, SubmitDesc,
};

pub(crate) struct CpuDevice {
    info: DeviceInfo,
    discrete: bool,
    paging: CpuPaging,
    regions: Regions,
    queue: Queue,
}

impl CpuDevice {
    pub(crate) fn open(info: DeviceInfo, options: &OpenOptions) -> Result<CpuDevice> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = options.threads.unwrap_or(cores).max(1);
        let crew =
            Crew { threads: threads as u32, schedule: options.schedule, checks: options.checks, epoch: Instant::now() };
        let info = if options.discrete { info.discrete() } else { info };
        let OpenOptions { discrete, paging, .. } = *options;
        Ok(CpuDevice { info, discrete, paging, regions: Regions::default(), queue: Queue::new(crew)? })
    }

    /// Brings a buffer into memory that was just made.
    fn fresh(&self, buffer: RawBuffer) -> RawBuffer {
        if self.paging == CpuPaging::Prefault {
            // SAFETY: it was made by this backend, and nobody knows of it yet.
            unsafe { memory::prefault(buffer) };
        }
        buffer
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory_left(&self) -> Option<u64> {
        super::adapter::memory().1
    }

    fn create_buffer(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        let buffer = self.fresh(memory::allocate(desc, &self.regions)?);
        Ok(if self.discrete { memory::hide(buffer, desc.memory) } else { buffer })
    }

    unsafe fn import_buffer(&self, memory: NonNull<u8>, len: u64, _: &str) -> Result<Option<RawBuffer>> {
        Ok((!self.discrete).then(|| self.fresh(memory::import(memory, len))))
    }

    unsafe fn destroy_buffer(&self, buffer: RawBuffer) {
        // SAFETY: passed on from the caller.
        unsafe { memory::free(buffer) }
    }

    unsafe fn update_residency(&self, add: &[RawBuffer], remove: &[RawBuffer]) -> Result<()> {
        if self.paging == CpuPaging::Locked {
            // SAFETY: the buffers are alive (contract), here and below.
            remove.iter().for_each(|buffer| unsafe { memory::unlock(*buffer) });
            // SAFETY: as above.
            add.iter().try_for_each(|buffer| unsafe { memory::lock(*buffer) })?;
        }
        Ok(())
    }

    fn create_pipeline(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        Ok(RawPipeline(Arc::into_raw(Arc::new(CpuPipeline::new(desc)?)) as usize))
    }

    unsafe fn destroy_pipeline(&self, pipeline: RawPipeline) {
        // SAFETY: takes back the count that `create_pipeline` leaked, once (contract).
        drop(unsafe { Arc::from_raw(pipeline.0 as *const CpuPipeline) });
    }

    fn pipeline_cache(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load_pipeline_cache(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn create_event(&self, value: u64) -> Result<RawEvent> {
        Ok(HostEvent::create(value))
    }

    unsafe fn destroy_event(&self, event: RawEvent) {
        // SAFETY: passed on from the caller.
        unsafe { HostEvent::destroy(event) }
    }

    unsafe fn event_value(&self, event: RawEvent) -> Result<u64> {
        // SAFETY: passed on from the caller.
        Ok(unsafe { HostEvent::get(event) }.value())
    }

    unsafe fn signal_event(&self, event: RawEvent, value: u64) -> Result<()> {
        // SAFETY: passed on from the caller.
        let event = unsafe { HostEvent::get(event) };
        self.queue.signal(&event, value);
        Ok(())
    }

    unsafe fn wait_event(&self, event: RawEvent, value: u64, timeout: Option<Duration>) -> Result<bool> {
        // SAFETY: passed on from the caller.
        let event = unsafe { HostEvent::get(event) };
        Ok(self.queue.wait(&event, value, timeout))
    }

    fn create_recorder(&self, desc: &RecorderDesc<'_>) -> Result<Box<dyn Recorder>> {
        Ok(Box::new(CpuRecorder::new(desc, self.queue.crew().checks.races)))
    }

    unsafe fn submit(&self, desc: &SubmitDesc<'_>) -> Result<()> {
        // SAFETY: the events are alive (contract).
        let events = |list: &[(RawEvent, u64)]| list.iter().map(|(e, v)| (unsafe { HostEvent::get(*e) }, *v)).collect();
        self.queue.submit(desc.commands, events(desc.waits), events(desc.signals));
        Ok(())
    }

    fn clocks(&self) -> Option<ClockPair> {
        let host = Instant::now();
        let device = host.duration_since(self.queue.crew().epoch).as_nanos() as u64;
        // One reading of one clock.
        Some(ClockPair { device, host, error: Duration::ZERO })
    }

    fn validation_messages(&self) -> Vec<String> {
        Vec::new()
    }
}
