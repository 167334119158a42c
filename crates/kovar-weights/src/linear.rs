//! The tensors of one matrix: found by the layer's path, checked against each other and against the config.

use crate::{Mode, ModelDir, Quantization, Tensor, TensorType, WeightsError};

/// The weights of a linear layer or an embedding: a matrix of `n` rows (outputs, or tokens) and `k` columns (inputs).
#[derive(Clone, Debug)]
pub enum LinearWeights {
    /// Plain floats.
    Dense(Dense),
    /// MLX's affine quantisation.
    Affine(Affine),
}

/// A matrix of F32, F16 or BF16.
#[derive(Clone, Debug)]
pub struct Dense {
    weight: Tensor,
    bias: Option<Tensor>,
    n: usize,
    k: usize,
}

/// A matrix of unsigned integers of 2, 3, 4, 5, 6 or 8 bits, with a scale and a bias for every `group_size` of them along a
/// row: `w = scale · q + bias`.
///
/// A row of `weight` is one stream of bits, least significant first, stored as little-endian U32: value `i` is the bits
/// from `i · bits` on. With 3, 5 and 6 bits values straddle words.
#[derive(Clone, Debug)]
pub struct Affine {
    weight: Tensor,
    scales: Tensor,
    biases: Tensor,
    bias: Option<Tensor>,
    bits: u32,
    group_size: u32,
    n: usize,
    k: usize,
}

impl LinearWeights {
    /// Rows: outputs of the layer, or tokens of the embedding. At least 1.
    pub fn n(&self) -> usize {
        match self {
            Self::Dense(d) => d.n,
            Self::Affine(a) => a.n,
        }
    }

    /// Columns, unpacked: inputs of the layer, or width of the embedding. At least 1.
    pub fn k(&self) -> usize {
        match self {
            Self::Dense(d) => d.k,
            Self::Affine(a) => a.k,
        }
    }

    /// The tensor `<path>.weight`.
    pub fn weight(&self) -> &Tensor {
        match self {
            Self::Dense(d) => &d.weight,
            Self::Affine(a) => &a.weight,
        }
    }

    /// The layer's own bias `[n]`, F32, F16 or BF16; not to be taken for the biases of the groups.
    pub fn bias(&self) -> Option<&Tensor> {
        match self {
            Self::Dense(d) => d.bias.as_ref(),
            Self::Affine(a) => a.bias.as_ref(),
        }
    }

    /// All tensors that belong to it.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let (groups, bias) = match self {
            Self::Dense(d) => (None, &d.bias),
            Self::Affine(a) => (Some([&a.scales, &a.biases]), &a.bias),
        };
        [self.weight()].into_iter().chain(groups.into_iter().flatten()).chain(bias)
    }

    /// Bytes of all its tensors.
    pub fn byte_len(&self) -> usize {
        self.tensors().map(Tensor::byte_len).sum()
    }

    /// Itself, if it has `n` rows and `k` columns.
    ///
    /// # Errors
    /// [`WeightsError::ShapeMismatch`].
    pub fn with_shape(self, n: usize, k: usize) -> Result<Self, WeightsError> {
        if (self.n(), self.k()) == (n, k) {
            return Ok(self);
        }
        let packed = match &self {
            Self::Dense(_) => String::new(),
            Self::Affine(a) => format!(" ({n} rows of {k} values, {} bits each; here are {} of {})", a.bits, a.n, a.k),
        };
        let columns = match &self {
            Self::Dense(_) => k,
            Self::Affine(a) => k.saturating_mul(a.bits as usize) / 32,
        };
        Err(WeightsError::ShapeMismatch {
            tensor: self.weight().name().into(),
            found: self.weight().shape().to_vec(),
            expected: format!("[{n}, {columns}]{packed}"),
        })
    }
}

impl Dense {
    /// `[n, k]`, F32, F16 or BF16.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The layer's bias `[n]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Rows.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns.
    pub fn k(&self) -> usize {
        self.k
    }
}

impl Affine {
    /// The bits that MLX packs and Kovar computes with.
    pub const BITS: [u32; 6] = [2, 3, 4, 5, 6, 8];
    /// The group sizes that MLX quantises by.
    pub const GROUP_SIZES: [u32; 3] = [32, 64, 128];

    /// `[n, k · bits / 32]`, U32.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[n, k / group_size]`, F32, F16 or BF16.
    pub fn scales(&self) -> &Tensor {
        &self.scales
    }

    /// The biases of the groups, of the scales' shape and type.
    pub fn biases(&self) -> &Tensor {
        &self.biases
    }

    /// The layer's own bias `[n]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Bits a weight, one of [`BITS`](Self::BITS).
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Weights a group, one of [`GROUP_SIZES`](Self::GROUP_SIZES).
    pub fn group_size(&self) -> u32 {
        self.group_size
    }

    /// Rows.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns, unpacked: a multiple of the group size.
    pub fn k(&self) -> usize {
        self.k
    }
}

