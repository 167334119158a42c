use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::queue::Queue;
use super::recorder::{NullRecorder, Shelf};
use crate::cpu::memory;
use crate::cpu::regions::Regions;
use crate::timeline::HostEvent;
use crate::{
    BufferDesc, ClockPair, Device, DeviceInfo, PipelineDesc, RawBuffer, RawEvent, RawPipeline, Recorder, RecorderDesc,
    Result, SubmitDesc,
};

pub(crate) struct NullDevice {
    info: DeviceInfo,
    discrete: bool,
    regions: Regions,
    queue: Queue,
    shelf: Arc<Shelf>,
}

impl NullDevice {
    pub(super) fn new(info: DeviceInfo, discrete: bool) -> NullDevice {
        NullDevice { info, discrete, regions: Regions::default(), queue: Queue::default(), shelf: Arc::default() }
    }
}

impl Device for NullDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory_left(&self) -> Option<u64> {
        None
    }

    fn create_buffer(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        let buffer = memory::allocate(desc, &self.regions)?;
        Ok(if self.discrete { memory::hide(buffer, desc.memory) } else { buffer })
    }

    unsafe fn import_buffer(&self, memory: NonNull<u8>, len: u64, _: &str) -> Result<Option<RawBuffer>> {
        Ok((!self.discrete).then(|| memory::import(memory, len)))
    }

    unsafe fn destroy_buffer(&self, buffer: RawBuffer) {
        // SAFETY: passed on from the caller.
        unsafe { memory::free(buffer) }
    }

    unsafe fn update_residency(&self, _: &[RawBuffer], _: &[RawBuffer]) -> Result<()> {
        Ok(())
    }

    fn create_pipeline(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        Ok(RawPipeline(Arc::into_raw(Arc::new(String::from(desc.label))) as usize))
    }

    unsafe fn destroy_pipeline(&self, pipeline: RawPipeline) {
        // SAFETY: takes back the count that `create_pipeline` leaked, once (contract).
        drop(unsafe { Arc::from_raw(pipeline.0 as *const String) });
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

    fn create_recorder(&self, _: &RecorderDesc<'_>) -> Result<Box<dyn Recorder>> {
        Ok(Box::new(NullRecorder::new(&self.shelf)))
    }

    unsafe fn submit(&self, desc: &SubmitDesc<'_>) -> Result<()> {
        // SAFETY: the events are alive (contract).
        let events = |list: &[(RawEvent, u64)]| list.iter().map(|(e, v)| (unsafe { HostEvent::get(*e) }, *v)).collect();
        self.queue.submit(events(desc.waits), events(desc.signals));
        Ok(())
    }

    fn clocks(&self) -> Option<ClockPair> {
        None
    }

    fn validation_messages(&self) -> Vec<String> {
        Vec::new()
    }
}
