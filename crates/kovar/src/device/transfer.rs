use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use kovar_hal::{BufferDesc, HalError, MemoryKind, RawBuffer, RecorderDesc, Timing};

use super::core::{Core, lock};
use super::submit::Work;
use crate::Result;
use crate::buffer::Allocation;
use crate::flight::{End, Used};
use crate::hold::Held;
use crate::poison::{Effect, Use};
use crate::staging::{PART, RING, Ring};

/// Bytes that were handed over since the last call.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(u64);

/// Parts of a download that are copied ahead of the host.
const AHEAD: usize = 2;

/// A part of a download that is under way.
struct Fetch {
    value: u64,
    end: Arc<OnceLock<End>>,
    /// Where it lies in the ring, and which bytes of the result it is.
    staged: *const u8,
    bytes: Range<usize>,
}

impl Core {
    /// Writes to memory that the host does not see: through the ring, in parts that are copied while the next is filled.
    /// It returns when the last one is handed over. It is copied in words: the last one may reach past the data only into
    /// the padding of the allocation.
    pub(crate) fn upload(&self, to: &Arc<Allocation>, offset: u64, data: &[u8], progress: Progress<'_>) -> Result<()> {
        let end = offset + data.len() as u64;
        if !offset.is_multiple_of(4) || (!end.is_multiple_of(4) && end + 16 <= to.raw.len) {
            return Err(HalError::Unsupported {
                what: "writing a part of a word in device memory",
                reason: format!("bytes {offset}..{end}; use shared memory or whole words"),
            }
            .into());
        }
        for (part, at) in data.chunks(PART).zip((offset..).step_by(PART)) {
            self.upload_part(to, at, part)?;
            progress(part.len() as u64);
        }
        // A flight holds its buffer, which holds the core, which holds the flight.
        if self.closed.load(Ordering::SeqCst) {
            self.wait_for(to.busy_until(true))?;
            self.settle();
        }
        Ok(())
    }

    fn upload_part(&self, to: &Arc<Allocation>, at: u64, part: &[u8]) -> Result<()> {
        let (bytes, words) = (part.len() as u64, (part.len() as u64).next_multiple_of(4));
        let mut ring = lock(&self.ring);
        let (staging, from) = self.room(&mut ring, words)?;
        // SAFETY: the host sees readback memory, these bytes of it are free, and nobody else has the ring's lock.
        unsafe {
            let start = staging.host.add(from as usize);
            std::ptr::copy_nonoverlapping(part.as_ptr(), start, part.len());
            start.add(part.len()).write_bytes(0, (words - bytes) as usize);
        }
        let (value, _) = self.transfer("upload", (staging, from), to, Use::Write, at..at + bytes)?;
        ring.slices.take(from, words, value);
        self.counters.bytes_staged.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Reads memory that the host does not see, in whole words.
    pub(crate) fn download(&self, from: &Arc<Allocation>, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset + out.len() as u64;
        let mut ring = lock(&self.ring);
        let mut ahead: VecDeque<Fetch> = VecDeque::with_capacity(AHEAD);
        for at in (offset - offset % 4..end).step_by(PART) {
            let words = (end - at).next_multiple_of(4).min(PART as u64);
            if ahead.len() == AHEAD {
                self.fetched(&mut ahead, out)?;
            }
            // With fewer parts of its own ahead, this waits for none of them.
            let (staging, to) = self.room(&mut ring, words)?;
            let (value, done) = self.transfer("download", (staging, to), from, Use::Read, at..at + words)?;
            ring.slices.take(to, words, value);
            let (first, last) = (at.max(offset), (at + words).min(end));
            let bytes = (first - offset) as usize..(last - offset) as usize;
            let staged = staging.host.wrapping_add((to + first - at) as usize);
            ahead.push_back(Fetch { value, end: done, staged, bytes });
        }
        while !ahead.is_empty() {
            self.fetched(&mut ahead, out)?;
        }
        Ok(())
    }

    /// Waits for the oldest part of a download and takes it out of the ring.
    fn fetched(&self, ahead: &mut VecDeque<Fetch>, out: &mut [u8]) -> Result<()> {
        let Some(Fetch { value, end, staged, bytes }) = ahead.pop_front() else { return Ok(()) };
        self.wait_for(value)?;
        self.settle();
        if let Some(End { status: Err(error), .. }) = end.get() {
            return Err(error.clone().into());
        }
        let part = &mut out[bytes];
        // SAFETY: the host sees readback memory; the copy into these bytes has ended, and they stay taken for as long as
        // `download` has the ring's lock and fewer than `AHEAD` parts after this one.
        unsafe { std::ptr::copy_nonoverlapping(staged, part.as_mut_ptr(), part.len()) };
        self.counters.bytes_staged.fetch_add(part.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The ring's memory, and where in it a part has room. Waits for older transfers only if there is none.
    fn room(&self, ring: &mut Ring, len: u64) -> Result<(RawBuffer, u64)> {
        let staging = match ring.raw {
            Some(raw) => raw,
            None => {
                let desc = BufferDesc { size: RING, memory: MemoryKind::Readback, label: "staging ring" };
                *ring.raw.insert(self.create(&desc)?)
            }
        };
        loop {
            if let Some(at) = ring.slices.room(len) {
                return Ok((staging, at));
            }
            if let Some(oldest) = ring.slices.oldest() {
                if !self.has_reached(oldest)? {
                    self.counters.staging_waits.fetch_add(1, Ordering::Relaxed);
                    self.wait_for(oldest)?;
                }
                self.settle();
            }
            ring.slices.free(self.reached());
        }
    }

    /// Hands over a copy between the ring and bytes of an allocation, which it keeps alive. The caller has a host view of
    /// the allocation, so that nothing else writes these bytes.
    fn transfer(
        &self,
        label: &str,
        (staging, at): (RawBuffer, u64),
        allocation: &Arc<Allocation>,
        how: Use,
        bytes: Range<u64>,
    ) -> Result<(u64, Arc<OnceLock<End>>)> {
        let mut recorder = self.hal.create_recorder(&RecorderDesc { label, timing: Timing::Off, reusable: false })?;
        let words = (bytes.end - bytes.start).next_multiple_of(4);
        // SAFETY: the ring and the allocation live until the copy has ended: the ring is the device's, the allocation is
        // kept by the flight. Both ranges are whole words that lie in them.
        unsafe {
            match how {
                Use::Read => recorder.copy(allocation.raw, bytes.start, staging, at, words),
                Use::Write | Use::Update => recorder.copy(staging, at, allocation.raw, bytes.start, words),
            }
        }
        let mut effect = Effect::default();
        effect.add(how, &bytes);
        let used = [Used { allocation: Held::counted(allocation), effect }].into();
        let (commands, kernels) = (recorder.finish()?, [].into());
        let work = Work::new(commands, used, kernels, label);
        self.reap()?;
        self.launch(&mut self.turn(), work, None)
    }
}
