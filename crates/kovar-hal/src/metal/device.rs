use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use objc2::rc::autoreleasepool;
use objc2_foundation::ns_string;
use objc2_metal::{MTLBuffer, MTLCommandQueue, MTLCounterSet, MTLDevice, MTLFence, MTLResourceOptions};

use super::archive::Archives;
use super::capture::Capture;
use super::check::Live;
use super::clock::Calibration;
use super::command::MetalCommandBuffer;
use super::completion::{Loss, Retirement, Signal};
use super::counters::{reading, timestamps, uptime};
use super::event::{MetalEvent, SharedEvent};
use super::list::{Object, PipelineRecord};
use super::object::{Metal, leak, release};
use super::pipeline::Compiler;
use super::recorder::{ListRecorder, fill_pipeline};
use super::residency::Residency;
use super::{adapter, memory};
use crate::{
    BufferDesc, ClockPair, CommandBuffer, Device, DeviceInfo, HalError, OpenOptions, PipelineDesc, RawBuffer, RawEvent,
    RawPipeline, Recorder, RecorderDesc, Result, SubmitDesc,
};

/// Command buffers that may be under way at once. Metal makes whoever wants one more wait, which `submit` must not, so
/// there are more than anyone has in flight.
const COMMAND_BUFFERS: usize = 1024;

/// What the device, its command buffers and their completion handlers share.
pub(crate) struct Shared {
    pub(crate) device: Metal<dyn MTLDevice>,
    pub(crate) info: DeviceInfo,
    /// Executes submissions.
    pub(crate) queue: Metal<dyn MTLCommandQueue>,
    /// Fills new private memory.
    pub(crate) setup: Metal<dyn MTLCommandQueue>,
    /// Orders passes: see `script.rs`.
    pub(crate) fence: Metal<dyn MTLFence>,
    /// Four bytes for passes that have nothing else to do.
    pub(crate) scratch: Object,
    pub(crate) timestamps: Option<Metal<dyn MTLCounterSet>>,
    pub(crate) residency: Option<Residency>,
    pub(crate) retirement: Retirement<MetalEvent>,
    /// Held while a submission is committed.
    pub(crate) order: Mutex<()>,
    pub(crate) validation: bool,
    pub(crate) messages: Mutex<Vec<String>>,
    /// With validation: objects that exist.
    pub(crate) live: Option<Live>,
    archives: Archives,
    calibration: Mutex<Calibration>,
    pub(crate) loss: Loss,
}

impl Shared {
    /// With validation, notes that objects begin or end to exist.
    pub(crate) fn live(&self, objects: &[Object], exist: bool) {
        if let Some(live) = &self.live {
            live.note(objects, exist);
        }
    }

    /// The relation of the clocks as of now.
    pub(crate) fn calibrate(&self) -> Calibration {
        let reading = reading(&self.device);
        let mut calibration = self.calibration.lock().unwrap_or_else(PoisonError::into_inner);
        calibration.update(reading);
        *calibration
    }

    fn compiler(&self) -> Compiler<'_> {
        Compiler { device: &self.device, info: &self.info, archives: &self.archives }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: `open` leaked it, and no command buffer is under way that would hold this `Shared`.
        autoreleasepool(|_| unsafe { release::<dyn MTLBuffer>(self.scratch) });
    }
}

pub(crate) struct MetalDevice {
    shared: Arc<Shared>,
    fill: RawPipeline,
}

impl MetalDevice {
    pub(crate) fn open(device: Metal<dyn MTLDevice>, info: DeviceInfo, options: &OpenOptions) -> Result<MetalDevice> {
        let shared = autoreleasepool(|_| share(device, info, options.validation))?;
        let shared = Arc::new(shared);
        let fill = shared.compiler().create(&fill_pipeline())?;
        // SAFETY: `create` made it just now.
        shared.live(&[unsafe { state(fill) }], true);
        Ok(MetalDevice { shared, fill })
    }
}

/// # Safety
/// The pipeline is alive.
unsafe fn state(pipeline: RawPipeline) -> Object {
    // SAFETY: `RawPipeline` is the address of a record, which is alive (caller).
    unsafe { (*(pipeline.0 as *const PipelineRecord)).state }
}

/// In a pool.
fn share(device: Metal<dyn MTLDevice>, info: DeviceInfo, validation: bool) -> Result<Shared> {
    let failed = |call| move || HalError::Driver { call, reason: "Metal gave no object".into() };
    let queue = device.newCommandQueueWithMaxCommandBufferCount(COMMAND_BUFFERS);
    let queue = queue.ok_or_else(failed("newCommandQueueWithMaxCommandBufferCount"))?;
    queue.setLabel(Some(ns_string!("kovar")));
    let setup = device.newCommandQueue().ok_or_else(failed("newCommandQueue"))?;
    setup.setLabel(Some(ns_string!("kovar setup")));
    let fence = device.newFence().ok_or_else(failed("newFence"))?;
    let untracked = MTLResourceOptions::StorageModePrivate | MTLResourceOptions::HazardTrackingModeUntracked;
    let scratch = device.newBufferWithLength_options(16, untracked).ok_or_else(failed("newBufferWithLength"))?;
    // From here on no pass waits for a fence that none has updated, and a device that does not work has said so.
    memory::clear(&queue, &scratch, Some(&fence), "opening the device")?;
    Ok(Shared {
        residency: Residency::new(&device, &queue)?,
        timestamps: timestamps(&device),
        calibration: Mutex::new(Calibration::new(reading(&device))),
        device,
        info,
        queue,
        setup,
        fence,
        scratch: leak(scratch),
        retirement: Retirement::default(),
        order: Mutex::default(),
        validation,
        messages: Mutex::default(),
        live: validation.then(Live::default),
        archives: Archives::default(),
        loss: Loss::default(),
    })
}

