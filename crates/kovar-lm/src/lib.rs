//! Language models on Kovar: MLX model folders of Llama and Qwen3, their tokenizer, a growing cache, sampling, and
//! [`generate`] as an iterator of tokens.
//!
//! A [`Model`] is weights on a device; a [`Session`] is one text in the making. A step of a session is one recording: every
//! layer of the forward pass in one command buffer, with the position in a small buffer that kernels read, so that the
//! recording of a step does not depend on where in the text it is.
//!
//! [`Session::eval_logits`] and [`perplexity`] look at what a model makes of given tokens.
#![warn(missing_docs)]

mod cache;
mod config;
mod decode;
mod error;
mod generate;
mod load;
mod model;
mod need;
mod options;
mod perplexity;
mod rope;
mod sampler;
mod session;
mod synthetic;
mod text_stream;
mod tokenizer;
mod workspace;
mod written;

pub use config::{Architecture, Config};
pub use decode::LOOK_AHEAD;
pub use error::{LmError, Result};
pub use generate::{Finish, GenerateOptions, Generation, Timing, Token, generate};
pub use kovar_ops::Precision;
pub use load::{LoadProgress, LoadedTensor};
pub use model::Model;
pub use options::{Decode, SessionOptions};
pub use perplexity::{Perplexity, perplexity};
pub use rope::{Llama3, RopeScaling, inverse_frequencies};
pub use sampler::{Sampler, Sampling};
pub use session::{Session, StepBytes};
pub use synthetic::{SHAPES, SyntheticWeights, shape};
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
