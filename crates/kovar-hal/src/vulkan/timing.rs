use std::sync::Arc;
use std::time::Instant;

use ash::{ext, khr, vk};

use super::device::Gpu;
use super::memory::Buffer;
use super::recording::Recording;
use crate::{BufferDesc, ClockPair, MemoryKind, RawBuffer, Result, TimeSpan};

/// Queries of one pool of a recording that times its commands: two a command.
pub(crate) const CHUNK: u32 = 1024;

/// How device ticks become nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    /// Nanoseconds a tick, with 32 bits after the point: a product with a tick count stays exact beyond 2^53.
    period: u64,
    mask: u64,
}

impl Ticks {
    /// `None` for a queue that keeps no time.
    pub(crate) fn new(period: f32, valid_bits: u32) -> Option<Ticks> {
        let mask = u64::MAX.checked_shr(64 - valid_bits.min(64)).filter(|_| valid_bits > 0)?;
        Some(Ticks { period: (f64::from(period) * (1u64 << 32) as f64).round() as u64, mask })
    }

    pub(crate) fn nanoseconds(self, ticks: u64) -> u64 {
        ((u128::from(ticks & self.mask) * u128::from(self.period)) >> 32) as u64
    }

    /// The counter may have wrapped between start and end.
    pub(crate) fn span(self, start: u64, end: u64) -> TimeSpan {
        let from = self.nanoseconds(start);
        TimeSpan { start: from, end: from + self.nanoseconds(end.wrapping_sub(start)) }
    }
}

/// Reads the device's clock outside of a command buffer.
pub(crate) enum Clocks {
    Khr(khr::calibrated_timestamps::Device),
    Ext(ext::calibrated_timestamps::Device),
}

impl Clocks {
    fn device_ticks(&self) -> Option<u64> {
        let wanted = [vk::CalibratedTimestampInfoKHR::default().time_domain(vk::TimeDomainKHR::DEVICE)];
        // SAFETY: the device is alive and has the extension; every device offers its own time domain.
        let (ticks, _) = unsafe {
            match self {
                Clocks::Khr(functions) => functions.get_calibrated_timestamps(&wanted),
                Clocks::Ext(functions) => functions.get_calibrated_timestamps(&wanted),
            }
        }
        .ok()?;
        ticks.first().copied()
    }

    /// The tightest of a few readings between two looks at the host's clock.
    pub(crate) fn read(&self, ticks: Ticks) -> Option<ClockPair> {
        let mut best: Option<ClockPair> = None;
        for _ in 0..4 {
            let before = Instant::now();
            let device = ticks.nanoseconds(self.device_ticks()?);
            let error = before.elapsed() / 2;
            if best.is_none_or(|best| error < best.error) {
                best = Some(ClockPair { device, host: before + error, error });
            }
        }
        best
    }
}

/// Timestamps of an execution that has ended, as pairs of start and end.
pub(crate) fn spans(gpu: &Gpu, values: &[u64]) -> Vec<Option<TimeSpan>> {
    let Some(ticks) = gpu.capabilities.ticks else { return vec![None; values.len() / 2] };
    values.chunks_exact(2).map(|pair| Some(ticks.span(pair[0], pair[1]))).collect()
}

/// The first timestamps of a query pool, which has been written by an execution that has ended.
pub(crate) fn read_queries(gpu: &Gpu, pool: vk::QueryPool, values: &mut [u64]) -> bool {
    // SAFETY: the pool is alive and has at least so many queries, each reset and written by the execution.
    unsafe { gpu.raw.get_query_pool_results(pool, 0, values, vk::QueryResultFlags::TYPE_64) }.is_ok()
}

/// Timestamps that the device itself copies to memory of the host at the end of a recording, for a driver whose queries
/// cannot be read while later work waits.
pub(crate) struct Copied {
    gpu: Arc<Gpu>,
    buffer: RawBuffer,
}

impl Copied {
    /// Records the copies, of the two queries of the whole and of two a command.
    pub(crate) fn record(
        gpu: &Arc<Gpu>,
        recording: &Recording,
        chunks: &[vk::QueryPool],
        commands: u32,
    ) -> Result<Copied> {
        let timed = if chunks.is_empty() { 0 } else { commands * 2 };
        let size = u64::from(2 + timed) * 8;
        let buffer = gpu.create_buffer(&BufferDesc { size, memory: MemoryKind::Readback, label: "timestamps" })?;
        let copied = Copied { gpu: gpu.clone(), buffer };
        let lists = std::iter::once((recording.whole, 2)).chain(
            (0..timed).step_by(CHUNK as usize).zip(chunks).map(|(first, pool)| (*pool, (timed - first).min(CHUNK))),
        );
        let mut at = 0;
        for (pool, count) in lists {
            let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
            // SAFETY: the command buffer is being recorded by this thread; it resets and writes each of the queries; the
            // buffer, alive until the command buffer is gone, has 8 bytes for each.
            unsafe {
                let to = Buffer::get(buffer).raw;
                gpu.raw.cmd_copy_query_pool_results(recording.raw, pool, 0, count, to, at, 8, flags);
            }
            at += u64::from(count) * 8;
        }
        Ok(copied)
    }

    /// Timestamps from the `first` on.
    pub(crate) fn read(&self, first: usize, values: &mut [u64]) -> bool {
        let there = (first + values.len()) * 8 <= self.buffer.len as usize && !self.buffer.host.is_null();
        if there {
            // SAFETY: readback memory is visible to the host, the range lies in it, and the execution has ended.
            unsafe {
                let from = self.buffer.host.cast::<u64>().add(first);
                std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), values.len());
            }
        }
        there
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // SAFETY: made in `record`; dropping a command buffer that executes is the caller's error.
        unsafe { self.gpu.destroy_buffer(self.buffer) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds() {
        assert!(Ticks::new(1.0, 0).is_none());
        let one = Ticks::new(1.0, 64).unwrap();
        assert_eq!(one.nanoseconds(u64::MAX), u64::MAX);
        let half = Ticks::new(0.5, 64).unwrap();
        assert_eq!(half.nanoseconds((1 << 60) + 3), (1 << 59) + 1);
        let slow = Ticks::new(52.083332, 36).unwrap();
        assert_eq!(slow.nanoseconds(19_200_000), 999_999_975);
    }

    #[test]
    fn counters_may_wrap_within_a_span() {
        let ticks = Ticks::new(1.0, 36).unwrap();
        let span = ticks.span((1 << 36) - 10, 5);
        assert_eq!((span.start, span.end), ((1 << 36) - 10, (1 << 36) + 5));
    }
}
