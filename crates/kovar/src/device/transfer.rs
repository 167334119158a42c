use kovar_hal::{BufferDesc, HalError, MemoryKind, RawBuffer, RecorderDesc, SubmitDesc, Timing};

use super::core::Core;
use crate::Result;

/// Bytes that go through the staging buffer at a time, for memory that the host does not see.
const STAGING: u64 = 16 << 20;

impl Core {
    /// Copies on the device's queue between memory that the host sees and memory that it does not.
    fn transfer(&self, source: RawBuffer, from: u64, destination: RawBuffer, to: u64, len: u64) -> Result<()> {
        let desc = RecorderDesc { label: "host transfer", timing: Timing::Off, reusable: false };
        let mut recorder = self.hal.create_recorder(&desc)?;
        // SAFETY: both buffers are alive until the wait below, and the ranges lie in them.
        unsafe { recorder.copy(source, from, destination, to, len) };
        let commands = recorder.finish()?;
        let value = {
            let mut submitted = self.turn();
            let value = *submitted + 1;
            let desc = SubmitDesc {
                label: "host transfer",
                commands: std::slice::from_ref(&commands),
                waits: &[],
                signals: &[(self.timeline, value)],
            };
            // SAFETY: the commands are fresh and what they use is alive.
            unsafe { self.hal.submit(&desc) }?;
            *submitted = value;
            value
        };
        self.wait_for(value)?;
        Ok(commands.status()?)
    }

    /// Runs `step` over the data in pieces, with a staging buffer whose host address it gets.
    fn staged(
        &self,
        memory: MemoryKind,
        len: u64,
        mut step: impl FnMut(RawBuffer, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let size = STAGING.min(len.next_multiple_of(4));
        let staging = self.create(&BufferDesc { size, memory, label: "staging" })?;
        let result = (0..len).step_by(size as usize).try_for_each(|at| step(staging, at, size.min(len - at)));
        // SAFETY: each step has waited for its transfer.
        unsafe { self.hal.destroy_buffer(staging) };
        result
    }

    /// Writes to memory that the host does not see. It is copied in words: the last one may reach past the data only
    /// into the padding of the allocation.
    pub(crate) fn upload(&self, to: RawBuffer, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset + data.len() as u64;
        if !offset.is_multiple_of(4) || (!end.is_multiple_of(4) && end + 16 <= to.len) {
            return Err(HalError::Unsupported {
                what: "writing a part of a word in device memory",
                reason: format!("bytes {offset}..{end}; use shared memory or whole words"),
            }
            .into());
        }
        self.staged(MemoryKind::Shared, data.len() as u64, |staging, at, len| {
            let part = &data[at as usize..(at + len) as usize];
            // SAFETY: shared memory is visible to the host, the part is no longer than the staging buffer, and no
            // transfer is under way.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), staging.host, part.len()) };
            self.transfer(staging, 0, to, offset + at, len.next_multiple_of(4))
        })
    }

    /// Reads memory that the host does not see, in whole words.
    pub(crate) fn download(&self, from: RawBuffer, offset: u64, out: &mut [u8]) -> Result<()> {
        let first = offset - offset % 4;
        let words = (offset + out.len() as u64).next_multiple_of(4) - first;
        let mut whole = vec![0u8; words as usize];
        self.staged(MemoryKind::Readback, words, |staging, at, len| {
            self.transfer(from, first + at, staging, 0, len)?;
            let part = &mut whole[at as usize..(at + len) as usize];
            // SAFETY: readback memory is visible to the host, the part is no longer than the staging buffer, and the
            // transfer has ended.
            unsafe { std::ptr::copy_nonoverlapping(staging.host, part.as_mut_ptr(), part.len()) };
            Ok(())
        })?;
        let skip = (offset - first) as usize;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }
}
