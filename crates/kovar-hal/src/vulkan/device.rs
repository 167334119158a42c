use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ash::{ext, khr, vk};

use super::capabilities::{self, Capabilities};
use super::instance::{Instance, unavailable};
use super::memory::Heap;
use super::queue::Queues;
use super::recorder::VulkanRecorder;
use super::recording::Recording;
use super::timing::Clocks;
use crate::{
    BufferDesc, ClockPair, Device, DeviceInfo, HalError, PipelineDesc, RawBuffer, RawEvent, RawPipeline, Recorder,
    RecorderDesc, Result, SubmitDesc,
};

const _: () = assert!(size_of::<usize>() == 8, "an event's handle is a Vulkan handle of 64 bits");

/// An open device, shared by everything that was made of it.
pub(crate) struct Gpu {
    pub(crate) raw: ash::Device,
    pub(crate) push: khr::push_descriptor::Device,
    pub(crate) host_memory: Option<ext::external_memory_host::Device>,
    /// Says which memory goes last when the device's heap is too small for everybody.
    pub(crate) paging: Option<ext::pageable_device_local_memory::Device>,
    pub(crate) capabilities: Capabilities,
    pub(crate) heap: Heap,
    pub(crate) queues: Queues,
    /// Locked for writing only while another cache is merged into it.
    pub(crate) cache: RwLock<vk::PipelineCache>,
    /// Names of objects, if anything can show them.
    names: Option<ext::debug_utils::Device>,
    labels: bool,
    clocks: Option<Clocks>,
    /// Recordings and query pools of dropped command buffers, for the next ones.
    recordings: Mutex<Vec<Recording>>,
    chunks: Mutex<Vec<vk::QueryPool>>,
    lost: OnceLock<HalError>,
    physical: vk::PhysicalDevice,
    instance: Arc<Instance>,
}

