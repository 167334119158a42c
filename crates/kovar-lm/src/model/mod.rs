//! A model on a device: its settings, weights and tokenizer.

mod forward;
mod layer;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kovar::{Buffer, Device};
use kovar_ops::Matrix;
use kovar_weights::ModelDir;

use crate::load::{LoadProgress, LoadedTensor, Loader, Weights};
use crate::rope::inverse_frequencies;
use crate::synthetic::Synthesizer;
use crate::{Config, Result, SessionOptions, SyntheticWeights, Tokenizer, need};
pub(crate) use forward::Pass;
use layer::Layer;

/// A language model whose weights are on a device. It does not change while it runs: what does is in a
/// [`Session`](crate::Session), and any number of sessions can share it.
pub struct Model {
    device: Device,
    path: PathBuf,
    config: Config,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Buffer,
    /// None: the embedding is the head.
    head: Option<Matrix>,
    frequencies: Buffer,
    loaded: LoadProgress,
    tensors: Vec<LoadedTensor>,
    tokenizer: OnceLock<Tokenizer>,
}

impl Model {
    /// Loads the MLX model folder at `path`, if it fits the device with one session of default options.
    ///
    /// # Errors
    /// [`kovar::Error::DoesNotFit`] before anything is allocated, with the bytes that are too many.
    /// Whatever is wrong with the folder, [`LmError`](crate::LmError) says it in one line; device errors.
    pub fn load(device: &Device, path: impl AsRef<Path>) -> Result<Model> {
        Model::load_with(device, path, |_| ())
    }

    /// As [`load`](Model::load), and tells `progress` about it after each tensor that is used in place, and after each part
    /// of one that is copied.
    pub fn load_with(device: &Device, path: impl AsRef<Path>, mut progress: impl FnMut(LoadProgress)) -> Result<Model> {
        let dir = ModelDir::open(path)?;
        let config = Config::from_json(dir.path(), dir.config())?;
        device.admit(&need::of(&dir, &config, &SessionOptions::default())?)?;
        let mut loader = Loader::new(device, &dir, &mut progress);
        let tied = config.tied.unwrap_or(!dir.contains("lm_head.weight"));
        let mut model = Model::of(device, dir.path(), config, tied, &mut loader)?;
        (model.loaded, model.tensors) = (loader.counts, loader.tensors);
        Ok(model)
    }

    /// A model of this shape with made-up weights, made on the device: to measure with, where no file is at hand. It has no
    /// tokenizer, and computes finite numbers that mean nothing.
    ///
    /// ```
    /// use kovar::{Backend, Device, DeviceOptions};
    /// use kovar_lm::{Config, Model, SyntheticWeights, shape};
    ///
    /// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
    /// let config = Config { layers: 1, vocab: 512, ..shape("qwen3-0.6b").ok_or("no such shape")? };
    /// let model = Model::synthetic(&device, &config, &SyntheticWeights::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Forms and sizes that the kernels or the device do not take; device errors.
    pub fn synthetic(device: &Device, config: &Config, weights: &SyntheticWeights) -> Result<Model> {
        let mut maker = Synthesizer::new(device, *weights)?;
        let tied = config.tied.unwrap_or(true);
        let model = Model::of(device, Path::new("synthetic"), config.clone(), tied, &mut maker)?;
        maker.finish()?;
        Ok(model)
    }

    pub(crate) fn of(
        device: &Device,
        path: &Path,
        config: Config,
        tied: bool,
        loader: &mut dyn Weights,
    ) -> Result<Model> {
        let embedding = loader.embedding("model.embed_tokens", config.vocab, config.hidden)?;
        let layers = (0..config.layers).map(|i| Layer::load(loader, &config, i)).collect::<Result<_>>()?;
        let norm = loader.vector("model.norm.weight", config.hidden)?;
        let head = if tied { None } else { Some(loader.linear("lm_head", config.vocab, config.hidden)?) };
        let frequencies = inverse_frequencies(&config);
        Ok(Model {
            device: device.clone(),
            path: path.into(),
            embedding,
            layers,
            norm,
            head,
            frequencies: device.upload(&frequencies, &[frequencies.len()])?,
            loaded: LoadProgress::default(),
            tensors: Vec::new(),
            config,
            tokenizer: OnceLock::new(),
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of weights that the step of one token reads: every matrix once.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.layers.iter().map(Layer::byte_len).sum::<u64>() + self.head().byte_len()
    }

    /// The folder that it was loaded from; `synthetic` for one with made-up weights.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What loading did: bytes imported and copied.
    pub fn loaded(&self) -> LoadProgress {
        self.loaded
    }

    /// Each tensor that was loaded, in order: whether it is used in place or was copied. None of made-up weights.
    pub fn tensors(&self) -> &[LoadedTensor] {
        &self.tensors
    }

    /// Its tokenizer, read when first asked for: who gives token ids needs none.
    ///
    /// # Errors
    /// [`LmError::Tokenizer`](crate::LmError::Tokenizer) if the folder has none or it is damaged.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = Tokenizer::open(&self.path)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// Whether a token ends a text: one that the model's settings name, or if they name none, the tokenizer's.
    pub fn is_end(&self, token: u32) -> bool {
        if self.config.eos.is_empty() {
            return self.tokenizer.get().is_some_and(|tokenizer| tokenizer.eos() == Some(token));
        }
        self.config.eos.contains(&token)
    }

    fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("path", &self.path).field("config", &self.config).finish_non_exhaustive()
    }
}
