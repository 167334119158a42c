//! Folders that must open: the shipped model, MLX's own results, and small ones made by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Folder, SHIPPED, Tensors};
use kovar_weights::{LinearWeights, Mode, ModelDir, Quantization, TensorType, WeightsError, reference};
use serde_json::json;

#[test]
fn the_shipped_model_opens_whole() -> Result<(), WeightsError> {
    let dir = ModelDir::open(SHIPPED)?;
    assert_eq!(dir.names().len(), 3 + 8 * 25 + 1);
    assert_eq!(dir.total_bytes(), 7_977_728);
    assert_eq!(dir.files().len(), 1);
    assert_eq!(dir.config()["model_type"], "qwen3");
    let setting = Some(Quantization { group_size: 64, bits: 4, mode: Mode::Affine });
    assert_eq!(dir.quantization_for("model.layers.0.mlp.up_proj"), setting);

    let embedding = dir.embedding("model.embed_tokens")?.with_shape(4096, 384)?;
    assert_eq!(embedding.byte_len(), 4096 * (48 * 4 + 6 * 2 * 2));
    for layer in 0..8 {
        let linear = |name: &str, n, k| dir.linear(&format!("model.layers.{layer}.{name}"))?.with_shape(n, k);
        let vector = |name: &str, n| dir.vector(&format!("model.layers.{layer}.{name}.weight"), n);
        for (name, n, k) in [
            ("self_attn.q_proj", 384, 384),
            ("self_attn.k_proj", 128, 384),
            ("self_attn.v_proj", 128, 384),
            ("self_attn.o_proj", 384, 384),
            ("mlp.gate_proj", 1024, 384),
            ("mlp.up_proj", 1024, 384),
            ("mlp.down_proj", 384, 1024),
        ] {
            let weights = linear(name, n, k)?;
            assert!(matches!(weights, LinearWeights::Affine(_)), "{name}");
            assert!(reference::dequantize(&weights)?.iter().all(|w| w.abs() < 10.0), "{name}");
        }
        for (name, n) in [
            ("input_layernorm", 384),
            ("post_attention_layernorm", 384),
            ("self_attn.q_norm", 64),
            ("self_attn.k_norm", 64),
        ] {
            assert_eq!(vector(name, n)?.dtype(), TensorType::BF16);
        }
    }
    Ok(())
}

#[test]
fn dequantised_values_are_those_of_mlx() -> Result<(), WeightsError> {
    let dir = ModelDir::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/affine-dequantize"))?;
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            let layer = format!("b{bits}g{group}");
            let weights = dir.linear(&layer)?.with_shape(2, 256)?;
            let expected = reference::floats(&dir.tensor(&format!("{layer}.expected"))?)?;
            assert_eq!(reference::dequantize(&weights)?, expected, "{layer}");
        }
    }
    Ok(())
}

