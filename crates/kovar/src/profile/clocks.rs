//! From the device's clock to the host's.

use std::time::{Duration, Instant};

use kovar_hal::ClockPair;

use crate::{Device, EncoderOptions, Result, Timing};

/// Label of the command buffer that tells a device's time.
pub(super) const LABEL: &str = "kovar: clock";
/// Share by which a measured rate may be wrong and still be used: nominal rates are as good.
const RATE_ERROR: f64 = 1e-4;

/// Two moments on both clocks, between which and around which device times become host times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The earlier.
    pub first: ClockPair,
    /// The later.
    pub last: ClockPair,
}

impl Clock {
    /// Nanoseconds of the host for one of the device, where the pairs are far enough apart to tell; else 1.
    pub fn rate(&self) -> f64 {
        let host = self.last.host.saturating_duration_since(self.first.host).as_nanos() as f64;
        let device = self.last.device.saturating_sub(self.first.device) as f64;
        let error = (self.first.error + self.last.error).as_nanos() as f64;
        if device == 0.0 || error > host * RATE_ERROR { 1.0 } else { host / device }
    }

    /// The host's time at a moment of the device's clock, from the pair that is nearer. `None` before the host's clock
    /// began.
    pub fn host(&self, device: u64) -> Option<Instant> {
        let nearer = if self.last.device.abs_diff(device) < self.first.device.abs_diff(device) {
            &self.last
        } else {
            &self.first
        };
        let distance = Duration::from_nanos((nearer.device.abs_diff(device) as f64 * self.rate()).round() as u64);
        if device >= nearer.device { nearer.host.checked_add(distance) } else { nearer.host.checked_sub(distance) }
    }

    /// How far a host time between the pairs may be off.
    pub fn error(&self) -> Duration {
        self.first.error.max(self.last.error)
    }

    /// From the first pair of this to the last of a later one.
    pub(crate) fn until(self, later: Clock) -> Clock {
        Clock { first: self.first, last: later.last }
    }
}

/// A look at both clocks.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// `None` if the device keeps no time.
    pub(crate) pair: Option<ClockPair>,
    /// The submission that it took.
    pub(crate) submission: Option<u64>,
}

/// Both clocks now: by the driver's means, else by an empty command buffer between two looks at the host's clock.
pub(crate) fn read(device: &Device) -> Result<Reading> {
    match device.0.core.hal.clocks() {
        Some(pair) => Ok(Reading { pair: Some(pair), submission: None }),
        None if device.info().features.timestamp_ns.is_some() => bracket(device),
        None => Ok(Reading::default()),
    }
}

/// The device's time between two looks at the host's clock.
fn bracket(device: &Device) -> Result<Reading> {
    let options = EncoderOptions { label: LABEL.into(), timing: Timing::Whole, ..EncoderOptions::default() };
    let encoder = device.encoder_with(options)?;
    let before = Instant::now();
    let submission = encoder.commit()?;
    let number = submission.number();
    let done = submission.wait()?;
    let error = before.elapsed() / 2;
    let pair = |device| ClockPair { device, host: before + error, error };
    let pair = done.time.map(|time| pair(time.start + (time.end - time.start) / 2));
    Ok(Reading { pair, submission: Some(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(start: Instant, host: u64, device: u64, error: u64) -> ClockPair {
        ClockPair { device, host: start + Duration::from_nanos(host), error: Duration::from_nanos(error) }
    }

    #[test]
    fn a_drifting_clock_is_followed() {
        let start = Instant::now();
        // The device's clock loses a tenth of a percent.
        let clock = Clock { first: pair(start, 0, 5_000, 500), last: pair(start, 1_000_000_000, 999_005_000, 500) };
        let middle = clock.host(499_505_000).unwrap().duration_since(start).as_nanos();
        assert!(middle.abs_diff(500_000_000) < 10, "{middle}");
        assert_eq!(clock.error(), Duration::from_nanos(500));
    }

    #[test]
    fn pairs_too_near_tell_no_rate() {
        let start = Instant::now();
        let clock = Clock { first: pair(start, 0, 100, 500), last: pair(start, 2_000, 1_500, 500) };
        assert_eq!(clock.rate(), 1.0);
        assert_eq!(clock.host(600), Some(start + Duration::from_nanos(500)));
    }

    proptest! {
        #[test]
        fn order_is_kept_around_each_pair(a in 0u64..2_000_000_000, b in 0u64..2_000_000_000) {
            let start = Instant::now() + Duration::from_secs(10);
            let clock = Clock {
                first: pair(start, 0, 500_000_000, 100),
                last: pair(start, 1_001_000_000, 1_500_000_000, 100),
            };
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(clock.host(a) <= clock.host(b).map(|time| time + Duration::from_nanos(1)));
        }
    }

    #[test]
    fn a_device_without_a_clock_of_its_own_is_bracketed() {
        let device = Device::open(&crate::DeviceOptions::of(crate::Backend::Cpu)).unwrap();
        let before = Instant::now();
        let pair = bracket(&device).unwrap().pair.unwrap();
        let now = read(&device).unwrap().pair.unwrap();
        assert!(pair.host >= before && pair.host + pair.error <= Instant::now());
        // Both are of one clock: the bracket may be off by its error and no more.
        let device_gap = Duration::from_nanos(now.device - pair.device);
        let host_gap = now.host.duration_since(pair.host);
        assert!(device_gap.abs_diff(host_gap) <= pair.error, "{pair:?} {now:?}");
    }
}
