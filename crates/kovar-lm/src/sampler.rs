//! The choice of the next token.

use crate::{LmError, Result};

/// How the next token is chosen from the logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits. 0: the largest logit wins, and nothing below matters.
    pub temperature: f32,
    /// Only so many of the likeliest tokens are considered. 0: all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability are considered. 1: all.
    pub top_p: f32,
    /// The same seed and logits give the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    fn check(&self) -> Result<()> {
        let wrong = |option, value: f32, range| Err(LmError::Option { option, value: value.to_string(), range });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature", self.temperature, "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top-p", self.top_p, "over 0 and at most 1");
        }
        Ok(())
    }
}

/// Chooses tokens. Its memory of a vocabulary's size is reused, so that a token costs no allocation.
///
/// ```
/// use kovar_lm::{Sampler, Sampling};
///
/// let mut greedy = Sampler::new(Sampling::default())?;
/// assert_eq!(greedy.choose(&[0.1, 3.0, -2.0])?, 1);
/// let mut warm = Sampler::new(Sampling { temperature: 0.8, top_k: 2, seed: 7, ..Sampling::default() })?;
/// assert_ne!(warm.choose(&[0.1, 3.0, -2.0])?, 2);
/// # Ok::<(), kovar_lm::LmError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
    candidates: Vec<Candidate>,
}

/// A token, and its logit at first, later its weight: probability times a common factor.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    weight: f64,
}

impl Candidate {
    /// The likelier first; of equals the smaller token, so that the order is one and the same everywhere.
    fn order(&self, other: &Candidate) -> std::cmp::Ordering {
        other.weight.total_cmp(&self.weight).then(self.token.cmp(&other.token))
    }
}

impl Sampler {
    /// A sampler at the beginning of its random sequence.
    ///
    /// # Errors
    /// [`LmError::Option`] for a temperature below 0 or a top-p that is not in (0, 1].
    pub fn new(sampling: Sampling) -> Result<Sampler> {
        sampling.check()?;
        Ok(Sampler { sampling, random: Random(sampling.seed), candidates: Vec::new() })
    }

