//! MLX model folders, as they are on disk.
//!
//! A folder holds `config.json`, one or more safetensors files, and a tokenizer that this crate does not look at.
//! [`ModelDir`] maps the files and checks their headers in full; after that a [`Tensor`] is bytes in place, and a
//! [`LinearWeights`] is the tensors of one layer, checked against each other and against the quantisation settings.
//!
//! Nothing is copied or converted, and nothing here knows of a device. [`reference`](mod@reference) turns weights into f32
//! the slow and plain way, for tests.
//!
//! Files are taken as hostile: whatever is in them, the answer is a [`WeightsError`] of one line, never a panic, a read out
//! of bounds or a large allocation. One thing is outside of any program's power: files must not be shortened or rewritten
//! in place while they are open, see [`MappedFile`].
//!
//! ```
//! use kovar_weights::{LinearWeights, ModelDir};
//!
//! let dir = ModelDir::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit"))?;
//! let hidden = dir.config()["hidden_size"].as_u64().unwrap_or(0) as usize;
//!
//! let norm = dir.vector("model.norm.weight", hidden)?;
//! assert_eq!(norm.byte_len(), 2 * hidden); // bf16
//!
//! let down = dir.linear("model.layers.0.mlp.down_proj")?.with_shape(hidden, 1024)?;
//! if let LinearWeights::Affine(q) = &down {
//!     assert_eq!((q.bits(), q.group_size()), (4, 64));
//!     assert_eq!(q.weight().shape(), [hidden, 1024 * 4 / 32]);
//! }
//! # Ok::<(), kovar_weights::WeightsError>(())
//! ```

mod error;
mod linear;
mod mapped_file;
mod model_dir;
mod quantization;
pub mod reference;
mod safetensors;
mod shards;
mod tensor;

pub use error::WeightsError;
pub use linear::{Affine, Dense, LinearWeights};
pub use mapped_file::MappedFile;
pub use model_dir::ModelDir;
pub use quantization::{Mode, Quantization, QuantizationConfig};
pub use safetensors::Safetensors;
pub use tensor::{Tensor, TensorType};
