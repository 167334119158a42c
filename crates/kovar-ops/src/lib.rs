//! The kernel library: each op in its own folder with WGSL, a Rust function for the CPU and a typed host function.
//!
//! Activations are f32, row-major. Weights stay as they are on disk.
#![warn(missing_docs)]

pub mod activation;
pub mod add_norm;
pub mod argmax;
pub mod attention;
pub mod cache;
pub mod cast;
mod check;
mod cpu;
pub mod elementwise;
pub mod embedding;
mod forms;
mod fusion;
mod grid;
pub mod linear;
mod matrix;
pub mod norm;
pub mod norm_rotary;
pub mod peak;
pub mod random;
pub mod rotary;
mod simd;
pub mod step;
pub mod tuning;

pub use forms::{KernelForm, all_kernels};
pub use fusion::fusion_rules;
pub use matrix::{AffineMatrix, DenseMatrix, Matrix};

/// How exactly products with quantised weights are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Activations are rounded to 8 bits in blocks of 32, on every device alike; a GPU with cooperative matrices then takes
    /// both factors as f16 for prompts. Perplexity stays within 0.5 % of that of exact arithmetic. Where sums of another
    /// order round one activation to the code beside, what follows is rounded anew: devices then differ by about as much
    /// as they do from exact arithmetic.
    #[default]
    Fast,
    /// Activations stay f32: devices differ by the order of sums alone, and so choose the same tokens.
    Exact,
}
