//! Ticks of the GPU's clock as nanoseconds of the host's.
//!
//! The device's clock, as the contract calls it, is here the host's uptime in nanoseconds (`CLOCK_UPTIME_RAW`, which is
//! Mach absolute time): `GPUStartTime` and `GPUEndTime` are in it already. Counter samples are in ticks of the GPU, which
//! Apple converts through two pairs of readings ("Converting GPU timestamps into CPU time"); on Apple silicon a tick is a
//! nanosecond.

use crate::TimeSpan;

/// `MTLCounterErrorValue`: the sample could not be taken.
const ERROR: u64 = u64::MAX;

/// How far a measured tick may be from a nanosecond and still be taken for one: readings a few milliseconds apart are no
/// better than that.
const TOLERANCE: f64 = 0.01;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) gpu: u64,
    pub(crate) host: u64,
}

impl Reading {
    /// Of what `sampleTimestamps:gpuTimestamp:` gave, and the uptime before and after that call. Its own CPU time is
    /// taken if it lies between the two, so is in the same unit and scale; else the middle is.
    pub(crate) fn new(cpu: u64, gpu: u64, before: u64, after: u64) -> Reading {
        let host = if (before..=after).contains(&cpu) { cpu } else { before + (after.saturating_sub(before)) / 2 };
        Reading { gpu, host }
    }
}

/// The relation of the clocks, from the first reading and the latest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Calibration {
    first: Reading,
    last: Reading,
}

impl Calibration {
    pub(crate) fn new(first: Reading) -> Calibration {
        Calibration { first, last: first }
    }

    pub(crate) fn update(&mut self, reading: Reading) {
        self.last = reading;
    }

    /// Nanoseconds of a tick.
    fn tick(&self) -> f64 {
        let ticks = self.last.gpu.saturating_sub(self.first.gpu);
        let nanoseconds = self.last.host.saturating_sub(self.first.host);
        if ticks == 0 || nanoseconds == 0 {
            return 1.0;
        }
        let tick = nanoseconds as f64 / ticks as f64;
        if (tick - 1.0).abs() < TOLERANCE { 1.0 } else { tick }
    }

    fn host(&self, gpu: u64) -> u64 {
        let distance = self.last.gpu as i128 - gpu as i128;
        let nanoseconds = (distance as f64 * self.tick()).round() as i128;
        u64::try_from(self.last.host as i128 - nanoseconds).unwrap_or(0)
    }

    /// The time between two samples; `None` if one was not taken, which shows as zero or as the error value.
    pub(crate) fn span(&self, start: u64, end: u64) -> Option<TimeSpan> {
        let taken = |sample: u64| sample != 0 && sample != ERROR;
        (taken(start) && taken(end) && start <= end).then(|| TimeSpan { start: self.host(start), end: self.host(end) })
    }
}

/// A span of `GPUStartTime` and `GPUEndTime`, in seconds; zero if the device did not get there.
pub(crate) fn seconds(start: f64, end: f64) -> Option<TimeSpan> {
    let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
    (start > 0.0 && end >= start).then(|| TimeSpan { start: nanoseconds(start), end: nanoseconds(end) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_of_the_host() {
        // A clock of 24 MHz: 125/3 ns a tick.
        let mut clock = Calibration::new(Reading { gpu: 1_000, host: 50_000 });
        clock.update(Reading { gpu: 1_000 + 24_000_000, host: 50_000 + 1_000_000_000 });
        let span = clock.span(1_000 + 12_000_000, 1_000 + 18_000_000).unwrap();
        assert_eq!(span, TimeSpan { start: 500_050_000, end: 750_050_000 });
    }

    #[test]
    fn a_tick_near_a_nanosecond_is_one() {
        let mut clock = Calibration::new(Reading { gpu: 0, host: 7 });
        clock.update(Reading { gpu: 2_000_000, host: 2_003_007 });
        assert_eq!(clock.span(1_999_000, 2_000_000), Some(TimeSpan { start: 2_002_007, end: 2_003_007 }));
    }

    #[test]
    fn missing_samples_have_no_time() {
        let clock = Calibration::new(Reading { gpu: 5, host: 5 });
        assert_eq!(clock.span(0, 9), None);
        assert_eq!(clock.span(4, ERROR), None);
        assert_eq!(clock.span(9, 4), None);
        assert_eq!(seconds(0.0, 0.0), None);
        assert_eq!(seconds(1.5, 2.0), Some(TimeSpan { start: 1_500_000_000, end: 2_000_000_000 }));
    }

    #[test]
    fn a_cpu_time_in_another_unit_is_not_taken() {
        assert_eq!(Reading::new(105, 1, 100, 110), Reading { gpu: 1, host: 105 });
        assert_eq!(Reading::new(4, 1, 100, 110), Reading { gpu: 1, host: 105 });
    }
}
