use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ash::vk;

use super::device::Gpu;
use super::memory::Buffer;
use super::order::{Order, Work, host_barrier};
use super::pipeline::Pipeline;
use super::recording::{Recording, VulkanCommandBuffer, create_commands, create_queries, give_back};
use super::timing::{CHUNK, Copied};
use crate::{
    Binding, CommandBuffer, DispatchCommand, Grid, HalError, RawBuffer, RawPipeline, Recorder, RecorderDesc, Result,
    Timing,
};

pub(crate) struct VulkanRecorder {
    gpu: Arc<Gpu>,
    recording: Recording,
    label: String,
    timing: Timing,
    order: Order,
    bound: Option<RawPipeline>,
    /// Bytes of the push-constant range of the layout bound.
    range: u32,
    /// Query pools for commands, and commands so far.
    chunks: Vec<vk::QueryPool>,
    commands: u32,
    open_labels: u32,
    /// The first failure; recording goes on into nothing and `finish` returns it.
    failure: Option<HalError>,
}

impl VulkanRecorder {
    pub(crate) fn new(gpu: Arc<Gpu>, desc: &RecorderDesc<'_>) -> Result<VulkanRecorder> {
        let recording = match gpu.take_recording() {
            Some(recording) => recording,
            None => {
                let (pool, raw) = create_commands(&gpu)?;
                Recording { pool, raw, ..Recording::default() }
            }
        };
        let mut recorder = VulkanRecorder {
            gpu,
            recording,
            label: desc.label.into(),
            timing: desc.timing,
            order: Order::default(),
            bound: None,
            range: 0,
            chunks: Vec::new(),
            commands: 0,
            open_labels: 0,
            failure: None,
        };
        recorder.begin(desc)?;
        Ok(recorder)
    }

    fn begin(&mut self, desc: &RecorderDesc<'_>) -> Result<()> {
        let gpu = self.gpu.clone();
        let gpu = gpu.as_ref();
        let fail = |call: &'static str| move |e| gpu.failure(call, e, desc.label);
        self.recording.slots.clear();
        self.recording.constants.clear();
        let timed = self.timing != Timing::Off && gpu.capabilities.ticks.is_some();
        if timed && self.recording.whole == vk::QueryPool::null() {
            self.recording.whole = create_queries(gpu, 2)?;
        }
        let once = match desc.reusable {
            true => vk::CommandBufferUsageFlags::empty(),
            false => vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT,
        };
        let raw = self.recording.raw;
        // SAFETY: this recorder alone has the pool, and no command buffer of it executes any more.
        unsafe {
            gpu.raw
                .reset_command_pool(self.recording.pool, vk::CommandPoolResetFlags::empty())
                .map_err(fail("vkResetCommandPool"))?;
            gpu.raw
                .begin_command_buffer(raw, &vk::CommandBufferBeginInfo::default().flags(once))
                .map_err(fail("vkBeginCommandBuffer"))?;
        }
        if gpu.labels().is_some() {
            gpu.name(raw, desc.label);
        }
        if timed {
            // SAFETY: the command buffer is being recorded by this thread; the pool has two queries.
            unsafe { gpu.raw.cmd_reset_query_pool(raw, self.recording.whole, 0, 2) };
        }
        self.order.full_barrier(gpu, raw);
        if timed {
            self.stamp(self.recording.whole, 0);
        }
        self.push_label(desc.label);
        Ok(())
    }

    /// Writes the time at which everything before has ended.
    fn stamp(&self, pool: vk::QueryPool, query: u32) {
        let stage = vk::PipelineStageFlags::BOTTOM_OF_PIPE;
        // SAFETY: the command buffer is being recorded by this thread; the query was reset in it and is written once.
        unsafe { self.gpu.raw.cmd_write_timestamp(self.recording.raw, stage, pool, query) };
    }

