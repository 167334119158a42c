//! What can go wrong while a model folder is read.
//!
//! Every message is one line: it names the file, tensor or layer and says what to do. Text that comes out of a file is
//! escaped and shortened before it is shown, so a hostile file cannot write control characters to a terminal.

use std::fmt::{self, Display, Write};
use std::path::{Path, PathBuf};

/// Everything that reading an MLX model folder can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The path does not exist.
    #[error("{} does not exist; give the folder of an MLX model (config.json beside model.safetensors)", shown_path(.path))]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },

    /// The path is a file.
    #[error("{} is not a folder; give the folder of an MLX model (config.json beside model.safetensors)", shown_path(.path))]
    NotADirectory {
        /// The path that was asked for.
        path: PathBuf,
    },

    /// The folder has no `config.json`.
    #[error("{} has no config.json; give the folder of an MLX model (config.json beside model.safetensors)", shown_path(.dir))]
    MissingConfig {
        /// The folder that was asked for.
        dir: PathBuf,
    },

    /// `config.json` cannot be understood.
    #[error("{} is not a usable config: {}; download it again or convert the model again", shown_path(.file), shown(.reason))]
    InvalidConfig {
        /// The config file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The operating system refused to read a file.
    #[error("cannot read {}: {source}; check that the file exists and may be read", shown_path(.path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A weights or settings file is a folder, a pipe or another thing that cannot be mapped.
    #[error("{} is not a regular file; download it again", shown_path(.path))]
    NotAFile {
        /// The file.
        path: PathBuf,
    },

    /// A settings file is larger than any real one.
    #[error("{} has {size} bytes, more than the {limit} that such a file may have; download it again", shown_path(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The largest accepted size in bytes.
        limit: u64,
    },

    /// The folder has no safetensors files.
    #[error(
        "{} has no model*.safetensors{}; download the weights, or convert the model with mlx_lm.convert",
        shown_path(.dir),
        found_instead(.others)
    )]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// Names of weight files in other formats that it has instead.
        others: Vec<String>,
    },

    /// `model.safetensors.index.json` cannot be understood.
    #[error("{} is not a usable index: {}; download it again", shown_path(.file), shown(.reason))]
    InvalidIndex {
        /// The index file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A weights file that the index or the numbering of the others calls for is not there.
    #[error("{} is missing, but {} calls for it; download it", shown_path(.file), shown(.wanted_by))]
    MissingShard {
        /// The file that is missing.
        file: PathBuf,
        /// The file that calls for it.
        wanted_by: String,
    },

    /// The index puts a tensor into a file that does not have it.
    #[error(
        "{} has no tensor {}, but {} says so; download both again",
        shown_path(.file),
        shown(.tensor),
        shown_path(.index)
    )]
    MissingFromShard {
        /// The index file.
        index: PathBuf,
        /// The weights file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// The file holds a Git LFS pointer, the small text that stands for a file which was not fetched.
    #[error("{} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder", shown_path(.file))]
    LfsPointer {
        /// The file.
        file: PathBuf,
    },

    /// The file ends before the bytes that its header promises.
    #[error(
        "{} is truncated: header promises {promised} bytes, file has {found}; download it again",
        shown_path(.file)
    )]
    Truncated {
        /// The file.
        file: PathBuf,
        /// The bytes that the file should have.
        promised: u64,
        /// The bytes that it has.
        found: u64,
    },

    /// The header of a safetensors file cannot be understood.
    #[error("{} is not a usable safetensors file: {}; download it again", shown_path(.file), shown(.reason))]
    InvalidHeader {
        /// The file.
        file: PathBuf,
        /// What is wrong with its header.
        reason: String,
    },

    /// The header's entry of one tensor contradicts itself or the file.
    #[error("{}: tensor {} {}; download it again", shown_path(.file), shown(.tensor), shown(.reason))]
    InvalidTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },

    /// A tensor has an element type that this crate does not know.
    #[error(
        "{}: tensor {} has the unknown type {}; convert the model again with mlx_lm.convert",
        shown_path(.file),
        shown(.tensor),
        shown(.dtype)
    )]
    UnknownType {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type as the file writes it.
        dtype: String,
    },

    /// A tensor is in two files, or twice in one.
    #[error(
        "tensor {} is both in {} and in {}; remove the file that does not belong to the model",
        shown(.tensor),
        shown_path(.first),
        shown_path(.second)
    )]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// The file that has it first.
        first: PathBuf,
        /// The file that has it again.
        second: PathBuf,
    },

    /// The model has no tensor of this name.
    #[error(
        "{} has no tensor {}; the download is incomplete, or the model is not of the kind that its config.json says",
        shown_path(.dir),
        shown(.tensor)
    )]
    MissingTensor {
        /// The folder or file that was searched.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// A tensor's shape is not what the config or another tensor calls for.
    #[error(
        "tensor {} has shape {found:?}, expected {}; check config.json, or convert the model again",
        shown(.tensor),
        shown(.expected)
    )]
    ShapeMismatch {
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that it should have, and why.
        expected: String,
    },

    /// A tensor's element type is not one that its use allows.
    #[error(
        "tensor {} has type {found}, expected {}; convert the model again with mlx_lm.convert",
        shown(.tensor),
        shown(.expected)
    )]
    TypeMismatch {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: crate::TensorType,
        /// The types that it may have.
        expected: String,
    },

    /// The quantisation of a layer is not one that Kovar computes with.
    #[error(
        "layer {} is quantised with {bits} bits, group {group_size}, mode {}, which is not supported (affine with 2, 3, 4, 5, 6 or 8 bits and groups of 32, 64 or 128 is); convert the model again with mlx_lm.convert",
        shown(.layer),
        shown(.mode)
    )]
    UnsupportedQuantization {
        /// The layer's path, or `(all)` for the model's general setting.
        layer: String,
        /// Bits a weight.
        bits: u32,
        /// Weights that share a scale.
        group_size: u32,
        /// The mode as the config writes it.
        mode: String,
    },

    /// The model was quantised by another tool than MLX.
    #[error(
        "layer {} is quantised by {}, which is not an MLX format; use an MLX version of the model, or make one with mlx_lm.convert",
        shown(.layer),
        shown(.method)
    )]
    ForeignQuantization {
        /// The layer's path.
        layer: String,
        /// `quant_method` of `quantization_config`.
        method: String,
    },

    /// A row beyond the end of a matrix was asked for: a token that the model does not have, say.
    #[error("tensor {} has no row {row}, only {rows}; check the token ids", shown(.tensor))]
    RowOutOfRange {
        /// The matrix.
        tensor: String,
        /// The row that was asked for.
        row: usize,
        /// How many rows there are.
        rows: usize,
    },

    /// The tensors of a layer and the config disagree about whether it is quantised.
    #[error("layer {}: {}; download the model again or convert it again", shown(.layer), shown(.reason))]
    InconsistentLayer {
        /// The layer's path.
        layer: String,
        /// What disagrees.
        reason: String,
    },
}

