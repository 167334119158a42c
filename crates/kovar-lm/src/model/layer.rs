//! Weights of one layer.

use kovar::Buffer;
use kovar_ops::Matrix;

use crate::load::Weights;
use crate::{Architecture, Config, Result};

/// Norms of the query and key heads, f32, f16 or bf16 [head_dim].
pub(super) struct HeadNorms {
    pub(super) queries: Buffer,
    pub(super) keys: Buffer,
}

pub(super) struct Layer {
    pub(super) attention_norm: Buffer,
    pub(super) queries: Matrix,
    pub(super) keys: Matrix,
    pub(super) values: Matrix,
    pub(super) head_norms: Option<HeadNorms>,
    pub(super) output: Matrix,
    pub(super) mlp_norm: Buffer,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

impl Layer {
    pub(super) fn load(loader: &mut dyn Weights, config: &Config, index: usize) -> Result<Layer> {
        let name = |rest: &str| format!("model.layers.{index}.{rest}");
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let head_norms = match config.architecture {
            Architecture::Llama => None,
            Architecture::Qwen3 => Some(HeadNorms {
                queries: loader.vector(&name("self_attn.q_norm.weight"), config.head_dim)?,
                keys: loader.vector(&name("self_attn.k_norm.weight"), config.head_dim)?,
            }),
        };
        Ok(Layer {
            attention_norm: loader.vector(&name("input_layernorm.weight"), hidden)?,
            queries: loader.linear(&name("self_attn.q_proj"), queries, hidden)?,
            keys: loader.linear(&name("self_attn.k_proj"), keys, hidden)?,
            values: loader.linear(&name("self_attn.v_proj"), keys, hidden)?,
            head_norms,
            output: loader.linear(&name("self_attn.o_proj"), hidden, queries)?,
            mlp_norm: loader.vector(&name("post_attention_layernorm.weight"), hidden)?,
            gate: loader.linear(&name("mlp.gate_proj"), intermediate, hidden)?,
            up: loader.linear(&name("mlp.up_proj"), intermediate, hidden)?,
            down: loader.linear(&name("mlp.down_proj"), hidden, intermediate)?,
        })
    }

    /// Bytes that a product of each matrix with one vector reads.
    pub(super) fn byte_len(&self) -> u64 {
        let Layer { queries, keys, values, output, gate, up, down, .. } = self;
        [queries, keys, values, output, gate, up, down].into_iter().map(Matrix::byte_len).sum()
    }
}
