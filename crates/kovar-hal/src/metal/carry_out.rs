use std::ptr::NonNull;

use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBarrierScope, MTLBlitCommandEncoder, MTLBlitPassDescriptor, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder,
    MTLComputeCommandEncoder, MTLComputePassDescriptor, MTLComputePipelineState, MTLCounterSampleBuffer,
    MTLDispatchType, MTLFence, MTLSharedEvent, MTLSize,
};

use super::call::{Call, Pass, Samples, Sink};
use super::list::{Bound, Object};
use super::object::{Metal, borrow};

/// Makes the calls of a script, one for one.
///
/// Every `unsafe` block here rests on the same two facts. Addresses are of living objects of the protocol that the call
/// names: the caller of `Recorder` and `Device::submit` vouches for handles, and the device holds the rest. Ranges lie
/// within their buffers, and indices and alignments are Apple's: the former is the caller's word, the latter what
/// `check.rs` tests of every script.
pub(crate) struct CarryOut<'d> {
    commands: &'d ProtocolObject<dyn MTLCommandBuffer>,
    fence: &'d ProtocolObject<dyn MTLFence>,
    encoder: Encoder,
    /// Metal gave no encoder: the rest is skipped, and the command buffer never committed.
    pub(crate) failed: bool,
}

enum Encoder {
    None,
    Compute(Metal<dyn MTLComputeCommandEncoder>),
    Blit(Metal<dyn MTLBlitCommandEncoder>),
}

fn size([width, height, depth]: [u32; 3]) -> MTLSize {
    MTLSize { width: width as usize, height: height as usize, depth: depth as usize }
}

/// # Safety
/// The buffer is alive.
unsafe fn buffer<'a>(bound: Bound) -> &'a ProtocolObject<dyn MTLBuffer> {
    // SAFETY: passed on from the caller.
    unsafe { borrow(bound.buffer) }
}

impl<'d> CarryOut<'d> {
    /// # Safety
    /// Objects of the calls are alive until the command buffer has ended, and ranges lie within their buffers.
    pub(crate) unsafe fn new(
        commands: &'d ProtocolObject<dyn MTLCommandBuffer>,
        fence: &'d ProtocolObject<dyn MTLFence>,
    ) -> Self {
        CarryOut { commands, fence, encoder: Encoder::None, failed: false }
    }

    /// In a pool.
    fn open(&mut self, pass: Pass, samples: Option<Samples>, label: &str) {
        let encoder = match pass {
            Pass::Compute => self.compute(samples).map(Encoder::Compute),
            Pass::Blit => self.blit(samples).map(Encoder::Blit),
        };
        self.failed |= encoder.is_none();
        self.encoder = encoder.unwrap_or(Encoder::None);
        if !label.is_empty() {
            let label = NSString::from_str(label);
            self.on_encoder(|encoder| encoder.setLabel(Some(&label)));
        }
    }

    /// In a pool.
    fn compute(&self, samples: Option<Samples>) -> Option<Metal<dyn MTLComputeCommandEncoder>> {
        let Some(samples) = samples else {
            return self.commands.computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent);
        };
        let desc = MTLComputePassDescriptor::computePassDescriptor();
        desc.setDispatchType(MTLDispatchType::Concurrent);
        // SAFETY: attachment 0 exists always; the indices are below the buffer's count; the buffer is alive (see the type).
        unsafe {
            let attachment = desc.sampleBufferAttachments().objectAtIndexedSubscript(0);
            attachment.setSampleBuffer(Some(borrow::<dyn MTLCounterSampleBuffer>(samples.buffer)));
            attachment.setStartOfEncoderSampleIndex(samples.start as usize);
            attachment.setEndOfEncoderSampleIndex(samples.end as usize);
        }
        self.commands.computeCommandEncoderWithDescriptor(&desc)
    }

    /// In a pool.
    fn blit(&self, samples: Option<Samples>) -> Option<Metal<dyn MTLBlitCommandEncoder>> {
        let Some(samples) = samples else {
            return self.commands.blitCommandEncoder();
        };
        let desc = MTLBlitPassDescriptor::blitPassDescriptor();
        // SAFETY: as in `compute`.
        unsafe {
            let attachment = desc.sampleBufferAttachments().objectAtIndexedSubscript(0);
            attachment.setSampleBuffer(Some(borrow::<dyn MTLCounterSampleBuffer>(samples.buffer)));
            attachment.setStartOfEncoderSampleIndex(samples.start as usize);
            attachment.setEndOfEncoderSampleIndex(samples.end as usize);
        }
        self.commands.blitCommandEncoderWithDescriptor(&desc)
    }

    /// For calls that both kinds of encoder take.
    fn on_encoder(&self, call: impl FnOnce(&ProtocolObject<dyn MTLCommandEncoder>)) {
        match &self.encoder {
            Encoder::None => {}
            Encoder::Compute(encoder) => call(ProtocolObject::from_ref(&**encoder)),
            Encoder::Blit(encoder) => call(ProtocolObject::from_ref(&**encoder)),
        }
    }

    fn fence(&self, update: bool) {
        match (&self.encoder, update) {
            (Encoder::None, _) => {}
            (Encoder::Compute(encoder), false) => encoder.waitForFence(self.fence),
            (Encoder::Compute(encoder), true) => encoder.updateFence(self.fence),
            (Encoder::Blit(encoder), false) => encoder.waitForFence(self.fence),
            (Encoder::Blit(encoder), true) => encoder.updateFence(self.fence),
        }
    }

    fn event(&self, event: Object, value: u64, signal: bool) {
        // SAFETY: the event is alive (see the type).
        let event = unsafe { borrow::<dyn MTLSharedEvent>(event) };
        let event = ProtocolObject::from_ref(event);
        if signal {
            self.commands.encodeSignalEvent_value(event, value);
        } else {
            self.commands.encodeWaitForEvent_value(event, value);
        }
    }
}

