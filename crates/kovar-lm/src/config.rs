//! `config.json` of the supported architectures.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rope::RopeScaling;
use crate::{LmError, Result};

/// Kinds of model that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2 and 3, and what is built like them.
    Llama,
    /// Qwen3, dense: Llama with a norm over each query and key head.
    Qwen3,
}

/// What the supported architectures have in common, and where they differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The kind of model.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward network.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Added to the mean square in a norm.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Whether the head is the embedding. `None`: it is, if the model has no `lm_head`.
    pub tied: Option<bool>,
    /// Positions that the model was made for, if it says so.
    pub max_positions: Option<usize>,
    /// Tokens that end a text. May be empty: the tokenizer knows one then.
    pub eos: Vec<u32>,
}

const SUPPORTED: &str = "llama or qwen3";

#[derive(Deserialize)]
struct Raw {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    rms_norm_eps: f32,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    /// Newer files put base and scaling of the rotary frequencies here.
    rope_parameters: Option<Value>,
    tie_word_embeddings: Option<bool>,
    max_position_embeddings: Option<usize>,
    eos_token_id: Option<OneOrMany>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    rope_traditional: Option<bool>,
    partial_rotary_factor: Option<f64>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn list(self) -> Vec<u32> {
        match self {
            OneOrMany::One(id) => vec![id],
            OneOrMany::Many(ids) => ids,
        }
    }
}

#[derive(Deserialize, Default)]
struct GenerationConfig {
    eos_token_id: Option<OneOrMany>,
}

impl Config {
    /// Reads the settings of the model in `dir`, whose `config.json` has been parsed.
    ///
    /// The tokens that end a text come from `generation_config.json` if it names any, as in mlx-lm.
    ///
    /// # Errors
    /// [`LmError::UnknownArchitecture`], [`LmError::Unsupported`] for a variant that is not known,
    /// [`LmError::InvalidConfig`] for values that are missing or make no sense.
    pub fn from_json(dir: &Path, json: &Value) -> Result<Config> {
        let file = dir.join("config.json");
        let invalid = |reason: String| LmError::InvalidConfig { file: file.clone(), reason };
        let architecture = match json.get("model_type") {
            Some(Value::String(name)) if name == "llama" => Architecture::Llama,
            Some(Value::String(name)) if name == "qwen3" => Architecture::Qwen3,
            Some(Value::String(name)) => {
                let model_type = name.chars().take(80).collect();
                return Err(LmError::UnknownArchitecture { dir: dir.into(), model_type, supported: SUPPORTED });
            }
            _ => return Err(invalid("it has no `model_type`".into())),
        };
        let mut raw: Raw = Raw::deserialize(json).map_err(|e| invalid(e.to_string()))?;
        raw.check_variant().map_err(|(what, instead)| LmError::Unsupported { dir: dir.into(), what, instead })?;
        raw.check_sizes().map_err(invalid)?;
        let (theta, scaling) = raw.rope();
        let rope_scaling = match scaling {
            Some(value) => RopeScaling::from_json(&value).map_err(|e| e.at(dir, &file))?,
            None => RopeScaling::None,
        };
        if !(theta.is_finite() && theta > 0.0) {
            return Err(invalid(format!("`rope_theta` is {theta}, expected a positive number")));
        }
        let generation: GenerationConfig = optional_file(&dir.join("generation_config.json"))?;
        let eos = generation.eos_token_id.or(raw.eos_token_id.take()).map(OneOrMany::list).unwrap_or_default();
        Ok(Config {
            architecture,
            hidden: raw.hidden_size,
            intermediate: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: raw.head_dim(),
            vocab: raw.vocab_size,
            norm_eps: raw.rms_norm_eps,
            rope_theta: theta,
            rope_scaling,
            tied: raw.tie_word_embeddings,
            max_positions: raw.max_position_embeddings.filter(|n| *n > 0),
            eos,
        })
    }
}

impl Raw {
    fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    fn rope(&self) -> (f64, Option<Value>) {
        let parameters = self.rope_parameters.as_ref().filter(|value| value.is_object());
        let theta = parameters.and_then(|p| p.get("rope_theta")).and_then(Value::as_f64);
        let scaling = self.rope_scaling.as_ref().or(parameters).filter(|value| !value.is_null());
        // The base that mlx-lm takes where none is given.
        (self.rope_theta.or(theta).unwrap_or(10_000.0), scaling.cloned())
    }

