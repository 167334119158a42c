//! Models with made-up weights as folders, for what has to begin with a file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use kovar::{Backend, DType, Device, DeviceOptions};
use kovar_weights::WeightsError;
use serde_json::{Map, Value, json};

use crate::rope::RopeScaling;
use crate::synthetic::{Made, Synthesizer};
use crate::{Architecture, Config, LmError, Model, Result, SyntheticWeights};

impl Model {
    /// Writes [`Model::synthetic`] as an MLX folder: `config.json` and `model.safetensors`, without a tokenizer. Memory is
    /// taken for one tensor at a time. Gives the bytes of the tensors.
    ///
    /// Tensors begin at a multiple of 8 bytes, as those of the safetensors library do. With `ragged` they begin at
    /// an odd one, as in half of the files that MLX writes, which pads nothing.
    ///
    /// # Errors
    /// [`LmError::Weights`] for a folder that is not there, that has such files already, or a full disk;
    /// [`LmError::Unsupported`] for positions that are scaled; forms that the kernels do not take.
    pub fn write_synthetic(folder: &Path, config: &Config, weights: &SyntheticWeights, ragged: bool) -> Result<u64> {
        let settings = settings(folder, config, weights)?;
        // Made where nobody computes: this gives names, shapes and seeds in the order of loading.
        let null = Device::open(&DeviceOptions::of(Backend::Null))?;
        let mut maker = Synthesizer::new(&null, *weights)?;
        let tied = config.tied.unwrap_or(true);
        Model::of(&null, folder, Config { tied: Some(tied), ..config.clone() }, tied, &mut maker)?;
        let path = folder.join("model.safetensors");
        let failed = |source| LmError::from(WeightsError::Io { path: path.clone(), source });
        let file = File::create_new(&path).map_err(failed)?;
        let bytes = write_tensors(file, &maker.made, ragged, failed)?;
        // Last, so that a folder with settings is whole.
        let path = folder.join("config.json");
        let failed = |source| LmError::from(WeightsError::Io { path: path.clone(), source });
        let mut file = File::create_new(&path).map_err(failed)?;
        file.write_all(format!("{settings:#}\n").as_bytes()).map_err(failed)?;
        Ok(bytes)
    }
}

/// `config.json` of such a model.
fn settings(folder: &Path, config: &Config, weights: &SyntheticWeights) -> Result<Value> {
    if config.rope_scaling != RopeScaling::None {
        let (dir, what) = (folder.into(), "scaled positions in made-up files".into());
        return Err(LmError::Unsupported { dir, what, instead: "use a shape without" });
    }
    let model_type = match config.architecture {
        Architecture::Llama => "llama",
        Architecture::Qwen3 => "qwen3",
    };
    let mut settings = json!({
        "model_type": model_type,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied.unwrap_or(true),
        "max_position_embeddings": config.max_positions,
        "eos_token_id": config.eos,
    });
    if weights.bits != 16 {
        settings["quantization"] = json!({ "group_size": weights.group, "bits": weights.bits });
    }
    Ok(settings)
}

fn byte_len(made: &Made) -> usize {
    made.shape.iter().product::<usize>() * made.dtype.size()
}

/// A safetensors file of these tensors in their order.
fn write_tensors(
    mut file: File,
    tensors: &[Made],
    ragged: bool,
    failed: impl Fn(io::Error) -> LmError + Copy,
) -> Result<u64> {
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({ "format": "mlx" }))]);
    let mut end = 0;
    for made in tensors {
        let dtype = if made.dtype == DType::BF16 { "BF16" } else { "U32" };
        let start = end;
        end += byte_len(made);
        let entry = json!({ "dtype": dtype, "shape": made.shape, "data_offsets": [start, end] });
        header.insert(made.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    // Spaces at its end mean nothing.
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len() + usize::from(ragged));
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
    for made in tensors {
        let buffer = device.buffer(made.dtype, &made.shape)?;
        let mut encoder = device.encoder()?;
        made.record(&mut encoder, &buffer)?;
        encoder.commit()?.wait()?;
        let bytes = buffer.reinterpret(DType::U8, &[byte_len(made)])?;
        file.write_all(&bytes.map::<u8>()?).map_err(failed)?;
    }
    Ok(end as u64)
}
