//! What can go wrong with a language model, each message one line that says what to do.

use std::path::PathBuf;

/// Result of every fallible call.
pub type Result<T, E = LmError> = std::result::Result<T, E>;

/// Everything that loading and running a language model can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LmError {
    /// The model's files.
    #[error(transparent)]
    Weights(#[from] kovar_weights::WeightsError),
    /// The device, or an operation on it.
    #[error(transparent)]
    Device(#[from] kovar::Error),
    /// A model of a kind that is not known.
    #[error(
        "{} is a model of type {model_type:?}, which is not supported; use one of type {supported}",
        .dir.display()
    )]
    UnknownArchitecture {
        /// The model's folder.
        dir: PathBuf,
        /// `model_type` of `config.json`.
        model_type: String,
        /// The types that are.
        supported: &'static str,
    },
    /// A settings file that contradicts itself or lacks something.
    #[error("{} is not usable: {reason}; download it again or convert the model again", .file.display())]
    InvalidConfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that the model wants and Kovar does not have.
    #[error("{} wants {what}, which is not supported; {instead}", .dir.display())]
    Unsupported {
        /// The model's folder.
        dir: PathBuf,
        /// What it wants.
        what: String,
        /// What works.
        instead: &'static str,
    },
    /// A layer in a format that the device's kernels do not compute with.
    #[error(
        "layer {layer} is quantised with {bits} bits in groups of {group}, which no kernel computes with yet; \
         convert the model with 4 or 8 bits in groups of 32, 64 or 128 (mlx_lm.convert --q-bits 4 --q-group-size 64)"
    )]
    UnsupportedQuantization {
        /// The layer.
        layer: String,
        /// Bits a weight.
        bits: u32,
        /// Weights that share a scale.
        group: u32,
    },
    /// The tokenizer is missing or damaged.
    #[error("the tokenizer {} cannot be used: {reason}; download it again", .file.display())]
    Tokenizer {
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The context has no room for more tokens.
    #[error("{wanted} tokens do not fit the context of {limit}; shorten the prompt or ask for fewer tokens")]
    ContextFull {
        /// Tokens that there would be.
        wanted: usize,
        /// Tokens that there can be.
        limit: usize,
    },
    /// There is nothing to begin with.
    #[error("the prompt has no tokens, and this model has no token that begins a text; give some text")]
    EmptyPrompt,
    /// A text too short to say something about.
    #[error("the text has {tokens} tokens; at least 2 are needed")]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} is not in the model's vocabulary of {vocab}; check the token ids")]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Tokens that the model has.
        vocab: usize,
    },
    /// An option out of its range.
    #[error("{option} is {value}; it must be {range}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// The model computed no number that a token could be chosen by.
    #[error(
        "no logit is a number: the weights are damaged, or the model needs another precision; try exact arithmetic"
    )]
    NoLogits,
}
