//! Weights of a model folder as buffers of a device.

use std::sync::Arc;

use kovar::{Buffer, DType, Device};
use kovar_ops::{AffineMatrix, DenseMatrix, Matrix};
use kovar_weights::{LinearWeights, ModelDir, Tensor, TensorType};

use crate::{LmError, Result};

/// How far loading has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadProgress {
    /// Bytes that the device uses where they lie in the mapped file.
    pub imported: u64,
    /// Bytes that were copied: into memory of the device, or because MLX pads nothing and they lay unaligned.
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

/// The bytes of a tensor, for as long as a buffer uses them.
struct Bytes(Tensor);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
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
    progress: &'a mut dyn FnMut(LoadProgress),
}

impl<'a> Loader<'a> {
    pub(crate) fn new(device: &'a Device, dir: &'a ModelDir, progress: &'a mut dyn FnMut(LoadProgress)) -> Loader<'a> {
        let counts = LoadProgress { total: dir.total_bytes(), ..LoadProgress::default() };
        Loader { device, dir, counts, progress }
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
        let owner = Arc::new(Bytes(tensor.clone()));
        let Loader { counts, progress, .. } = self;
        let part = |bytes| {
            counts.copied += bytes;
            progress(*counts);
        };
        let (buffer, imported) = self.device.import_with(owner, dtype, tensor.shape(), tensor.name(), part)?;
        if imported {
            self.counts.imported += tensor.byte_len() as u64;
            (self.progress)(self.counts);
        }
        Ok(buffer)
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