impl ModelDir {
    /// The linear layer of this path: `<path>.weight`, with `<path>.scales` and `<path>.biases` if it is quantised, and
    /// `<path>.bias` if it has one.
    ///
    /// # Errors
    /// A missing tensor, shapes or types that do not fit each other, tensors that contradict the config, a format that is
    /// not supported; each a variant of [`WeightsError`].
    pub fn linear(&self, path: &str) -> Result<LinearWeights, WeightsError> {
        self.matrix(path, true)
    }

    /// The embedding of this path: as [`linear`](Self::linear), with a row for each token and no bias.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn embedding(&self, path: &str) -> Result<LinearWeights, WeightsError> {
        self.matrix(path, false)
    }

    fn matrix(&self, path: &str, with_bias: bool) -> Result<LinearWeights, WeightsError> {
        let mut weights = if self.contains(&format!("{path}.scales")) {
            LinearWeights::Affine(self.affine(path)?)
        } else {
            LinearWeights::Dense(self.dense(path)?)
        };
        let name = format!("{path}.bias");
        if with_bias && self.contains(&name) {
            let loaded = self.vector(&name, weights.n())?;
            match &mut weights {
                LinearWeights::Dense(d) => d.bias = Some(loaded),
                LinearWeights::Affine(a) => a.bias = Some(loaded),
            }
        }
        Ok(weights)
    }

    fn dense(&self, path: &str) -> Result<Dense, WeightsError> {
        let name = format!("{path}.weight");
        let usable = self.contains(&name) && self.tensor(&name)?.dtype().is_weight_float();
        if let (false, Some(method)) = (usable, self.quantization().foreign()) {
            return Err(WeightsError::ForeignQuantization { layer: path.into(), method: method.into() });
        }
        let weight = self.tensor(&name)?;
        if weight.dtype() == TensorType::U32 {
            let reason = format!("its weights are packed, but there is no tensor {path}.scales");
            return Err(WeightsError::InconsistentLayer { layer: path.into(), reason });
        }
        let weight = weight.with_float()?;
        let (n, k) = matrix_shape(&weight)?;
        Ok(Dense { weight, bias: None, n, k })
    }

    fn affine(&self, path: &str) -> Result<Affine, WeightsError> {
        let Quantization { group_size, bits, .. } = self.supported_quantization(path)?;
        let weight = self.tensor(&format!("{path}.weight"))?;
        if weight.dtype() != TensorType::U32 {
            return Err(weight.wrong_type("U32, as the layer has scales"));
        }
        let scales = self.tensor(&format!("{path}.scales"))?.with_float()?;
        let (n, _) = matrix_shape(&weight)?;
        let (_, groups) = matrix_shape(&scales)?;

        // a shape that lies in a file cannot overflow here, but nothing is lost by making sure
        let k = groups.saturating_mul(group_size as usize);
        let words = k.saturating_mul(bits as usize) / 32;
        let because = |of: &Tensor| {
            format!(" ({bits} bits, groups of {group_size}, to fit {} of shape {:?})", of.name(), of.shape())
        };
        let scales = scales.with_shape(&[n, groups], &because(&weight))?;
        let weight = weight.with_shape(&[n, words], &because(&scales))?;

        let like_scales = format!(", as {}", scales.name());
        let biases = self.tensor(&format!("{path}.biases"))?.with_shape(scales.shape(), &like_scales)?;
        if biases.dtype() != scales.dtype() {
            return Err(biases.wrong_type(&format!("{}{like_scales}", scales.dtype())));
        }
        Ok(Affine { weight, scales, biases, bias: None, bits, group_size, n, k })
    }

    /// The setting of a layer that has scales, if it can be computed with.
    fn supported_quantization(&self, path: &str) -> Result<Quantization, WeightsError> {
        let inconsistent = |reason: String| WeightsError::InconsistentLayer { layer: path.into(), reason };
        if self.quantization().excludes(path) {
            return Err(inconsistent(format!(
                "config.json says it is not quantised, but there is a tensor {path}.scales"
            )));
        }
        let Some(q) = self.quantization_for(path) else {
            return Err(match self.quantization().foreign() {
                Some(method) => WeightsError::ForeignQuantization { layer: path.into(), method: method.into() },
                None => inconsistent(format!("there is a tensor {path}.scales, but config.json has no `quantization`")),
            });
        };
        let supported =
            q.mode == Mode::Affine && Affine::BITS.contains(&q.bits) && Affine::GROUP_SIZES.contains(&q.group_size);
        if supported {
            return Ok(q);
        }
        Err(WeightsError::UnsupportedQuantization {
            layer: path.into(),
            bits: q.bits,
            group_size: q.group_size,
            mode: q.mode.name().into(),
        })
    }
}

/// Rows and columns of a tensor with two axes, neither empty.
fn matrix_shape(tensor: &Tensor) -> Result<(usize, usize), WeightsError> {
    match *tensor.shape() {
        [n, k] if n > 0 && k > 0 => Ok((n, k)),
        _ => Err(WeightsError::ShapeMismatch {
            tensor: tensor.name().into(),
            found: tensor.shape().to_vec(),
            expected: "two axes, neither of them 0".into(),
        }),
    }
}
