//! Quantisation settings of `config.json`: one for the whole model, and others for single layers.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::WeightsError;

/// How a layer's weights are packed. MLX's formats; which of them can be computed with is up to whoever reads the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quantization {
    /// Weights that share a scale, along the last axis.
    pub group_size: u32,
    /// Bits a weight.
    pub bits: u32,
    /// What the packed numbers mean.
    pub mode: Mode,
}

/// What packed numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Unsigned integers with a scale and a bias a group: `scale · q + bias`.
    Affine,
    /// 4-bit floats (E2M1) with a power-of-two scale a group.
    Mxfp4,
    /// 8-bit floats (E4M3) with a power-of-two scale a group.
    Mxfp8,
    /// 4-bit floats (E2M1) with an 8-bit float scale a group.
    Nvfp4,
}

impl Mode {
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Affine, Self::Mxfp4, Self::Mxfp8, Self::Nvfp4].into_iter().find(|m| m.name() == name)
    }

    /// Group size and bits where the config leaves them out, as MLX has them.
    fn defaults(self) -> (u32, u32) {
        match self {
            Self::Affine => (64, 4),
            Self::Mxfp4 => (32, 4),
            Self::Mxfp8 => (32, 8),
            Self::Nvfp4 => (16, 4),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The quantisation settings of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantizationConfig {
    global: Option<Quantization>,
    /// Layers that differ; `None` for one left unquantised.
    layers: BTreeMap<String, Option<Quantization>>,
    foreign: Option<String>,
}

/// Why settings cannot be read; the file's name is added by whoever knows it.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Something is missing or of the wrong kind.
    Invalid(String),
    /// A format that is not known.
    Unsupported(WeightsError),
}

impl QuantizationConfig {
    /// Reads `quantization`, or `quantization_config` where that is missing and written as MLX writes it.
    pub(crate) fn from_config(config: &Map<String, Value>) -> Result<Self, Unreadable> {
        let get = |key: &str| config.get(key).filter(|v| !v.is_null());
        if let Some(value) = get("quantization") {
            return Self::from_mlx("quantization", value);
        }
        match get("quantization_config") {
            Some(value) if is_mlx(value) => Self::from_mlx("quantization_config", value),
            Some(value) => Ok(Self { foreign: Some(foreign_method(value)), ..Self::default() }),
            None => Ok(Self::default()),
        }
    }

    fn from_mlx(key: &str, value: &Value) -> Result<Self, Unreadable> {
        let Value::Object(map) = value else {
            return Err(Unreadable::Invalid(format!("`{key}` is {}, expected an object", kind(value))));
        };
        for field in ["group_size", "bits"] {
            // MLX itself needs both here, and only in single layers fills them in
            if !map.contains_key(field) {
                return Err(Unreadable::Invalid(format!("`{key}` has no `{field}`")));
            }
        }
        let global = setting("(all)", key, map)?;
        let mut layers = BTreeMap::new();
        for (path, entry) in map {
            match entry {
                Value::Bool(false) => layers.insert(path.clone(), None),
                Value::Bool(true) => layers.insert(path.clone(), Some(global)),
                Value::Object(entry) => {
                    layers.insert(path.clone(), Some(setting(path, &format!("{key}.{path}"), entry)?))
                }
                _ => None,
            };
        }
        Ok(Self { global: Some(global), layers, foreign: None })
    }

    /// The setting of every layer that has none of its own; `None` for a model that is not quantised.
    pub fn global(&self) -> Option<Quantization> {
        self.global
    }

    /// The layers with a setting of their own, `None` for those left unquantised.
    pub fn layers(&self) -> impl Iterator<Item = (&str, Option<Quantization>)> {
        self.layers.iter().map(|(path, q)| (path.as_str(), *q))
    }

    /// The setting of a layer: its own, or the model's. `None` if the config says that it is not quantised.
    ///
    /// The config may call for more than was done: MLX leaves layers alone whose size does not divide by the group. Whether
    /// a layer is quantised shows in its tensors; [`ModelDir::linear`](crate::ModelDir::linear) looks at both.
    pub fn for_layer(&self, path: &str) -> Option<Quantization> {
        self.layers.get(path).copied().unwrap_or(self.global)
    }

    /// Whether the config says outright that this layer is left unquantised.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        matches!(self.layers.get(path), Some(None))
    }

    /// The method's name, if the model was quantised by another tool than MLX.
    pub fn foreign(&self) -> Option<&str> {
        self.foreign.as_deref()
    }
}

/// Whether `quantization_config` is MLX's copy of `quantization` and not another tool's settings. Those of GPTQ and AWQ
/// have bits and group size too, and a method beside them.
fn is_mlx(value: &Value) -> bool {
    value.get("bits").is_some()
        && value.get("group_size").is_some()
        && value.get("quant_method").is_none_or(|m| m.is_null() || m == "mlx")
}

fn foreign_method(value: &Value) -> String {
    value.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method").into()
}

