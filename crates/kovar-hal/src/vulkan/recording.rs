use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ash::vk;

use super::device::Gpu;
use super::timing::{CHUNK, Copied, read_queries, spans};
use crate::{CommandBuffer, Result, TimeSpan, Timing};

/// What a recording needs of the driver, and lists of the recorder; used again once its command buffer is dropped.
#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) pool: vk::CommandPool,
    pub(crate) raw: vk::CommandBuffer,
    /// Two queries for the whole; null until a recording is timed.
    pub(crate) whole: vk::QueryPool,
    /// Slots and constants as last given to the driver.
    pub(crate) slots: Vec<vk::DescriptorBufferInfo>,
    pub(crate) constants: Vec<u8>,
    pub(crate) fresh: Vec<vk::DescriptorBufferInfo>,
    pub(crate) text: Vec<u8>,
}

impl Recording {
    /// # Safety
    /// It executes no more.
    pub(crate) unsafe fn destroy(self, device: &ash::Device) {
        // SAFETY: passed on from the caller; null handles are ignored.
        unsafe {
            device.destroy_query_pool(self.whole, None);
            device.destroy_command_pool(self.pool, None);
        }
    }
}

/// A pool with one command buffer.
pub(crate) fn create_commands(gpu: &Gpu) -> Result<(vk::CommandPool, vk::CommandBuffer)> {
    let info = vk::CommandPoolCreateInfo::default().queue_family_index(gpu.queues.family());
    // SAFETY: the device is alive, here and below.
    let pool = unsafe { gpu.raw.create_command_pool(&info, None) }
        .map_err(|e| gpu.failure("vkCreateCommandPool", e, "recorder"))?;
    let info = vk::CommandBufferAllocateInfo::default()
        .command_pool(pool)
        .level(vk::CommandBufferLevel::PRIMARY)
        .command_buffer_count(1);
    // SAFETY: as above.
    match unsafe { gpu.raw.allocate_command_buffers(&info) } {
        Ok(list) => Ok((pool, list.first().copied().unwrap_or_default())),
        Err(e) => {
            // SAFETY: nothing was allocated from it.
            unsafe { gpu.raw.destroy_command_pool(pool, None) };
            Err(gpu.failure("vkAllocateCommandBuffers", e, "recorder"))
        }
    }
}

pub(crate) fn create_queries(gpu: &Gpu, count: u32) -> Result<vk::QueryPool> {
    let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(count);
    // SAFETY: the device is alive.
    unsafe { gpu.raw.create_query_pool(&info, None) }.map_err(|e| gpu.failure("vkCreateQueryPool", e, "recorder"))
}

/// Keeps what a recording used for the next one.
pub(crate) fn give_back(gpu: &Gpu, recording: &mut Recording, chunks: &mut Vec<vk::QueryPool>) {
    if recording.pool != vk::CommandPool::null() {
        gpu.keep_recording(std::mem::take(recording));
    }
    gpu.keep_chunks(chunks);
}

pub(crate) struct VulkanCommandBuffer {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) recording: Recording,
    pub(crate) chunks: Vec<vk::QueryPool>,
    pub(crate) copied: Option<Copied>,
    pub(crate) timing: Timing,
    pub(crate) commands: u32,
    pub(crate) submitted: AtomicBool,
}

impl VulkanCommandBuffer {
    pub(crate) fn raw(&self) -> vk::CommandBuffer {
        self.recording.raw
    }

    /// From now on its queries have been written, or will be.
    pub(crate) fn mark_submitted(&self) {
        self.submitted.store(true, Ordering::Release);
    }

    /// The first timestamps of a query pool, the first of which is `first` among all of the recording.
    fn read(&self, pool: vk::QueryPool, first: usize, count: usize) -> Vec<Option<TimeSpan>> {
        let mut values = vec![0; count];
        let read = match &self.copied {
            Some(copied) => copied.read(first, &mut values),
            None => read_queries(&self.gpu, pool, &mut values),
        };
        if read { spans(&self.gpu, &values) } else { vec![None; count / 2] }
    }

    fn is_timed(&self) -> bool {
        self.timing != Timing::Off && self.gpu.capabilities.ticks.is_some() && self.submitted.load(Ordering::Acquire)
    }
}

impl CommandBuffer for VulkanCommandBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn status(&self) -> Result<()> {
        self.gpu.alive()
    }

    fn time(&self) -> Option<TimeSpan> {
        if !self.is_timed() {
            return None;
        }
        self.read(self.recording.whole, 0, 2).first().copied().flatten()
    }

    fn times(&self) -> Vec<Option<TimeSpan>> {
        if self.timing != Timing::Dispatches {
            return Vec::new();
        }
        if !self.is_timed() {
            return vec![None; self.commands as usize];
        }
        let mut spans = Vec::with_capacity(self.commands as usize);
        for pool in &self.chunks {
            let (done, all) = (spans.len() * 2, self.commands as usize * 2);
            spans.extend(self.read(*pool, 2 + done, (all - done).min(CHUNK as usize)));
        }
        spans
    }
}

impl Drop for VulkanCommandBuffer {
    fn drop(&mut self) {
        give_back(&self.gpu, &mut self.recording, &mut self.chunks);
    }
}
