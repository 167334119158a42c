//! The Metal calls of a submission as data: which method, in which order, with which object.
//!
//! `script.rs` decides them, `check.rs` holds them against Apple's rules, `carry_out.rs` makes them.

use super::list::{Bound, Object};

/// Largest number of samples in one counter sample buffer: 32 KiB of 8-byte timestamps on Apple silicon.
pub(crate) const SAMPLES: u32 = 4096;

/// Buffer and threadgroup-memory arguments of a kernel ("Metal feature set tables", function arguments).
pub(crate) const ARGUMENTS: usize = 31;

/// `setBytes:length:atIndex:` is "for data smaller than 4 KB": than this.
pub(crate) const BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// A compute encoder with `MTLDispatchTypeConcurrent`.
    Compute,
    /// A blit encoder.
    Blit,
}

/// The two samples that a pass takes at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Samples {
    /// The `MTLCounterSampleBuffer`.
    pub(crate) buffer: Object,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// One call, named after Metal's method. Those between `Open` and `End` go to the open encoder, the others to the
/// command buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call<'a> {
    /// `encodeWaitForEvent:value:`
    WaitEvent(Object, u64),
    /// `encodeSignalEvent:value:`
    SignalEvent(Object, u64),
    /// `computeCommandEncoderWith…:`, `blitCommandEncoderWith…:`, and `setLabel:` where there is one.
    Open { pass: Pass, samples: Option<Samples>, label: &'a str },
    /// `waitForFence:`
    WaitFence,
    /// `updateFence:`
    UpdateFence,
    /// `endEncoding`
    End,
    /// `pushDebugGroup:`
    PushGroup(&'a str),
    /// `popDebugGroup`
    PopGroup,
    /// `setComputePipelineState:`
    SetPipeline(Object),
    /// `setBuffer:offset:atIndex:`
    SetBuffer(Bound, u32),
    /// `setBufferOffset:atIndex:`
    SetOffset(u64, u32),
    /// `setBytes:length:atIndex:`
    SetBytes(&'a [u8], u32),
    /// `setThreadgroupMemoryLength:atIndex:`
    SetGroupMemory(u32, u32),
    /// `dispatchThreadgroups:threadsPerThreadgroup:`
    Dispatch { groups: [u32; 3], group_size: [u32; 3] },
    /// `dispatchThreadgroupsWithIndirectBuffer:indirectBufferOffset:threadsPerThreadgroup:`
    DispatchIndirect { at: Bound, group_size: [u32; 3] },
    /// `memoryBarrierWithScope:` of buffers.
    Barrier,
    /// `copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:`
    Copy { from: Bound, to: Bound, len: u64 },
    /// `fillBuffer:range:value:`
    Fill { to: Bound, len: u64, byte: u8 },
    /// `commit`
    Commit,
}

/// Takes the calls, in order.
pub(crate) trait Sink<'a> {
    fn call(&mut self, call: Call<'a>);
}

/// Keeps them.
impl<'a> Sink<'a> for Vec<Call<'a>> {
    fn call(&mut self, call: Call<'a>) {
        self.push(call);
    }
}