impl Gpu {
    fn open(instance: Arc<Instance>, physical: vk::PhysicalDevice, capabilities: Capabilities) -> Result<Gpu> {
        let priorities = [1.0f32; 2];
        let queue = [vk::DeviceQueueCreateInfo::default()
            .queue_family_index(capabilities.queue_family)
            .queue_priorities(&priorities[..capabilities.queues.min(2) as usize])];
        let extensions = capabilities.extensions.pointers();
        let mut features = capabilities.features.clone();
        let mut features = features.link(capabilities.version, &capabilities.extensions);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queue)
            .enabled_extension_names(&extensions)
            .push_next(&mut features);
        // SAFETY: the physical device belongs to the instance and offers all that is asked for.
        let raw = unsafe { instance.raw.create_device(physical, &info, None) }
            .map_err(|e| unavailable(format!("{}: vkCreateDevice: {e}", capabilities.info.name)))?;
        let unfinished = Unfinished { device: raw.clone(), unfinished: true };
        let has = |name| capabilities.extensions.has(name);
        let (loader, device) = (&instance.raw, &raw);
        let clocks = if has(khr::calibrated_timestamps::NAME) {
            Some(Clocks::Khr(khr::calibrated_timestamps::Device::new(loader, device)))
        } else if has(ext::calibrated_timestamps::NAME) {
            Some(Clocks::Ext(ext::calibrated_timestamps::Device::new(loader, device)))
        } else {
            None
        };
        let gpu = Gpu {
            push: khr::push_descriptor::Device::new(loader, device),
            host_memory: has(ext::external_memory_host::NAME)
                .then(|| ext::external_memory_host::Device::new(loader, device)),
            paging: (capabilities.features.pageable.pageable_device_local_memory == vk::TRUE)
                .then(|| ext::pageable_device_local_memory::Device::new(loader, device)),
            names: instance.debug_utils.then(|| ext::debug_utils::Device::new(loader, device)),
            labels: instance.wants_labels(physical, capabilities.version),
            clocks: clocks.filter(|_| capabilities.ticks.is_some()),
            heap: Heap::new(&instance, physical, device, &capabilities)?,
            queues: Queues::new(device, &capabilities),
            cache: RwLock::default(),
            recordings: Mutex::default(),
            chunks: Mutex::default(),
            lost: OnceLock::new(),
            raw: unfinished.keep(),
            capabilities,
            physical,
            instance,
        };
        // SAFETY: the device is alive.
        let cache = unsafe { gpu.raw.create_pipeline_cache(&vk::PipelineCacheCreateInfo::default(), None) }
            .map_err(|e| gpu.failure("vkCreatePipelineCache", e, "open"))?;
        *gpu.cache.write().unwrap_or_else(PoisonError::into_inner) = cache;
        Ok(gpu)
    }

    /// The error of a driver call; a lost device is remembered.
    pub(crate) fn failure(&self, call: &'static str, result: vk::Result, label: &str) -> HalError {
        match result {
            vk::Result::ERROR_DEVICE_LOST => {
                let reason = format!("{call}: {result}");
                self.lost.get_or_init(|| HalError::DeviceLost { label: label.into(), reason }).clone()
            }
            other => HalError::Driver { call, reason: format!("{other} ({label:?})") },
        }
    }

    /// Fails once the device is lost.
    pub(crate) fn alive(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |lost| Err(lost.clone()))
    }

    /// Whom to tell of labels.
    pub(crate) fn labels(&self) -> Option<&ext::debug_utils::Device> {
        self.names.as_ref().filter(|_| self.labels)
    }

    pub(crate) fn name<T: vk::Handle>(&self, object: T, name: &str) {
        let Some(functions) = self.names.as_ref().filter(|_| !name.is_empty()) else { return };
        let Ok(name) = std::ffi::CString::new(name) else { return };
        let info = vk::DebugUtilsObjectNameInfoEXT::default().object_handle(object).object_name(&name);
        // A name that is not taken is missing in a tool, nothing more.
        // SAFETY: the object is alive and not used by another thread yet.
        let _ = unsafe { functions.set_debug_utils_object_name(&info) };
    }

    pub(crate) fn take_recording(&self) -> Option<Recording> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn keep_recording(&self, recording: Recording) {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner).push(recording);
    }

    pub(crate) fn take_chunk(&self) -> Option<vk::QueryPool> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn keep_chunks(&self, chunks: &mut Vec<vk::QueryPool>) {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).append(chunks);
    }

    fn wait_idle(&self) {
        let _queues = self.queues.lock_all();
        // A device that is lost does nothing any more: it is as idle as it can be.
        // SAFETY: the device is alive and no queue is used meanwhile.
        let _ = unsafe { self.raw.device_wait_idle() };
    }
}

/// Destroys a device that could not be opened to the end.
struct Unfinished {
    device: ash::Device,
    unfinished: bool,
}

impl Unfinished {
    fn keep(mut self) -> ash::Device {
        self.unfinished = false;
        self.device.clone()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.unfinished {
            // SAFETY: nothing was made of it that is still there.
            unsafe { self.device.destroy_device(None) };
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.wait_idle();
        // SAFETY: the device is idle, and nobody else holds anything of it.
        unsafe {
            for recording in self.recordings.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
                recording.destroy(&self.raw);
            }
            for pool in self.chunks.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
                self.raw.destroy_query_pool(pool, None);
            }
            self.queues.destroy(&self.raw);
            self.raw.destroy_pipeline_cache(*self.cache.get_mut().unwrap_or_else(PoisonError::into_inner), None);
            self.heap.close();
            self.raw.destroy_device(None);
        }
        if let Some(validation) = &self.instance.validation {
            // Nobody can ask for these any more. They name what was not destroyed.
            for message in validation.sink.take() {
                eprintln!("validation, at the end of {}: {message}", self.capabilities.info.name);
            }
        }
    }
}

pub(crate) struct VulkanDevice {
    gpu: Arc<Gpu>,
}

