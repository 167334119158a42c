//! A model folder: its config, and the tensors of all its files under one roof.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use serde_json::{Map, Value};

use crate::mapped_file::{is_missing, read_small};
use crate::quantization::Unreadable;
use crate::shards::open_files;
use crate::{MappedFile, Quantization, QuantizationConfig, Safetensors, Tensor, WeightsError};

const CONFIG: &str = "config.json";

/// In bytes. Real ones stay under one megabyte.
const MAX_CONFIG: u64 = 16 << 20;

/// An open model folder. Its files stay mapped for as long as it, or a tensor of it, lives.
#[derive(Debug)]
pub struct ModelDir {
    path: PathBuf,
    config: Value,
    quantization: QuantizationConfig,
    files: Vec<Safetensors>,
    tensors: BTreeMap<Arc<str>, Tensor>,
}

impl ModelDir {
    /// Opens a folder: reads `config.json`, maps the weights and checks every header.
    ///
    /// The weights are the files that `model.safetensors.index.json` names, or without an index all `model*.safetensors`;
    /// if those are numbered (`model-00001-of-00003.safetensors`), all numbers must be there.
    ///
    /// The files must not be shortened or rewritten in place while the folder or a tensor of it lives: the process would
    /// be ended by `SIGBUS`. [`MappedFile`] says more.
    ///
    /// # Errors
    /// Everything that can be wrong with a folder, named in [`WeightsError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(WeightsError::NotADirectory { path: path.into() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(WeightsError::NotFound { path: path.into() });
            }
            // `model.safetensors/` and the like
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(WeightsError::NotADirectory { path: path.into() });
            }
            Err(source) => {
                return Err(WeightsError::Io { path: path.into(), source });
            }
        }
        let config = read_config(path)?;
        let quantization = QuantizationConfig::from_config(&config).map_err(|e| match e {
            Unreadable::Invalid(reason) => WeightsError::InvalidConfig { file: path.join(CONFIG), reason },
            Unreadable::Unsupported(error) => error,
        })?;
        let files = open_files(path)?;
        let tensors = collect_tensors(&files)?;
        Ok(Self { path: path.into(), config: Value::Object(config), quantization, files, tensors })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json` as it is: always an object.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The quantisation settings of `config.json`.
    pub fn quantization(&self) -> &QuantizationConfig {
        &self.quantization
    }

    /// The setting for the layer of this path, such as `model.layers.0.mlp.up_proj`; see
    /// [`QuantizationConfig::for_layer`].
    pub fn quantization_for(&self, layer_path: &str) -> Option<Quantization> {
        self.quantization.for_layer(layer_path)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<Tensor, WeightsError> {
        self.tensors
            .get(name)
            .cloned()
            .ok_or_else(|| WeightsError::MissingTensor { dir: self.path.clone(), tensor: name.into() })
    }

    /// The tensor of this name, of F32, F16 or BF16 and of shape `[len]`: a norm's weight, a bias.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`], [`WeightsError::TypeMismatch`] or [`WeightsError::ShapeMismatch`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Tensor, WeightsError> {
        self.tensor(name)?.with_float()?.with_shape(&[len], "")
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(AsRef::as_ref)
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// The mapped weights files.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Arc<MappedFile>> {
        self.files.iter().map(Safetensors::file)
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|t| t.byte_len() as u64).sum()
    }
}

fn read_config(dir: &Path) -> Result<Map<String, Value>, WeightsError> {
    let file = dir.join(CONFIG);
    let bytes = read_small(&file, MAX_CONFIG).map_err(|e| match is_missing(&e) {
        true => WeightsError::MissingConfig { dir: dir.into() },
        false => e,
    })?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(WeightsError::InvalidConfig { file, reason: "it is not a JSON object".into() }),
        Err(e) => Err(WeightsError::InvalidConfig { file, reason: e.to_string() }),
    }
}

fn collect_tensors(files: &[Safetensors]) -> Result<BTreeMap<Arc<str>, Tensor>, WeightsError> {
    let mut all: BTreeMap<Arc<str>, Tensor> = BTreeMap::new();
    for tensor in files.iter().flat_map(Safetensors::tensors) {
        if let Some(first) = all.insert(tensor.shared_name(), tensor.clone()) {
            return Err(WeightsError::DuplicateTensor {
                tensor: tensor.name().into(),
                first: first.file().path().into(),
                second: tensor.file().path().into(),
            });
        }
    }
    Ok(all)
}
