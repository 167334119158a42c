use std::time::Instant;

use ash::{ext, khr, vk};

use super::device::Gpu;
use crate::{ClockPair, TimeSpan};

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

/// Spans of the pairs of timestamps of a query pool, which has been written by an execution that has ended.
pub(crate) fn read_spans(gpu: &Gpu, pool: vk::QueryPool, count: u32) -> Vec<Option<TimeSpan>> {
    let mut values = vec![0u64; count as usize * 2];
    // SAFETY: the pool is alive and has at least so many queries, each reset and written by the execution.
    let read = unsafe { gpu.raw.get_query_pool_results(pool, 0, &mut values, vk::QueryResultFlags::TYPE_64) };
    match (read, gpu.capabilities.ticks) {
        (Ok(()), Some(ticks)) => values.chunks_exact(2).map(|pair| Some(ticks.span(pair[0], pair[1]))).collect(),
        _ => vec![None; count as usize],
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