    /// Whether the largest logit wins, so that the device can choose.
    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature == 0.0
    }

    /// Chooses one of `logits.len()` tokens: temperature first, then top-k, then top-p. Logits that are no numbers are
    /// never chosen.
    ///
    /// # Errors
    /// [`LmError::NoLogits`] if there is nothing to choose from.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let largest = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
        let first = logits.iter().position(|logit| *logit == largest).ok_or(LmError::NoLogits)?;
        if largest == f32::NEG_INFINITY {
            return Err(LmError::NoLogits);
        }
        if self.is_greedy() || largest == f32::INFINITY {
            return Ok(first as u32);
        }
        let temperature = f64::from(self.sampling.temperature);
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0..).map(|(logit, token)| {
            let weight = (f64::from(*logit) - f64::from(largest)) / temperature;
            Candidate { token, weight: if logit.is_nan() { 0.0 } else { weight.exp() } }
        }));
        self.keep_top_k();
        self.keep_top_p();
        Ok(self.draw())
    }

    fn keep_top_k(&mut self) {
        let k = self.sampling.top_k;
        if k > 0 && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, Candidate::order);
            self.candidates.truncate(k);
        }
    }

    /// Sorts only as many of the candidates as are needed to reach the probability.
    fn keep_top_p(&mut self) {
        if self.sampling.top_p >= 1.0 {
            return;
        }
        let wanted = f64::from(self.sampling.top_p) * self.candidates.iter().map(|c| c.weight).sum::<f64>();
        let all = self.candidates.len();
        let mut sorted = 64.min(all);
        loop {
            if sorted < all {
                self.candidates.select_nth_unstable_by(sorted - 1, Candidate::order);
            }
            self.candidates[..sorted].sort_unstable_by(Candidate::order);
            let mut reached = 0.0;
            let enough = self.candidates[..sorted].iter().position(|candidate| {
                reached += candidate.weight;
                reached >= wanted
            });
            if let Some(last) = enough {
                return self.candidates.truncate(last + 1);
            }
            if sorted == all {
                return;
            }
            sorted = (sorted * 8).min(all);
        }
    }

    fn draw(&mut self) -> u32 {
        let total: f64 = self.candidates.iter().map(|c| c.weight).sum();
        let mut left = self.random.unit() * total;
        let mut last = 0;
        for candidate in &self.candidates {
            if candidate.weight > 0.0 {
                last = candidate.token;
                left -= candidate.weight;
                if left < 0.0 {
                    break;
                }
            }
        }
        last
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every machine.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to and without 1, in steps of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampler(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(Sampling { temperature, top_k, top_p, seed }).unwrap()
    }

    #[test]
    fn the_sequence_is_splitmix64() {
        // First outputs for seed 1234567 of the reference implementation.
        let mut random = Random(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let new = |temperature, top_p| Sampler::new(Sampling { temperature, top_p, ..Sampling::default() });
        assert_eq!(new(-1.0, 1.0).unwrap_err().to_string(), "temperature is -1; it must be 0 or more");
        assert_eq!(new(1.0, 0.0).unwrap_err().to_string(), "top-p is 0; it must be over 0 and at most 1");
        assert!(new(f32::NAN, 1.0).is_err() && new(1.0, f32::NAN).is_err());
    }

    #[test]
    fn what_is_no_number_is_never_chosen() {
        assert_eq!(sampler(0.0, 0, 1.0, 0).choose(&[f32::NAN, -1.0, f32::NAN]).unwrap(), 1);
        assert_eq!(sampler(1.0, 0, 0.9, 0).choose(&[f32::NAN, -1.0, f32::NAN]).unwrap(), 1);
        assert_eq!(sampler(1.0, 0, 1.0, 0).choose(&[0.0, f32::INFINITY]).unwrap(), 1);
        for none in [&[][..], &[f32::NAN], &[f32::NEG_INFINITY]] {
            assert!(matches!(sampler(1.0, 0, 1.0, 0).choose(none), Err(LmError::NoLogits)));
        }
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let probabilities = [0.5f32, 0.3, 0.15, 0.05];
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let count = |mut sampler: Sampler| {
            let mut seen = [0.0; 4];
            (0..20_000).for_each(|_| seen[sampler.choose(&logits).unwrap() as usize] += 1.0 / 20_000.0);
            seen
        };
        let near = |seen: [f64; 4], wanted: [f64; 4]| {
            // Four standard deviations of 20,000 draws.
            assert!(seen.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.015), "{seen:?}, wanted {wanted:?}");
        };
        near(count(sampler(1.0, 0, 1.0, 1)), [0.5, 0.3, 0.15, 0.05]);
        near(count(sampler(1.0, 2, 1.0, 2)), [0.625, 0.375, 0.0, 0.0]);
        near(count(sampler(1.0, 0, 0.9, 3)), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]);
        let squares = 0.25 + 0.09 + 0.0225 + 0.0025;
        near(count(sampler(0.5, 0, 1.0, 4)), [0.25 / squares, 0.09 / squares, 0.0225 / squares, 0.0025 / squares]);
    }

    proptest! {
        #[test]
        fn choices_are_repeatable_and_allowed(
            logits in prop::collection::vec(-20.0f32..20.0, 1..700),
            top_k in 0usize..50,
            top_p in 0.01f32..1.0,
            seed: u64,
        ) {
            let (mut a, mut b) = (sampler(0.7, top_k, top_p, seed), sampler(0.7, top_k, top_p, seed));
            for _ in 0..8 {
                let token = a.choose(&logits).unwrap();
                prop_assert_eq!(token, b.choose(&logits).unwrap());
                let better = logits.iter().filter(|logit| **logit > logits[token as usize]).count();
                prop_assert!(top_k == 0 || better < top_k);
                let total: f64 = logits.iter().map(|l| (f64::from(*l) / 0.7f32 as f64).exp()).sum();
                let before: f64 = logits.iter().filter(|l| **l > logits[token as usize])
                    .map(|l| (f64::from(*l) / 0.7f32 as f64).exp()).sum();
                prop_assert!(before / total <= f64::from(top_p) + 1e-9);
            }
        }

        #[test]
        fn greedy_takes_the_first_of_the_largest(logits in prop::collection::vec(-3i8..3, 1..40)) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let token = sampler(0.0, 5, 0.5, 9).choose(&logits).unwrap() as usize;
            prop_assert!(logits[..token].iter().all(|l| *l < logits[token]));
            prop_assert!(logits[token..].iter().all(|l| *l <= logits[token]));
        }
    }
}