#[test]
fn three_bit_values_computed_by_hand() -> Result<(), WeightsError> {
    let stream = [0x88, 0xC6, 0xFA].repeat(8); // 0 1 2 … 7, eight times over
    let tensors = Tensors::new()
        .add("x.weight", "U32", &[2, 6], &stream.repeat(2))
        .add("x.scales", "BF16", &[2, 2], &[0x00, 0x3F, 0x80, 0xBF, 0x00, 0x40, 0x00, 0x00]) // 0.5 -1 2 0
        .add("x.biases", "BF16", &[2, 2], &[0x80, 0xBF, 0x40, 0x40, 0x00, 0x00, 0x80, 0x3F]); // -1 3 0 1
    let config = json!({"quantization": {"group_size": 32, "bits": 3}});
    let folder = Folder::with(config, &tensors);
    let weights = ModelDir::open(folder.path())?.linear("x")?.with_shape(2, 64)?;

    let row = reference::dequantize_row(&weights, 0)?;
    assert_eq!(row[..8], [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    assert_eq!(row[24..40], [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0]);
    let row = reference::dequantize_row(&weights, 1)?;
    assert_eq!(row[24..36], [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 1.0, 1.0, 1.0, 1.0]);
    let beyond = reference::dequantize_row(&weights, 2).unwrap_err().to_string();
    assert_eq!(beyond, "tensor x.weight has no row 2, only 2; check the token ids");
    Ok(())
}

#[test]
fn dense_layers_of_each_type_become_f32() -> Result<(), WeightsError> {
    let tensors = Tensors::new()
        .f32("a.weight", &[1, 2], &[1.5, -3.25])
        .add("b.weight", "F16", &[1, 2], &[0x00, 0x3E, 0x80, 0xC2])
        .add("c.weight", "BF16", &[1, 2], &[0xC0, 0x3F, 0x50, 0xC0])
        .f32("c.bias", &[1], &[7.0]);
    let folder = Folder::with(json!({}), &tensors);
    let dir = ModelDir::open(folder.path())?;
    for path in ["a", "b", "c"] {
        let weights = dir.linear(path)?;
        assert!(matches!(weights, LinearWeights::Dense(_)));
        assert_eq!(reference::dequantize(&weights)?, [1.5, -3.25], "{path}");
    }
    assert_eq!(dir.linear("c")?.bias().map(reference::floats).transpose()?, Some(vec![7.0]));
    assert!(dir.embedding("c")?.bias().is_none() && dir.linear("a")?.bias().is_none());
    Ok(())
}

#[test]
fn layers_may_differ_from_the_model() -> Result<(), WeightsError> {
    let tensors = Tensors::new()
        .affine("a", 3, 128, 4, 64)
        .affine("b", 3, 128, 6, 32)
        .zeros("b.bias", "BF16", &[3])
        .zeros("c.weight", "F16", &[3, 128])
        .zeros("d.weight", "F16", &[3, 100]);
    let config = json!({"quantization": {
        "group_size": 64, "bits": 4, "b": {"group_size": 32, "bits": 6}, "c": false
    }});
    let folder = Folder::with(config, &tensors);
    let dir = ModelDir::open(folder.path())?;
    for (path, bits, group) in [("a", 4, 64), ("b", 6, 32)] {
        let LinearWeights::Affine(a) = dir.linear(path)? else { panic!("{path} is quantised") };
        assert_eq!((a.bits(), a.group_size(), a.n(), a.k()), (bits, group, 3, 128));
        assert_eq!(a.bias().is_some(), path == "b");
    }
    assert!(matches!(dir.linear("c")?, LinearWeights::Dense(_)));
    // MLX leaves a layer alone whose columns do not divide by the group, and says nothing of it in the config
    assert!(matches!(dir.linear("d")?, LinearWeights::Dense(_)));
    Ok(())
}

fn shards() -> [Tensors; 2] {
    [Tensors::new().f32("a", &[1], &[1.0]), Tensors::new().f32("b", &[1], &[2.0]).f32("c", &[1], &[3.0])]
}

#[test]
fn shards_are_one_model_with_and_without_an_index() -> Result<(), WeightsError> {
    let [first, second] = shards();
    let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let folder = Folder::new().write("config.json", "{}").write(a, first.file()).write(b, second.file());
    let check = || -> Result<(), WeightsError> {
        let dir = ModelDir::open(folder.path())?;
        assert_eq!(dir.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(dir.files().len(), 2);
        assert_eq!(reference::floats(&dir.tensor("c")?)?, [3.0]);
        assert!(dir.tensor("c")?.file().path().ends_with(b));
        Ok(())
    };
    check()?;
    let index = json!({"metadata": {"total_size": 12}, "weight_map": {"a": a, "b": b, "c": b}});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    check()
}

#[test]
fn an_index_may_name_a_single_file_and_any_name() -> Result<(), WeightsError> {
    let [first, _] = shards();
    let index = json!({"weight_map": {"a": "weights of mine.safetensors"}});
    let folder = Folder::new()
        .write("config.json", "{}")
        .write("weights of mine.safetensors", first.file())
        .write("model.safetensors.index.json", index.to_string());
    assert!(ModelDir::open(folder.path())?.contains("a"));
    Ok(())
}

#[test]
fn tensors_keep_their_file_mapped_and_know_their_alignment() -> Result<(), WeightsError> {
    let header = r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[],"data_offsets":[3,7]}, "e":{"dtype":"F32","shape":[0,9],"data_offsets":[7,7]}}"#;
    let data = [1, 2, 3, 0, 0, 0x80, 0x3F];
    // as MLX writes it, the header is not padded: the data may begin anywhere
    for pad in 0..4 {
        let header = format!("{header}{}", " ".repeat(pad));
        let folder = Folder::new().write("config.json", "{}").write("model.safetensors", common::file(&header, &data));
        let dir = ModelDir::open(folder.path())?;
        let (a, b, e) = (dir.tensor("a")?, dir.tensor("b")?, dir.tensor("e")?);
        drop(dir);
        drop(folder);
        assert_eq!(a.bytes(), [1, 2, 3]);
        assert_eq!((b.len(), b.shape(), reference::floats(&b)?), (1, &[][..], vec![1.0]));
        assert_eq!((e.len(), e.bytes(), e.is_empty()), (0, &[][..], true));
        assert_eq!(b.bytes().as_ptr().addr() % b.alignment(), 0);
        assert_ne!(b.bytes().as_ptr().addr() % (2 * b.alignment()), 0);
    }
    Ok(())
}
