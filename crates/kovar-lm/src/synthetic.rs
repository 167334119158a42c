//! Models with made-up weights: shapes of published models, and matrices made on the device.

use kovar::{Buffer, CommandEncoder, DType, Device, MemoryKind};
use kovar_ops::{AffineMatrix, DenseMatrix, Matrix, random};

use crate::load::Weights;
use crate::rope::RopeScaling;
use crate::{Architecture, Config, LmError, Result};

/// How made-up matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntheticWeights {
    /// Bits of a code: 4 or 8; 16 for bf16 without quantisation.
    pub bits: u32,
    /// Values that share a scale: 32, 64 or 128.
    pub group: u32,
    /// The same seed gives the same model.
    pub seed: u32,
}

impl Default for SyntheticWeights {
    fn default() -> SyntheticWeights {
        SyntheticWeights { bits: 4, group: 64, seed: 0 }
    }
}

/// Names that [`shape`] knows.
pub const SHAPES: [&str; 6] = ["qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b", "llama-1b", "llama-8b"];

/// The shape of a published model: Qwen3 (<https://huggingface.co/Qwen>) or Llama 3.
pub fn shape(name: &str) -> Option<Config> {
    let qwen = |hidden, layers, heads, intermediate, tied| {
        base(Architecture::Qwen3, [hidden, layers, heads, 8, 128, intermediate, 151_936], tied)
    };
    let llama = |hidden, layers, head_dim, intermediate, tied| {
        base(Architecture::Llama, [hidden, layers, 32, 8, head_dim, intermediate, 128_256], tied)
    };
    Some(match name {
        "qwen3-0.6b" => qwen(1024, 28, 16, 3072, true),
        "qwen3-1.7b" => qwen(2048, 28, 16, 6144, true),
        "qwen3-4b" => qwen(2560, 36, 32, 9728, true),
        "qwen3-8b" => qwen(4096, 36, 32, 12_288, false),
        "llama-1b" => llama(2048, 16, 64, 8192, true),
        "llama-8b" => llama(4096, 32, 128, 14_336, false),
        _ => return None,
    })
}

fn base(architecture: Architecture, sizes: [usize; 7], tied: bool) -> Config {
    let [hidden, layers, heads, kv_heads, head_dim, intermediate, vocab] = sizes;
    Config {
        architecture,
        hidden,
        intermediate,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab,
        norm_eps: 1e-6,
        rope_theta: 1e6,
        rope_scaling: RopeScaling::None,
        tied: Some(tied),
        max_positions: Some(131_072),
        eos: Vec::new(),
    }
}

/// What a made-up tensor is filled with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fill {
    /// Random bits.
    Bits,
    /// Numbers around a mean.
    Floats(f32),
}

/// A tensor as it was made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    /// Its name in a file.
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    fill: Fill,
    seed: u32,
}

impl Made {
    /// Makes it, in a buffer of its type and shape.
    pub(crate) fn record(&self, encoder: &mut CommandEncoder, buffer: &Buffer) -> Result<()> {
        match self.fill {
            Fill::Bits => random::bits(encoder, buffer, self.seed)?,
            Fill::Floats(mean) => random::floats(encoder, buffer, mean, self.seed)?,
        }
        Ok(())
    }
}

/// Makes weights where they are used: one recording fills them all.
pub(crate) struct Synthesizer {
    encoder: CommandEncoder,
    weights: SyntheticWeights,
    seeds: u32,
    /// What was made, in order.
    pub(crate) made: Vec<Made>,
}

impl Synthesizer {
    pub(crate) fn new(device: &Device, weights: SyntheticWeights) -> Result<Synthesizer> {
        if weights.group == 0 || !matches!(weights.bits, 1..=8 | 16) {
            let value = format!("{} in groups of {}", weights.bits, weights.group);
            return Err(LmError::Option { option: "bits", value, range: "4, 8 or 16, in groups of 32, 64 or 128" });
        }
        Ok(Synthesizer { encoder: device.encoder()?, weights, seeds: 0, made: Vec::new() })
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.encoder.commit()?.wait()?;
        Ok(())
    }

    /// A seed for one more tensor; neighbours differ in every bit with even odds.
    fn seed(&mut self) -> u32 {
        self.seeds += 1;
        self.weights.seed.wrapping_add(self.seeds).wrapping_mul(0x9e37_79b9)
    }

    fn make(&mut self, name: String, dtype: DType, shape: &[usize], fill: Fill, seed: u32) -> Result<Buffer> {
        let buffer = self.encoder.device().buffer_in(MemoryKind::Device, dtype, shape, &name)?;
        let made = Made { name, dtype, shape: shape.into(), fill, seed };
        made.record(&mut self.encoder, &buffer)?;
        self.made.push(made);
        Ok(buffer)
    }

    fn floats(&mut self, shape: &[usize], name: String, mean: f32, seed: u32) -> Result<Buffer> {
        self.make(name, DType::BF16, shape, Fill::Floats(mean), seed)
    }

    /// Elements so small that a product stays about the size of its input.
    fn matrix(&mut self, path: &str, n: usize, k: usize) -> Result<Matrix> {
        let SyntheticWeights { bits, group, .. } = self.weights;
        let (seed, name) = (self.seed(), |part: &str| format!("{path}.{part}"));
        if bits == 16 {
            let weight = self.floats(&[n, k], name("weight"), (k as f32).recip(), seed)?;
            return Ok(Matrix::Dense(DenseMatrix::new(weight)?));
        }
        let codes = self.make(name("weight"), DType::U32, &[n, k * bits as usize / 32], Fill::Bits, seed)?;
        let levels = (1u32 << bits) as f32;
        // Elements of zero mean and a variance of 1/k. Codes are even over `levels` values: a deviation of levels / √12.
        let scale = 12f32.sqrt() / (levels * (k as f32).sqrt());
        let groups = [n, k / group as usize];
        let seed = self.seed();
        let scales = self.floats(&groups, name("scales"), scale, seed)?;
        let biases = self.floats(&groups, name("biases"), -scale * (levels - 1.0) / 2.0, seed)?;
        Ok(Matrix::Affine(AffineMatrix::new(codes, scales, biases, bits, group)?))
    }
}

impl Weights for Synthesizer {
    fn vector(&mut self, name: &str, len: usize) -> Result<Buffer> {
        let seed = self.seed();
        self.floats(&[len], name.into(), 1.0, seed)
    }

    fn linear(&mut self, path: &str, n: usize, k: usize) -> Result<Matrix> {
        self.matrix(path, n, k)
    }

    fn embedding(&mut self, path: &str, n: usize, k: usize) -> Result<Matrix> {
        self.matrix(path, n, k)
    }
}