impl Device for MetalDevice {
    fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    fn memory_left(&self) -> Option<u64> {
        Some(adapter::memory_left(&self.shared.device))
    }

    fn create_buffer(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        self.shared.loss.check()?;
        let buffer = memory::create(&self.shared, desc)?;
        self.shared.live(&[Object(buffer.id)], true);
        Ok(buffer)
    }

    unsafe fn import_buffer(&self, memory: NonNull<u8>, len: u64, label: &str) -> Result<Option<RawBuffer>> {
        self.shared.loss.check()?;
        // SAFETY: passed on from the caller.
        let buffer = unsafe { memory::import(&self.shared, memory, len, label) };
        self.shared.live(buffer.map(|buffer| Object(buffer.id)).as_slice(), true);
        Ok(buffer)
    }

    unsafe fn destroy_buffer(&self, buffer: RawBuffer) {
        self.shared.live(&[Object(buffer.id)], false);
        // SAFETY: passed on from the caller.
        unsafe { memory::free(buffer) }
    }

    unsafe fn update_residency(&self, add: &[RawBuffer], remove: &[RawBuffer]) -> Result<()> {
        self.shared.loss.check()?;
        if let Some(residency) = &self.shared.residency {
            // SAFETY: passed on from the caller.
            unsafe { residency.update(add, remove) };
        }
        Ok(())
    }

    fn create_pipeline(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        self.shared.loss.check()?;
        let pipeline = self.shared.compiler().create(desc)?;
        // SAFETY: `create` made it just now.
        self.shared.live(&[unsafe { state(pipeline) }], true);
        Ok(pipeline)
    }

    unsafe fn destroy_pipeline(&self, pipeline: RawPipeline) {
        // SAFETY: passed on from the caller.
        unsafe {
            self.shared.live(&[state(pipeline)], false);
            self.shared.compiler().destroy(pipeline);
        }
    }

    fn pipeline_cache(&self) -> Vec<u8> {
        self.shared.archives.bytes(&self.shared.device)
    }

    fn load_pipeline_cache(&self, bytes: &[u8]) -> Result<()> {
        self.shared.loss.check()?;
        self.shared.archives.load(&self.shared.device, bytes)
    }

    fn create_event(&self, value: u64) -> Result<RawEvent> {
        self.shared.loss.check()?;
        Ok(MetalEvent::create(SharedEvent::new(&self.shared.device)?, value))
    }

    unsafe fn destroy_event(&self, event: RawEvent) {
        // SAFETY: passed on from the caller.
        unsafe { MetalEvent::destroy(event) }
    }

    unsafe fn event_value(&self, event: RawEvent) -> Result<u64> {
        self.shared.loss.check()?;
        // SAFETY: passed on from the caller.
        Ok(unsafe { MetalEvent::get(event) }.value())
    }

    unsafe fn signal_event(&self, event: RawEvent, value: u64) -> Result<()> {
        self.shared.loss.check()?;
        // SAFETY: passed on from the caller.
        unsafe { MetalEvent::get(event) }.raise(value);
        Ok(())
    }

    unsafe fn wait_event(&self, event: RawEvent, value: u64, timeout: Option<Duration>) -> Result<bool> {
        self.shared.loss.check()?;
        // SAFETY: passed on from the caller.
        let reached = unsafe { MetalEvent::get(event) }.wait(value, timeout);
        self.shared.loss.check()?;
        Ok(reached)
    }

    fn create_recorder(&self, desc: &RecorderDesc<'_>) -> Result<Box<dyn Recorder>> {
        self.shared.loss.check()?;
        let shared = self.shared.clone();
        let finish = move |list| {
            shared.loss.check()?;
            Ok(Arc::new(MetalCommandBuffer::new(shared, list)?) as Arc<dyn CommandBuffer>)
        };
        Ok(Box::new(ListRecorder::new(desc, self.fill, Box::new(finish))))
    }

    unsafe fn submit(&self, desc: &SubmitDesc<'_>) -> Result<()> {
        // SAFETY: passed on from the caller.
        unsafe { self.shared.submit(desc) }
    }

    fn clocks(&self) -> Option<ClockPair> {
        self.shared.calibrate();
        let before = Instant::now();
        let device = uptime();
        let error = before.elapsed() / 2;
        Some(ClockPair { device, host: before + error, error })
    }

    fn validation_messages(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn capture(&self, file: &Path) -> Result<Box<dyn Send + Sync>> {
        self.shared.loss.check()?;
        Ok(Box::new(Capture::start(&self.shared.device, file)?))
    }
}

impl Drop for MetalDevice {
    fn drop(&mut self) {
        // SAFETY: `open` made it, and all submissions have ended (contract).
        unsafe { self.shared.compiler().destroy(self.fill) };
    }
}
