//! How a session works: precision, chunks, context, and the way that single tokens are computed.

use kovar::Timing;
use kovar_ops::Precision;

use crate::Config;

/// How a session works.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Whether products with quantised weights round activations to 8 bits, or keep all 32.
    pub precision: Precision,
    /// Tokens of a prompt that are processed at a time, at least 1.
    pub chunk: usize,
    /// Tokens that the context can hold; the model's own limit if that is smaller.
    pub context: Option<usize>,
    /// How single tokens are computed.
    pub decode: Decode,
    /// Whether the device starts with the first tenth of a step while the host still records the rest. It changes
    /// nothing for a step that is replayed: that has nothing to record.
    pub split: bool,
    /// What times are kept. [`Timing::Dispatches`] runs each command by itself, for a profile of them.
    pub timing: Timing,
}

/// How the step of one token runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decode {
    /// Recorded anew for each token.
    Eager,
    /// Captured once and submitted again and again. With [`Precision::Exact`] the text is that of [`Decode::Eager`], byte
    /// for byte; with activations rounded, on a GPU, a fused norm may round one at a tie to the code beside.
    Replay {
        /// Tokens of one submission, at least 1, where the device chooses them.
        tokens: usize,
    },
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            precision: Precision::default(),
            chunk: 512,
            context: None,
            decode: Decode::Replay { tokens: 8 },
            split: false,
            timing: Timing::default(),
        }
    }
}

impl SessionOptions {
    /// Tokens that the context of such a model can hold.
    pub(crate) fn limit(&self, config: &Config) -> usize {
        [self.context, config.max_positions].into_iter().flatten().min().unwrap_or(usize::MAX)
    }
}