fn shown(s: &str) -> Shown<'_> {
    Shown(s, 200)
}

fn shown_path(p: &Path) -> String {
    Shown(&p.to_string_lossy(), 1000).to_string()
}

fn found_instead(others: &[String]) -> String {
    match others {
        [] => String::new(),
        [one] => format!(" (only {})", shown(one)),
        [one, ..] => format!(" (only {} and the like)", shown(one)),
    }
}

/// Text from outside on one line: control characters escaped, cut after so many characters.
struct Shown<'a>(&'a str, usize);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, c) in self.0.chars().enumerate() {
            if i == self.1 {
                return f.write_char('…');
            }
            if breaks_line(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Control characters, line separators, and marks that reverse the direction of text.
fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_files_stays_on_one_short_line() {
        let e = WeightsError::MissingTensor { dir: "m\n".into(), tensor: format!("a\u{1b}[2J{}", "x".repeat(5000)) };
        let line = e.to_string();
        assert!(!line.chars().any(breaks_line), "{line}");
        assert!(line.len() < 500, "{} bytes", line.len());
        assert!(line.contains("a\\u{1b}[2J"), "{line}");
    }

    #[test]
    fn errors_are_small_enough_to_return() {
        assert!(size_of::<WeightsError>() <= 120, "{}", size_of::<WeightsError>());
    }
}