    /// Query pool and first of the two queries of the present command, if commands are timed.
    fn queries(&mut self) -> Option<(vk::QueryPool, u32)> {
        if self.timing != Timing::Dispatches || self.gpu.capabilities.ticks.is_none() || self.failure.is_some() {
            return None;
        }
        let (chunk, query) = ((self.commands * 2 / CHUNK) as usize, self.commands * 2 % CHUNK);
        if chunk == self.chunks.len() {
            let pool = match self.gpu.take_chunk() {
                Some(pool) => pool,
                None => create_queries(&self.gpu, CHUNK).map_err(|e| self.failure = Some(e)).ok()?,
            };
            self.chunks.push(pool);
            // SAFETY: as in `begin`; the pool has that many queries.
            unsafe { self.gpu.raw.cmd_reset_query_pool(self.recording.raw, pool, 0, CHUNK) };
        }
        Some((self.chunks[chunk], query))
    }

    /// Writes one command, timed and by itself if times of commands are kept.
    fn command(&mut self, label: &str, kind: &[Work], write: impl FnOnce(&mut Self)) {
        let queries = self.queries();
        let label = (!label.is_empty()).then_some(label);
        if let Some(label) = label {
            self.push_label(label);
        }
        if let Some((pool, query)) = queries {
            self.order.full_barrier(&self.gpu, self.recording.raw);
            self.stamp(pool, query);
        }
        self.order.before(&self.gpu, self.recording.raw, kind);
        write(self);
        if let Some((pool, query)) = queries {
            self.stamp(pool, query + 1);
        }
        if label.is_some() {
            self.pop_label();
        }
        self.commands += 1;
    }

    /// Makes slots known to the driver, unless they are those that it knows.
    fn bind(&mut self, pipeline: &Pipeline, bindings: &[Binding], rebound: bool) {
        let Recording { slots, fresh, raw, .. } = &mut self.recording;
        fresh.clear();
        fresh.extend(bindings.iter().map(|binding| vk::DescriptorBufferInfo {
            // SAFETY: the buffer is alive (contract of `dispatch`).
            buffer: unsafe { Buffer::get(binding.buffer) }.raw,
            offset: binding.offset,
            range: binding.len,
        }));
        let equal = |(a, b): (&vk::DescriptorBufferInfo, &vk::DescriptorBufferInfo)| {
            a.buffer == b.buffer && a.offset == b.offset && a.range == b.range
        };
        let known = !rebound && slots.len() == fresh.len() && slots.iter().zip(fresh.iter()).all(equal);
        if known || fresh.is_empty() {
            return;
        }
        std::mem::swap(slots, fresh);
        let data = slots.as_ptr().cast();
        // SAFETY: the template reads as many elements as the pipeline has slots, which is as many as there are.
        unsafe {
            self.gpu.push.cmd_push_descriptor_set_with_template(*raw, pipeline.template, pipeline.layout, 0, data);
        }
    }

    fn push_constants(&mut self, pipeline: &Pipeline, constants: &[u8]) {
        // Constants survive a change of pipeline when both layouts have the same range.
        let known = self.range == pipeline.constants && self.recording.constants == constants;
        self.range = pipeline.constants;
        if known || constants.is_empty() {
            return;
        }
        self.recording.constants.clear();
        self.recording.constants.extend_from_slice(constants);
        let stage = vk::ShaderStageFlags::COMPUTE;
        // SAFETY: the layout has a range of that size, a multiple of 4 (contract of `dispatch`).
        unsafe { self.gpu.raw.cmd_push_constants(self.recording.raw, pipeline.layout, stage, 0, constants) };
    }
}

impl Recorder for VulkanRecorder {
    unsafe fn dispatch(&mut self, command: &DispatchCommand<'_>) {
        // SAFETY: the pipeline is alive (contract).
        let pipeline = unsafe { Pipeline::get(command.pipeline) };
        debug_assert_eq!(command.bindings.len(), pipeline.slots as usize, "slots of {:?}", command.label);
        debug_assert_eq!(command.constants.len(), pipeline.constants as usize, "constants of {:?}", command.label);
        let kind: &[Work] = match command.grid {
            Grid::Groups(_) => &[Work::Kernel],
            Grid::Indirect { .. } => &[Work::Indirect, Work::Kernel],
        };
        self.command(command.label, kind, |this| {
            let raw = this.recording.raw;
            let rebound = this.bound != Some(command.pipeline);
            if rebound {
                // SAFETY: the command buffer is being recorded by this thread, here and below.
                unsafe { this.gpu.raw.cmd_bind_pipeline(raw, vk::PipelineBindPoint::COMPUTE, pipeline.raw) };
                this.bound = Some(command.pipeline);
            }
            this.bind(pipeline, command.bindings, rebound);
            this.push_constants(pipeline, command.constants);
            match command.grid {
                // SAFETY: as above.
                Grid::Groups([x, y, z]) => unsafe { this.gpu.raw.cmd_dispatch(raw, x, y, z) },
                // SAFETY: as above; 12 bytes from the offset lie within the buffer (contract).
                Grid::Indirect { buffer, offset } => unsafe {
                    this.gpu.raw.cmd_dispatch_indirect(raw, Buffer::get(buffer).raw, offset);
                },
            }
        });
    }