    fn check_sizes(&self) -> Result<(), String> {
        let kv_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", kv_heads),
            ("head_dim", self.head_dim()),
            ("vocab_size", self.vocab_size),
        ];
        for (name, size) in sizes {
            // Products of two sizes must not overflow; real ones are far below this.
            if size == 0 || size > 1 << 24 {
                return Err(format!("`{name}` is {size}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(kv_heads) {
            return Err(format!("{} query heads do not divide into {kv_heads} key heads", self.num_attention_heads));
        }
        if !self.head_dim().is_multiple_of(2) {
            return Err(format!("`head_dim` is {}, expected an even number", self.head_dim()));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(format!("`rms_norm_eps` is {}", self.rms_norm_eps));
        }
        Ok(())
    }

    /// What the architecture has in variants that are not computed with: the thing, and what to do.
    fn check_variant(&self) -> Result<(), (String, &'static str)> {
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        if !matches!(activation, "silu" | "swish") {
            let activation: String = activation.chars().take(80).collect();
            return Err((format!("the activation {activation:?}"), "use a model with `hidden_act` silu"));
        }
        if self.attention_bias == Some(true) || self.mlp_bias == Some(true) {
            let what = "biases in linear layers (`attention_bias` or `mlp_bias`)";
            return Err((what.into(), "use a model without them"));
        }
        if self.rope_traditional == Some(true) {
            return Err(("interleaved rotary positions (`rope_traditional`)".into(), "use a model without them"));
        }
        if self.partial_rotary_factor.is_some_and(|part| part != 1.0) {
            return Err((
                "rotary positions on a part of each head".into(),
                "use a model without `partial_rotary_factor`",
            ));
        }
        let sliding = self.layer_types.iter().flatten().any(|kind| kind != "full_attention");
        if sliding || self.use_sliding_window == Some(true) {
            return Err(("attention over a sliding window".into(), "use a model with full attention"));
        }
        Ok(())
    }
}

/// A settings file that need not be there.
pub(crate) fn optional_file<T: DeserializeOwned + Default>(path: &Path) -> Result<T> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => return Err(kovar_weights::WeightsError::Io { path: path.into(), source }.into()),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| LmError::InvalidConfig { file: path.into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base() -> Value {
        json!({
            "model_type": "llama", "hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 3, "vocab_size": 100, "rms_norm_eps": 1e-5,
        })
    }

    fn with(more: Value) -> Result<Config> {
        let mut json = base();
        for (key, value) in more.as_object().unwrap() {
            json[key] = value.clone();
        }
        Config::from_json(Path::new("m"), &json)
    }

    fn message(more: Value) -> String {
        with(more).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_has_the_defaults_of_mlx_lm() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.kv_heads, config.head_dim, config.rope_theta), (3, 32, 10_000.0));
        assert_eq!((config.tied, config.max_positions, config.rope_scaling), (None, None, RopeScaling::None));
        assert!(config.eos.is_empty());
    }

    #[test]
    fn one_end_token_or_many() {
        assert_eq!(with(json!({"eos_token_id": 7})).unwrap().eos, [7]);
        assert_eq!(with(json!({"eos_token_id": [7, 9]})).unwrap().eos, [7, 9]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [1, 2]}"#).unwrap();
        let mut json = base();
        json["eos_token_id"] = json!(7);
        assert_eq!(Config::from_json(dir.path(), &json).unwrap().eos, [1, 2]);
    }

    #[test]
    fn newer_files_keep_the_rotary_settings_together() {
        let rope = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}});
        let config = with(rope).unwrap();
        assert_eq!((config.rope_theta, config.rope_scaling), (500_000.0, RopeScaling::None));
    }

    #[test]
    fn each_refusal_is_one_line_that_names_the_thing() {
        assert_eq!(
            message(json!({"model_type": "gemma3\n"})),
            "m is a model of type \"gemma3\\n\", which is not supported; use one of type llama or qwen3"
        );
        assert_eq!(
            message(json!({"attention_bias": true})),
            "m wants biases in linear layers (`attention_bias` or `mlp_bias`), which is not supported; \
             use a model without them"
        );
        assert_eq!(
            message(json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})),
            "m wants rotary scaling of type \"yarn\", which is not supported; use a model with type linear or llama3"
        );
        let again = "; download it again or convert the model again";
        assert_eq!(
            message(json!({"hidden_size": 0})),
            format!("m/config.json is not usable: `hidden_size` is 0{again}")
        );
        let heads = message(json!({"num_key_value_heads": 2}));
        assert_eq!(heads, format!("m/config.json is not usable: 3 query heads do not divide into 2 key heads{again}"));
        let missing = Config::from_json(Path::new("m"), &json!({"model_type": "llama"})).unwrap_err().to_string();
        assert_eq!(missing, format!("m/config.json is not usable: missing field `hidden_size`{again}"));
    }

    #[test]
    fn hostile_values_give_errors() {
        for value in [json!(-1), json!(1e300), json!("x"), json!(null), json!(u64::MAX), json!([])] {
            for key in ["hidden_size", "num_attention_heads", "head_dim", "rope_theta", "rope_scaling", "eos_token_id"]
            {
                let _ = with(json!({ key: value.clone() }));
            }
        }
        assert!(with(json!({"num_attention_heads": usize::MAX})).is_err());
    }
}