impl<'a> Sink<'a> for CarryOut<'_> {
    /// In a pool.
    #[inline]
    fn call(&mut self, call: Call<'a>) {
        if self.failed {
            return;
        }
        match call {
            Call::WaitEvent(event, value) => self.event(event, value, false),
            Call::SignalEvent(event, value) => self.event(event, value, true),
            Call::Open { pass, samples, label } => self.open(pass, samples, label),
            Call::WaitFence => self.fence(false),
            Call::UpdateFence => self.fence(true),
            Call::End => {
                self.on_encoder(|encoder| encoder.endEncoding());
                self.encoder = Encoder::None;
            }
            Call::PushGroup(name) => self.on_encoder(|encoder| encoder.pushDebugGroup(&NSString::from_str(name))),
            Call::PopGroup => self.on_encoder(|encoder| encoder.popDebugGroup()),
            // Made by the queue, when all command buffers of the submission are encoded.
            Call::Commit => {}
            call => match &self.encoder {
                Encoder::None => {}
                Encoder::Compute(encoder) => on_compute(encoder, call),
                Encoder::Blit(encoder) => on_blit(encoder, call),
            },
        }
    }
}

#[inline]
fn on_compute(encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, call: Call<'_>) {
    match call {
        Call::SetPipeline(state) => {
            // SAFETY: the pipeline is alive (see `CarryOut`).
            encoder.setComputePipelineState(unsafe { borrow::<dyn MTLComputePipelineState>(state) });
        }
        // SAFETY: the buffer is alive, the offset within it, the index below 31 (see `CarryOut`).
        Call::SetBuffer(bound, index) => unsafe {
            encoder.setBuffer_offset_atIndex(Some(buffer(bound)), bound.offset as usize, index as usize);
        },
        // SAFETY: a buffer is bound at the index, and the offset within it (see `CarryOut`).
        Call::SetOffset(offset, index) => unsafe { encoder.setBufferOffset_atIndex(offset as usize, index as usize) },
        // SAFETY: Metal copies the bytes, less than 4 KiB, before it returns; the index is below 31 (see `CarryOut`).
        Call::SetBytes(bytes, index) => unsafe {
            encoder.setBytes_length_atIndex(NonNull::from(bytes).cast(), bytes.len(), index as usize);
        },
        // SAFETY: a multiple of 16, and with its like within the device's limit, as `create_pipeline` checked.
        Call::SetGroupMemory(len, index) => unsafe {
            encoder.setThreadgroupMemoryLength_atIndex(len as usize, index as usize);
        },
        Call::Dispatch { groups, group_size } => {
            encoder.dispatchThreadgroups_threadsPerThreadgroup(size(groups), size(group_size));
        }
        // SAFETY: the buffer is alive and holds three u32 at the offset, a multiple of 4 (see `CarryOut`).
        Call::DispatchIndirect { at, group_size } => unsafe {
            encoder.dispatchThreadgroupsWithIndirectBuffer_indirectBufferOffset_threadsPerThreadgroup(
                buffer(at),
                at.offset as usize,
                size(group_size),
            );
        },
        Call::Barrier => encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers),
        _ => debug_assert!(false, "{call:?} is not for a compute encoder"),
    }
}

fn on_blit(encoder: &ProtocolObject<dyn MTLBlitCommandEncoder>, call: Call<'_>) {
    match call {
        // SAFETY: the buffers are alive, both ranges within them and multiples of 4 (see `CarryOut`).
        Call::Copy { from, to, len } => unsafe {
            encoder.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                buffer(from),
                from.offset as usize,
                buffer(to),
                to.offset as usize,
                len as usize,
            );
        },
        Call::Fill { to, len, byte } => {
            let range = NSRange::new(to.offset as usize, len as usize);
            // SAFETY: the buffer is alive (see `CarryOut`).
            encoder.fillBuffer_range_value(unsafe { buffer(to) }, range, byte);
        }
        _ => debug_assert!(false, "{call:?} is not for a blit encoder"),
    }
}
