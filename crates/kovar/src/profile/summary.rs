/// Measured values, in order of size: the one place where medians and percentiles are computed.
///
/// ```
/// use kovar::profile::Summary;
///
/// let times = Summary::of([3.0, 1.0, 2.0, 10.0]).ok_or("nothing was measured")?;
/// assert_eq!((times.min(), times.median(), times.max()), (1.0, 2.5, 10.0));
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    sorted: Vec<f64>,
}

impl Summary {
    /// Of these values; `None` if there are none. What is not a number is left out.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        (!sorted.is_empty()).then_some(Summary { sorted })
    }

    /// How many there are, at least 1.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Their sum.
    pub fn total(&self) -> f64 {
        self.sorted.iter().sum()
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.percentile(0.0)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.percentile(100.0)
    }

    /// The middle one, or the mean of both middle ones.
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The value below which `percent` of 100 lie, linear between neighbours (R's type 7); clamped to 0..100.
    pub fn percentile(&self, percent: f64) -> f64 {
        let place = percent.clamp(0.0, 100.0) / 100.0 * (self.sorted.len() - 1) as f64;
        let at = |index: f64| self.sorted.get(index as usize).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(place.floor()), at(place.ceil()));
        low + (high - low) * place.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn percentiles_grow_and_stay_within(values in prop::collection::vec(-1e9f64..1e9, 1..60), p in 0.0f64..100.0) {
            let summary = Summary::of(values.iter().copied()).unwrap();
            prop_assert_eq!(summary.count(), values.len());
            prop_assert!(summary.min() <= summary.percentile(p) && summary.percentile(p) <= summary.max());
            prop_assert!(summary.percentile(p) <= summary.percentile((p + 1.0).min(100.0)) + 1e-6);
        }
    }

    #[test]
    fn of_nothing_there_is_none() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN]), None);
    }
}