fn setting(layer: &str, key: &str, map: &Map<String, Value>) -> Result<Quantization, Unreadable> {
    let name = match map.get("mode") {
        None | Some(Value::Null) => "affine",
        Some(Value::String(name)) => name,
        Some(other) => {
            return Err(Unreadable::Invalid(format!("`{key}.mode` is {}, expected a string", kind(other))));
        }
    };
    let mode = Mode::from_name(name);
    let defaults = mode.unwrap_or(Mode::Affine).defaults();
    let group_size = number(key, "group_size", map, defaults.0)?;
    let bits = number(key, "bits", map, defaults.1)?;
    match mode {
        Some(mode) => Ok(Quantization { group_size, bits, mode }),
        None => Err(Unreadable::Unsupported(WeightsError::UnsupportedQuantization {
            layer: layer.into(),
            bits,
            group_size,
            mode: name.into(),
        })),
    }
}

fn number(key: &str, field: &str, map: &Map<String, Value>, default: u32) -> Result<u32, Unreadable> {
    let Some(value) = map.get(field).filter(|v| !v.is_null()) else {
        return Ok(default);
    };
    match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
        Some(n) => Ok(n),
        None => {
            let found = if value.is_number() { value.to_string() } else { kind(value).into() };
            Err(Unreadable::Invalid(format!("`{key}.{field}` is {found}, expected a small whole number")))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value) -> Result<QuantizationConfig, String> {
        let Value::Object(map) = config else { panic!("a config is an object") };
        QuantizationConfig::from_config(&map).map_err(|e| match e {
            Unreadable::Invalid(reason) => reason,
            Unreadable::Unsupported(e) => e.to_string(),
        })
    }

    fn affine(group_size: u32, bits: u32) -> Quantization {
        Quantization { group_size, bits, mode: Mode::Affine }
    }

    #[test]
    fn layers_override_the_global_setting() {
        let q = read(json!({"quantization": {
            "group_size": 64, "bits": 4,
            "lm_head": {"group_size": 32, "bits": 8},
            "model.norm": false,
            "model.embed_tokens": true,
        }}))
        .unwrap();
        assert_eq!(q.for_layer("model.layers.0.mlp.up_proj"), Some(affine(64, 4)));
        assert_eq!(q.for_layer("lm_head"), Some(affine(32, 8)));
        assert_eq!(q.for_layer("model.embed_tokens"), Some(affine(64, 4)));
        assert_eq!(q.for_layer("model.norm"), None);
        assert!(q.excludes("model.norm") && !q.excludes("lm_head"));
        assert_eq!(q.layers().count(), 3);
    }

    #[test]
    fn what_a_layer_leaves_out_comes_from_its_mode_not_from_the_global_setting() {
        let q = read(json!({"quantization": {
            "group_size": 32, "bits": 4, "mode": "mxfp4",
            "lm_head": {"bits": 8},
            "a": {"mode": "nvfp4"},
            "b": {"mode": "mxfp8"},
        }}))
        .unwrap();
        assert_eq!(q.global(), Some(Quantization { group_size: 32, bits: 4, mode: Mode::Mxfp4 }));
        assert_eq!(q.for_layer("lm_head"), Some(affine(64, 8)));
        assert_eq!(q.for_layer("a"), Some(Quantization { group_size: 16, bits: 4, mode: Mode::Nvfp4 }));
        assert_eq!(q.for_layer("b"), Some(Quantization { group_size: 32, bits: 8, mode: Mode::Mxfp8 }));
    }

    #[test]
    fn quantization_config_counts_only_in_the_mlx_style() {
        let mlx = read(json!({"quantization_config": {"group_size": 128, "bits": 3}})).unwrap();
        assert_eq!(mlx.global(), Some(affine(128, 3)));

        let both = json!({"quantization": null, "quantization_config": {"group_size": 128, "bits": 3}});
        assert_eq!(read(both).unwrap(), mlx);

        let gptq = json!({"quantization_config": {"group_size": 128, "bits": 4, "quant_method": "gptq"}});
        let gptq = read(gptq).unwrap();
        assert_eq!((gptq.global(), gptq.foreign()), (None, Some("gptq")));

        let none = read(json!({})).unwrap();
        assert_eq!((none.global(), none.foreign()), (None, None));
    }

    #[test]
    fn bad_settings_are_named() {
        let bad = |q: Value| read(json!({ "quantization": q })).unwrap_err();
        assert_eq!(bad(json!(4)), "`quantization` is a number, expected an object");
        assert_eq!(bad(json!({"bits": 4})), "`quantization` has no `group_size`");
        assert!(bad(json!({"bits": "4", "group_size": 64})).contains("`quantization.bits` is a string"));
        assert!(bad(json!({"bits": -4, "group_size": 64})).contains("`quantization.bits` is -4"));
        let layer = bad(json!({"bits": 4, "group_size": 64, "lm_head": {"mode": "ternary", "bits": 2}}));
        assert!(layer.contains("lm_head") && layer.contains("2 bits, group 64, mode ternary"), "{layer}");
    }
}
