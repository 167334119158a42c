//! Weights of a model folder as buffers of a device.

use std::sync::Arc;

use kovar::{Buffer, DType, Device, FileBuffers, Placement};
use kovar_ops::{AffineMatrix, DenseMatrix, Matrix};
use kovar_weights::{LinearWeights, MappedFile, ModelDir, Tensor, TensorType};

use crate::{LmError, Result};

/// How far loading has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadProgress {
    /// Bytes that the device uses where they lie in the mapped file.
    pub imported: u64,
    /// Bytes that were copied: into memory of the device, or because MLX pads nothing and they lay where the device cannot
    /// bind them. The CPU takes them at any byte.
    pub copied: u64,
    /// Bytes of all tensors of the model.
    pub total: u64,
}

impl LoadProgress {
    /// Bytes that are loaded.
    pub fn done(&self) -> u64 {
        self.imported + self.copied
    }
}

/// A tensor of a model on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedTensor {
    /// Its name in the file.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Whether the device uses it where it lies in the mapped file.
    pub placement: Placement,
}

/// Where the weights of a model come from.
pub(crate) trait Weights {
    /// A vector of floats of this length.
    fn vector(&mut self, name: &str, len: usize) -> Result<Buffer>;
    /// The matrix of a linear layer, [n, k].
    fn linear(&mut self, path: &str, n: usize, k: usize) -> Result<Matrix>;
    /// The table of an embedding, [n, k].
    fn embedding(&mut self, path: &str, n: usize, k: usize) -> Result<Matrix>;
}

/// Puts tensors on a device and counts.
pub(crate) struct Loader<'a> {
    pub(crate) device: &'a Device,
    pub(crate) dir: &'a ModelDir,
    pub(crate) counts: LoadProgress,
    pub(crate) tensors: Vec<LoadedTensor>,
    files: Vec<(Arc<MappedFile>, FileBuffers<MappedFile>)>,
    progress: &'a mut dyn FnMut(LoadProgress),
}

impl<'a> Loader<'a> {
    pub(crate) fn new(device: &'a Device, dir: &'a ModelDir, progress: &'a mut dyn FnMut(LoadProgress)) -> Loader<'a> {
        let counts = LoadProgress { total: dir.total_bytes(), ..LoadProgress::default() };
        Loader { device, dir, counts, tensors: Vec::new(), files: Vec::new(), progress }
    }

    fn matrix(&mut self, path: &str, weights: &LinearWeights) -> Result<Matrix> {
        Ok(match weights {
            LinearWeights::Dense(dense) => Matrix::Dense(DenseMatrix::new(self.put(dense.weight())?)?),
            LinearWeights::Affine(affine) => {
                let (bits, group) = (affine.bits(), affine.group_size());
                if !matches!(bits, 4 | 8) {
                    return Err(LmError::UnsupportedQuantization { layer: path.into(), bits, group });
                }
                let (codes, scales) = (self.put(affine.weight())?, self.put(affine.scales())?);
                let biases = self.put(affine.biases())?;
                Matrix::Affine(AffineMatrix::new(codes, scales, biases, bits, group)?)
            }
        })
    }

    fn put(&mut self, tensor: &Tensor) -> Result<Buffer> {
        let dtype = match tensor.dtype() {
            TensorType::F32 => DType::F32,
            TensorType::F16 => DType::F16,
            TensorType::BF16 => DType::BF16,
            // Whoever found the tensor has checked that it is one of these.
            _ => DType::U32,
        };
        let at = self.file(tensor.file());
        let Loader { counts, progress, files, .. } = self;
        let part = |bytes| {
            counts.copied += bytes;
            progress(*counts);
        };
        let (name, bytes) = (tensor.name(), tensor.byte_len() as u64);
        let (buffer, placement) = files[at].1.buffer(tensor.range(), dtype, tensor.shape(), name, part)?;
        if placement == Placement::InPlace {
            self.counts.imported += bytes;
            (self.progress)(self.counts);
        }
        self.tensors.push(LoadedTensor { name: name.into(), bytes, placement });
        Ok(buffer)
    }

    /// Where in the list a file is, which the device imports once.
    fn file(&mut self, file: &Arc<MappedFile>) -> usize {
        let known = self.files.iter().position(|(known, _)| Arc::ptr_eq(known, file));
        known.unwrap_or_else(|| {
            let name = file.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            self.files.push((file.clone(), self.device.file(file.clone(), &name).unaligned()));
            self.files.len() - 1
        })
    }
}

impl Weights for Loader<'_> {
    fn vector(&mut self, name: &str, len: usize) -> Result<Buffer> {
        let tensor = self.dir.vector(name, len)?;
        self.put(&tensor)
    }

    fn linear(&mut self, path: &str, n: usize, k: usize) -> Result<Matrix> {
        let weights = self.dir.linear(path)?.with_shape(n, k)?;
        if weights.bias().is_some() {
            return Err(LmError::Unsupported {
                dir: self.dir.path().into(),
                what: format!("the bias {path}.bias"),
                instead: "use a model without biases in its linear layers",
            });
        }
        self.matrix(path, &weights)
    }

    fn embedding(&mut self, path: &str, n: usize, k: usize) -> Result<Matrix> {
        let weights = self.dir.embedding(path)?.with_shape(n, k)?;
        self.matrix(path, &weights)
    }
}