impl VulkanDevice {
    pub(crate) fn open(
        instance: Arc<Instance>,
        physical: vk::PhysicalDevice,
        capabilities: Capabilities,
    ) -> Result<VulkanDevice> {
        Ok(VulkanDevice { gpu: Arc::new(Gpu::open(instance, physical, capabilities)?) })
    }
}

impl Drop for VulkanDevice {
    fn drop(&mut self) {
        // Command buffers may outlive the device; what they do must not.
        self.gpu.wait_idle();
    }
}

impl Device for VulkanDevice {
    fn info(&self) -> &DeviceInfo {
        &self.gpu.capabilities.info
    }

    fn memory_left(&self) -> Option<u64> {
        let gpu = &self.gpu;
        if !gpu.capabilities.extensions.has(ext::memory_budget::NAME) {
            return None;
        }
        let heap = capabilities::main_heap(&gpu.capabilities.memory);
        let (budget, used) = capabilities::budget(&gpu.instance, gpu.physical, heap);
        Some(budget.saturating_sub(used))
    }

    fn create_buffer(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        self.gpu.alive()?;
        self.gpu.create_buffer(desc)
    }

    unsafe fn import_buffer(&self, memory: NonNull<u8>, len: u64, label: &str) -> Result<Option<RawBuffer>> {
        self.gpu.alive()?;
        // SAFETY: passed on from the caller, here and below.
        unsafe { self.gpu.import_buffer(memory, len, label) }
    }

    unsafe fn destroy_buffer(&self, buffer: RawBuffer) {
        // SAFETY: as above.
        unsafe { self.gpu.destroy_buffer(buffer) }
    }

    unsafe fn update_residency(&self, add: &[RawBuffer], _: &[RawBuffer]) -> Result<()> {
        self.gpu.alive()?;
        // The driver pages by itself; what leaves the set is about to be destroyed.
        // SAFETY: as above.
        add.iter().for_each(|buffer| unsafe { self.gpu.raise_priority(*buffer) });
        Ok(())
    }

    fn create_pipeline(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        self.gpu.alive()?;
        self.gpu.create_pipeline(desc)
    }

    unsafe fn destroy_pipeline(&self, pipeline: RawPipeline) {
        // SAFETY: as above.
        unsafe { self.gpu.destroy_pipeline(pipeline) }
    }

    fn pipeline_cache(&self) -> Vec<u8> {
        self.gpu.pipeline_cache()
    }

    fn load_pipeline_cache(&self, bytes: &[u8]) -> Result<()> {
        self.gpu.alive()?;
        self.gpu.load_pipeline_cache(bytes)
    }

    fn create_event(&self, value: u64) -> Result<RawEvent> {
        self.gpu.alive()?;
        self.gpu.create_event(value)
    }

    unsafe fn destroy_event(&self, event: RawEvent) {
        // SAFETY: as above.
        unsafe { self.gpu.destroy_event(event) }
    }

    unsafe fn event_value(&self, event: RawEvent) -> Result<u64> {
        self.gpu.alive()?;
        // SAFETY: as above.
        unsafe { self.gpu.event_value(event) }
    }

    unsafe fn signal_event(&self, event: RawEvent, value: u64) -> Result<()> {
        self.gpu.alive()?;
        // SAFETY: as above.
        unsafe { self.gpu.signal_event(event, value) }
    }

    unsafe fn wait_event(&self, event: RawEvent, value: u64, timeout: Option<Duration>) -> Result<bool> {
        self.gpu.alive()?;
        // SAFETY: as above.
        unsafe { self.gpu.wait_event(event, value, timeout) }
    }

    fn create_recorder(&self, desc: &RecorderDesc<'_>) -> Result<Box<dyn Recorder>> {
        self.gpu.alive()?;
        Ok(Box::new(VulkanRecorder::new(self.gpu.clone(), desc)?))
    }

