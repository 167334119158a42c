//! Frequencies of rotary positions.

use std::f64::consts::TAU;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::{Config, LmError};

/// How rotary frequencies are stretched for contexts longer than the model was trained on.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Every frequency is divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3: low frequencies are divided by the factor, high ones stay, those between are blended.
    Llama3(Llama3),
}

/// Settings of Llama 3's scaling, named as in `config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Llama3 {
    /// What low frequencies are divided by.
    pub factor: f64,
    /// A wave that fits the original context at most so many times is low.
    #[serde(default = "one")]
    pub low_freq_factor: f64,
    /// A wave that fits it at least so many times is high.
    #[serde(default = "four")]
    pub high_freq_factor: f64,
    /// The original context.
    #[serde(default = "original_context")]
    pub original_max_position_embeddings: f64,
}

// Defaults of mlx-lm, `rope_utils.Llama3RoPE`.
fn one() -> f64 {
    1.0
}
fn four() -> f64 {
    4.0
}
fn original_context() -> f64 {
    8192.0
}

/// Why scaling settings cannot be used.
pub(crate) enum Unusable {
    Type(String),
    Invalid(String),
}

impl Unusable {
    pub(crate) fn at(self, dir: &Path, file: &Path) -> LmError {
        match self {
            Unusable::Type(name) => LmError::Unsupported {
                dir: dir.into(),
                what: format!("rotary scaling of type {name:?}"),
                instead: "use a model with type linear or llama3",
            },
            Unusable::Invalid(reason) => LmError::InvalidConfig { file: file.into(), reason },
        }
    }
}

impl RopeScaling {
    /// Reads the object `rope_scaling`.
    pub(crate) fn from_json(value: &Value) -> Result<RopeScaling, Unusable> {
        let Some(object) = value.as_object() else {
            return Err(Unusable::Invalid("`rope_scaling` is not an object".into()));
        };
        let kind = object.get("rope_type").or_else(|| object.get("type")).and_then(Value::as_str).unwrap_or("default");
        let scaling = match kind {
            "default" => return Ok(RopeScaling::None),
            "linear" => {
                let factor = object.get("factor").and_then(Value::as_f64);
                RopeScaling::Linear {
                    factor: factor.ok_or_else(|| Unusable::Invalid("`rope_scaling` has no `factor`".into()))?,
                }
            }
            "llama3" => {
                let settings = Llama3::deserialize(value);
                RopeScaling::Llama3(settings.map_err(|error| Unusable::Invalid(format!("`rope_scaling`: {error}")))?)
            }
            other => return Err(Unusable::Type(other.chars().take(80).collect())),
        };
        if scaling.is_sound() { Ok(scaling) } else { Err(Unusable::Invalid(format!("`rope_scaling` is {value}"))) }
    }

    fn is_sound(&self) -> bool {
        let positive = |n: f64| n.is_finite() && n > 0.0;
        match self {
            RopeScaling::None => true,
            RopeScaling::Linear { factor } => positive(*factor),
            RopeScaling::Llama3(s) => {
                positive(s.factor)
                    && positive(s.low_freq_factor)
                    && positive(s.original_max_position_embeddings)
                    && s.high_freq_factor.is_finite()
                    && s.high_freq_factor > s.low_freq_factor
            }
        }
    }
}

impl Llama3 {
    /// The formula of mlx-lm, `rope_utils.Llama3RoPE`, on angles a position instead of their reciprocals.
    fn scaled(&self, frequency: f64) -> f64 {
        let waves = self.original_max_position_embeddings * frequency / TAU;
        if waves < self.low_freq_factor {
            frequency / self.factor
        } else if waves > self.high_freq_factor {
            frequency
        } else {
            let blend = (waves - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
            frequency * ((1.0 - blend) / self.factor + blend)
        }
    }
}

/// Angle a position of each pair of a head: f32 [head_dim / 2].
pub fn inverse_frequencies(config: &Config) -> Vec<f32> {
    let pairs = config.head_dim / 2;
    (0..pairs)
        .map(|pair| {
            let frequency = config.rope_theta.powf(-(pair as f64) / pairs as f64);
            let scaled = match &config.rope_scaling {
                RopeScaling::None => frequency,
                RopeScaling::Linear { factor } => frequency / factor,
                RopeScaling::Llama3(settings) => settings.scaled(frequency),
            };
            scaled as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Architecture;
    use serde_json::json;

    fn config(head_dim: usize, rope_theta: f64, rope_scaling: RopeScaling) -> Config {
        Config {
            architecture: Architecture::Llama,
            hidden: head_dim,
            intermediate: 1,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim,
            vocab: 1,
            norm_eps: 0.0,
            rope_theta,
            rope_scaling,
            tied: None,
            max_positions: None,
            eos: vec![],
        }
    }

    #[test]
    fn llama3_frequencies_agree_with_mlx_lm() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ops/rope.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let mut seen = 0;
        for (name, text) in header.metadata().as_ref().unwrap() {
            let Ok(tensor) = file.tensor(&format!("{name}.freqs")) else { continue };
            let case: Value = serde_json::from_str(text).unwrap();
            let scaling = RopeScaling::from_json(&case["rope_scaling"]).ok().unwrap();
            let head_dim = case["head_dim"].as_u64().unwrap() as usize;
            let ours = inverse_frequencies(&config(head_dim, case["base"].as_f64().unwrap(), scaling));
            let (words, _) = tensor.data().as_chunks::<4>();
            let theirs: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            assert_eq!(ours.len(), theirs.len());
            for (ours, wave) in ours.iter().zip(&theirs) {
                // mlx-lm computes these in f32, in several steps.
                assert!((ours * wave - 1.0).abs() < 1e-5, "{name}: {ours} against 1/{wave}");
            }
            seen += 1;
        }
        assert_eq!(seen, 3);
    }

    #[test]
    fn linear_scaling_divides() {
        let plain = inverse_frequencies(&config(8, 10_000.0, RopeScaling::None));
        let scaling = RopeScaling::from_json(&json!({"type": "linear", "factor": 4.0})).ok().unwrap();
        let linear = inverse_frequencies(&config(8, 10_000.0, scaling));
        assert_eq!(plain[0], 1.0);
        assert!((plain[1] - 0.1).abs() < 1e-7);
        assert!(plain.iter().zip(&linear).all(|(a, b)| *b == a / 4.0));
    }

    #[test]
    fn settings_that_divide_by_nothing_are_refused() {
        for bad in [
            json!({"type": "linear"}),
            json!({"type": "linear", "factor": 0.0}),
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}),
            json!({"rope_type": "llama3", "factor": -1.0}),
            json!(3),
        ] {
            assert!(matches!(RopeScaling::from_json(&bad), Err(Unusable::Invalid(_))), "{bad}");
        }
    }
}