    unsafe fn copy(&mut self, source: RawBuffer, from: u64, destination: RawBuffer, to: u64, len: u64) {
        let region = [vk::BufferCopy { src_offset: from, dst_offset: to, size: len }];
        self.command("", &[Work::Transfer], |this| {
            // Vulkan has no copy of nothing.
            if len > 0 {
                // SAFETY: the ranges lie within live buffers and do not overlap (contract).
                unsafe {
                    let (source, destination) = (Buffer::get(source).raw, Buffer::get(destination).raw);
                    this.gpu.raw.cmd_copy_buffer(this.recording.raw, source, destination, &region);
                }
            }
        });
    }

    unsafe fn fill(&mut self, buffer: RawBuffer, offset: u64, len: u64, word: u32) {
        self.command("", &[Work::Transfer], |this| {
            if len > 0 {
                // SAFETY: the range lies within a live buffer, in multiples of 4 (contract).
                unsafe {
                    let buffer = Buffer::get(buffer).raw;
                    this.gpu.raw.cmd_fill_buffer(this.recording.raw, buffer, offset, len, word);
                }
            }
        });
    }

    fn barrier(&mut self) {
        self.order.barrier();
    }

    fn push_label(&mut self, label: &str) {
        let Some(functions) = self.gpu.labels() else { return };
        let text = &mut self.recording.text;
        text.clear();
        text.extend(label.bytes().filter(|byte| *byte != 0));
        text.push(0);
        let Ok(name) = CStr::from_bytes_with_nul(text) else { return };
        let info = vk::DebugUtilsLabelEXT::default().label_name(name);
        // SAFETY: the command buffer is being recorded by this thread.
        unsafe { functions.cmd_begin_debug_utils_label(self.recording.raw, &info) };
        self.open_labels += 1;
    }

    fn pop_label(&mut self) {
        let Some(functions) = self.gpu.labels().filter(|_| self.open_labels > 0) else { return };
        // SAFETY: as in `push_label`; a label is open.
        unsafe { functions.cmd_end_debug_utils_label(self.recording.raw) };
        self.open_labels -= 1;
    }

    fn finish(mut self: Box<Self>) -> Result<Arc<dyn CommandBuffer>> {
        let raw = self.recording.raw;
        while self.gpu.labels().is_some() && self.open_labels > 0 {
            self.pop_label();
        }
        let mut copied = None;
        if self.timing != Timing::Off && self.gpu.capabilities.ticks.is_some() {
            self.stamp(self.recording.whole, 1);
            if self.gpu.capabilities.quirks.queries_wait_for_queue && self.failure.is_none() {
                copied = Some(Copied::record(&self.gpu, &self.recording, &self.chunks, self.commands)?);
            }
        }
        host_barrier(&self.gpu, raw);
        // SAFETY: the command buffer is being recorded by this thread.
        unsafe { self.gpu.raw.end_command_buffer(raw) }
            .map_err(|e| self.gpu.failure("vkEndCommandBuffer", e, &self.label))?;
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        Ok(Arc::new(VulkanCommandBuffer {
            gpu: self.gpu.clone(),
            recording: std::mem::take(&mut self.recording),
            chunks: std::mem::take(&mut self.chunks),
            copied,
            timing: self.timing,
            commands: self.commands,
            submitted: AtomicBool::new(false),
        }))
    }
}

impl Drop for VulkanRecorder {
    fn drop(&mut self) {
        give_back(&self.gpu, &mut self.recording, &mut self.chunks);
    }
}