    unsafe fn submit(&self, desc: &SubmitDesc<'_>) -> Result<()> {
        self.gpu.alive()?;
        // SAFETY: as above.
        unsafe { self.gpu.submit(desc) }
    }

    fn clocks(&self) -> Option<ClockPair> {
        self.gpu.clocks.as_ref()?.read(self.gpu.capabilities.ticks?)
    }

    fn validation_messages(&self) -> Vec<String> {
        self.gpu.instance.validation.as_ref().map(|validation| validation.sink.take()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CommandBuffer, Timing};

    /// The first device without validation, or `None` having said so.
    fn open(test: &str) -> Option<VulkanDevice> {
        let opened = || {
            let instance = Instance::load(false)?;
            let physical = instance.physical_devices()?.first().copied().ok_or_else(|| unavailable("no device"))?;
            let capabilities = Capabilities::query(&instance, physical).map_err(unavailable)?;
            VulkanDevice::open(instance, physical, capabilities)
        };
        opened().map_err(|reason| kovar_testing::skip(test, "vulkan", &reason.to_string())).ok()
    }

    fn record(device: &VulkanDevice, timing: Timing) -> Arc<dyn CommandBuffer> {
        device.create_recorder(&RecorderDesc { label: "unit", timing, reusable: false }).unwrap().finish().unwrap()
    }

    #[test]
    fn a_lost_device_stays_lost() {
        let Some(device) = open("a_lost_device_stays_lost") else { return };
        let commands = record(&device, Timing::Off);
        let event = device.create_event(0).unwrap();
        let told = device.gpu.failure("vkQueueSubmit", vk::Result::ERROR_DEVICE_LOST, "the culprit");
        assert!(matches!(&told, HalError::DeviceLost { label, .. } if label == "the culprit"));
        assert_eq!(device.gpu.failure("vkWaitSemaphores", vk::Result::ERROR_DEVICE_LOST, "a bystander"), told);
        assert_eq!(commands.status(), Err(told.clone()));
        let submission = SubmitDesc { label: "late", commands: &[], waits: &[], signals: &[] };
        // SAFETY: the event is alive.
        unsafe {
            assert_eq!(device.event_value(event), Err(told.clone()));
            assert_eq!(device.wait_event(event, 1, None), Err(told.clone()));
            assert_eq!(device.submit(&submission), Err(told.clone()));
        }
        let desc = BufferDesc { size: 4, memory: crate::MemoryKind::Shared, label: "late" };
        assert_eq!(device.create_buffer(&desc), Err(told));
        // SAFETY: nothing uses it.
        unsafe { device.destroy_event(event) };
    }

    #[test]
    fn recordings_are_used_again() {
        let Some(device) = open("recordings_are_used_again") else { return };
        let kept = || device.gpu.recordings.lock().unwrap().len();
        for round in 0..1000 {
            let (a, b) = (record(&device, Timing::Whole), record(&device, Timing::Dispatches));
            assert_eq!(kept(), 0, "round {round}");
            drop((a, b));
            assert_eq!(kept(), 2, "round {round}");
        }
    }

    /// A device whose memory is not the host's clears buffers by a submission.
    #[test]
    fn buffers_are_cleared_by_the_device_too() {
        let Some(device) = open("buffers_are_cleared_by_the_device_too") else { return };
        let desc = BufferDesc { size: 1 << 20, memory: crate::MemoryKind::Shared, label: "dirty" };
        let buffer = device.create_buffer(&desc).unwrap();
        // SAFETY: the host sees the buffer, and the device uses it only while `fill_and_wait` runs.
        unsafe {
            for _ in 0..3 {
                buffer.host.write_bytes(7, 1 << 20);
                device.gpu.fill_and_wait(crate::vulkan::memory::Buffer::get(buffer).raw).unwrap();
                assert!(std::slice::from_raw_parts(buffer.host, 1 << 20).iter().all(|byte| *byte == 0));
            }
            device.destroy_buffer(buffer);
        }
    }
}
