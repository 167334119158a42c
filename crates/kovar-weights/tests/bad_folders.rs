//! Folders that must be refused, and the line that says why.
#![allow(clippy::unwrap_used, reason = "a test whose folder opens, or does not, against plan must fail")]

mod common;

use common::{Folder, SHIPPED, Tensors, file};
use kovar_weights::{ModelDir, WeightsError};
use serde_json::{Value, json};

/// Opens the folder, which must fail, and gives the message with the folder's own path cut out.
fn refusal(folder: &Folder) -> String {
    message(folder, ModelDir::open(folder.path()).unwrap_err())
}

fn message(folder: &Folder, error: WeightsError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
    text.replace(&format!("{}/", folder.path().display()), "").replace(&folder.path().display().to_string(), "DIR")
}

/// A folder whose weights file has these bytes.
fn with_weights(bytes: impl AsRef<[u8]>) -> Folder {
    Folder::new().write("config.json", "{}").write("model.safetensors", bytes)
}

fn header_refusal(header: &str, data: usize) -> String {
    refusal(&with_weights(file(header, &vec![0; data])))
}

fn layer_refusal(config: Value, tensors: Tensors) -> String {
    let folder = Folder::with(config, &tensors);
    let dir = ModelDir::open(folder.path()).unwrap();
    message(&folder, dir.linear("x").unwrap_err())
}

fn four_bit() -> Value {
    json!({"quantization": {"group_size": 64, "bits": 4}})
}

#[test]
fn paths_that_are_no_model() {
    let folder = Folder::new().write("file", "x");
    let open = |name: &str| message(&folder, ModelDir::open(folder.join(name)).unwrap_err());
    let advice = "give the folder of an MLX model (config.json beside model.safetensors)";
    assert_eq!(open("nowhere"), format!("nowhere does not exist; {advice}"));
    assert_eq!(open("file"), format!("file is not a folder; {advice}"));
    assert_eq!(open("file/x"), format!("file/x is not a folder; {advice}"));
    assert_eq!(refusal(&folder), format!("DIR has no config.json; {advice}"));
    assert_eq!(refusal(&Folder::new()), format!("DIR has no config.json; {advice}"));
}

#[test]
fn configs_that_cannot_be_read() {
    let refused = |config: &str| refusal(&Folder::new().write("config.json", config));
    let advice = "download it again or convert the model again";
    assert_eq!(refused("[]"), format!("config.json is not a usable config: it is not a JSON object; {advice}"));
    assert!(refused("{\"a\": ").contains("EOF while parsing a value at line 1 column 6"));
    assert!(refused("").contains("EOF while parsing"));
    assert!(refused(&"[".repeat(100_000)).contains("recursion limit"));
    assert!(refused(r#"{"quantization": {"bits": 4}}"#).contains("`quantization` has no `group_size`"));
    assert!(
        refused(r#"{"quantization": {"bits": 4, "group_size": 64, "mode": "nf4"}}"#).starts_with(
            "layer (all) is quantised with 4 bits, group 64, mode nf4, which is not supported (affine with"
        )
    );
    let folder = Folder::new();
    std::fs::create_dir(folder.join("config.json")).unwrap();
    assert_eq!(refusal(&folder), "config.json is not a regular file; download it again");
}

#[test]
fn weights_that_are_not_there() {
    let folder = Folder::new().write("config.json", "{}");
    let advice = "download the weights, or convert the model with mlx_lm.convert";
    assert_eq!(refusal(&folder), format!("DIR has no model*.safetensors; {advice}"));
    let folder = folder.write("pytorch_model.bin", "x").write("consolidated.safetensors", "x");
    let instead = "(only consolidated.safetensors and the like)";
    assert_eq!(refusal(&folder), format!("DIR has no model*.safetensors {instead}; {advice}"));

    let shard = Tensors::new().f32("a", &[1], &[0.0]).file();
    let folder = Folder::new().write("config.json", "{}").write("model-00002-of-00003.safetensors", &shard);
    let missing = refusal(&folder);
    assert_eq!(
        missing,
        "model-00001-of-00003.safetensors is missing, but model-00002-of-00003.safetensors calls for it; download it"
    );
    let folder = folder.write("model-00001-of-00003.safetensors", &shard);
    assert!(refusal(&folder).starts_with("model-00003-of-00003.safetensors is missing"));
}

#[test]
fn truncated_files() {
    let whole = std::fs::read(format!("{SHIPPED}/model.safetensors")).unwrap();
    let cut = |n: usize| refusal(&with_weights(&whole[..n]));
    let line = |promised: usize, found: usize| {
        format!("model.safetensors is truncated: header promises {promised} bytes, file has {found}; download it again")
    };
    assert_eq!(cut(0), line(8, 0));
    assert_eq!(cut(7), line(8, 7));
    assert_eq!(cut(8), line(21_524, 8));
    assert_eq!(cut(5000), line(21_524, 5000));
    assert_eq!(cut(21_524), line(7_999_252, 21_524));
    assert_eq!(cut(whole.len() - 1), line(7_999_252, 7_999_251));
}

#[test]
fn files_that_are_something_else() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7999252\n";
    let refused = refusal(&with_weights(pointer));
    assert_eq!(refused, "model.safetensors is a Git LFS pointer, not the weights; run `git lfs pull` in its folder");
    let refused = refusal(&with_weights("<!DOCTYPE html><html></html>"));
    let length = u64::from_le_bytes(*b"<!DOCTYP");
    assert!(refused.contains(&format!("its header would have {length} bytes; download it again")), "{refused}");
    let refused = refusal(&with_weights(u64::MAX.to_le_bytes()));
    assert!(refused.contains("its header would have 18446744073709551615 bytes"), "{refused}");
    let folder = Folder::new().write("config.json", "{}");
    std::fs::create_dir(folder.join("model.safetensors")).unwrap();
    assert_eq!(refusal(&folder), "model.safetensors is not a regular file; download it again");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = Folder::new().write("config.json", "{}");
    let made = std::process::Command::new("mkfifo").arg(folder.join("model.safetensors")).status().unwrap();
    assert!(made.success());
    assert_eq!(refusal(&folder), "model.safetensors is not a regular file; download it again");
}

#[test]
fn headers_that_are_not_headers() {
    let refused = |header: &str| header_refusal(header, 16);
    assert!(refused("[]").contains("expected an object of tensors by name at line 1 column 0"));
    assert!(refused("{").contains("EOF while parsing"));
    assert!(refused("{} x").contains("trailing characters"));
    assert!(refused(r#"{"a":{"dtype":"U8","shape":[1]}}"#).contains("missing field `data_offsets`"));
    assert!(refused(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#).contains("invalid value"));
    assert!(refused(r#"{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}"#).contains("invalid type"));
    assert!(refused(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#).contains("header:"));
    assert!(refused(r#"{"__metadata__":{},"__metadata__":{}}"#).contains("__metadata__ comes twice"));
    let not_text = file("{}", &[]).iter().map(|&b| if b == b'{' { 0xFF } else { b }).collect::<Vec<u8>>();
    assert!(refusal(&with_weights(not_text)).contains("header:"));
}

#[test]
fn entries_that_contradict_themselves() {
    let one = |dtype: &str, shape: &str, begin: u64, end: u64| {
        header_refusal(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#), 16)
    };
    let line = |reason: &str| format!("model.safetensors: tensor a {reason}; download it again");
    assert_eq!(one("F32", "[2,2]", 0, 8), line("has 8 bytes, but F32 [2, 2] takes 16"));
    assert_eq!(one("U8", "[4]", 8, 4), line("ends at byte 4 before it begins at 8"));
    assert_eq!(
        one("F32", "[4294967296,4294967296]", 0, 16),
        line("has 16 bytes, but F32 [4294967296, 4294967296] takes more than any file")
    );
    assert_eq!(one("U8", "[1]", u64::MAX - 1, u64::MAX), {
        line(&format!("lies at bytes {} to {}, beyond what memory can address", u64::MAX - 1, u64::MAX))
    });
    assert_eq!(
        one("Q4", "[1]", 0, 1),
        "model.safetensors: tensor a has the unknown type Q4; convert the model again with mlx_lm.convert"
    );
    let beyond = one("U8", "[16]", 8, 24);
    assert!(beyond.contains("is truncated: header promises 8"), "{beyond}");
}

#[test]
fn tensors_that_share_bytes_or_a_name() {
    let two = |first: &str, second: &str, begin: usize| {
        let end = begin + 8;
        let header = format!(
            r#"{{"{first}":{{"dtype":"U8","shape":[8],"data_offsets":[0,8]}},"{second}":{{"dtype":"U8","shape":[8],"data_offsets":[{begin},{end}]}}}}"#
        );
        header_refusal(&header, 16)
    };
    assert_eq!(two("a", "b", 7), "model.safetensors: tensor b shares bytes with tensor a; download it again");
    assert_eq!(
        two("a", "a", 8),
        "tensor a is both in model.safetensors and in model.safetensors; remove the file that does not belong to the model"
    );
    let shard = Tensors::new().f32("a", &[1], &[0.0]).file();
    let folder = with_weights(&shard).write("model-00001-of-00001.safetensors", &shard);
    let refused = refusal(&folder);
    assert!(
        refused.starts_with("tensor a is both in model-00001-of-00001.safetensors and in model.safetensors"),
        "{refused}"
    );
}

#[test]
fn indices_that_mislead() {
    let shard = Tensors::new().f32("a", &[1], &[0.0]).file();
    let refused = |index: &str| refusal(&with_weights(&shard).write("model.safetensors.index.json", index));
    assert_eq!(
        refused(r#"{"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}"#),
        "other.safetensors is missing, but model.safetensors.index.json calls for it; download it"
    );
    assert_eq!(
        refused(r#"{"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}"#),
        "model.safetensors has no tensor b, but model.safetensors.index.json says so; download both again"
    );
    assert_eq!(
        refused(r#"{"weight_map": {"a": "../../secret.safetensors"}}"#),
        "model.safetensors.index.json is not a usable index: it names the file ../../secret.safetensors, which is outside the folder; download it again"
    );
    assert!(refused(r#"{"weight_map": {}}"#).contains("it names no tensors"));
    assert!(refused("{}").contains("missing field `weight_map`"));
    assert!(refused(r#"{"weight_map": {"a": 5}}"#).contains("invalid type: integer `5`"));
}

#[test]
fn tensors_that_are_not_what_was_asked_for() {
    let tensors = Tensors::new().zeros("norm", "BF16", &[4]).zeros("ids", "I32x", &[0]);
    assert!(refusal(&Folder::with(json!({}), &tensors)).contains("tensor ids has the unknown type I32x"));

    let folder = Folder::with(json!({}), &Tensors::new().zeros("norm", "BF16", &[4]).zeros("ids", "U32", &[4]));
    let dir = ModelDir::open(folder.path()).unwrap();
    let vector = |name: &str, len| message(&folder, dir.vector(name, len).unwrap_err());
    assert_eq!(
        vector("nrom", 4),
        "DIR has no tensor nrom; the download is incomplete, or the model is not of the kind that its config.json says"
    );
    assert_eq!(
        vector("norm", 8),
        "tensor norm has shape [4], expected [8]; check config.json, or convert the model again"
    );
    assert!(vector("ids", 4).starts_with("tensor ids has type U32, expected F32, F16 or BF16; "));
}

#[test]
fn layers_whose_tensors_do_not_fit_each_other() {
    // the config's bits or group are not those that the weights were packed with
    assert_eq!(
        layer_refusal(four_bit(), Tensors::new().affine("x", 2, 128, 8, 64)),
        "tensor x.weight has shape [2, 32], expected [2, 16] (4 bits, groups of 64, to fit x.scales of shape [2, 2]); check config.json, or convert the model again"
    );
    assert!(layer_refusal(four_bit(), Tensors::new().affine("x", 2, 128, 4, 32)).contains("expected [2, 32] (4 bits"));

    let parts = |weight: &[usize], scales: &[usize], biases: &[usize]| {
        let tensors = Tensors::new()
            .zeros("x.weight", "U32", weight)
            .zeros("x.scales", "F16", scales)
            .zeros("x.biases", "F16", biases);
        layer_refusal(four_bit(), tensors)
    };
    assert!(parts(&[2, 8], &[3, 1], &[3, 1]).starts_with("tensor x.scales has shape [3, 1], expected [2, 1] (4 bits"));
    assert!(
        parts(&[2, 8], &[2, 1], &[2, 2])
            .starts_with("tensor x.biases has shape [2, 2], expected [2, 1], as x.scales; ")
    );
    assert!(parts(&[16], &[2, 1], &[2, 1]).contains("expected two axes, neither of them 0"));
    assert!(parts(&[2, 0], &[2, 0], &[2, 0]).contains("expected two axes, neither of them 0"));
    assert!(parts(&[2, 8, 1], &[2, 1], &[2, 1]).contains("tensor x.weight has shape [2, 8, 1], expected two axes"));

    let mixed = Tensors::new().zeros("x.weight", "U32", &[2, 8]).zeros("x.scales", "F16", &[2, 1]).zeros(
        "x.biases",
        "BF16",
        &[2, 1],
    );
    assert!(layer_refusal(four_bit(), mixed).contains("x.biases has type BF16, expected F16, as x.scales"));
    let no_biases = Tensors::new().zeros("x.weight", "U32", &[2, 8]).zeros("x.scales", "F16", &[2, 1]);
    assert!(layer_refusal(four_bit(), no_biases).starts_with("DIR has no tensor x.biases"));
    let bias = Tensors::new().affine("x", 2, 128, 4, 64).zeros("x.bias", "BF16", &[3]);
    assert!(layer_refusal(four_bit(), bias).starts_with("tensor x.bias has shape [3], expected [2]; "));
}

#[test]
fn layers_that_contradict_the_config() {
    let quantised = || Tensors::new().affine("x", 2, 128, 4, 64);
    let advice = "download the model again or convert it again";
    assert_eq!(
        layer_refusal(json!({}), quantised()),
        format!("layer x: there is a tensor x.scales, but config.json has no `quantization`; {advice}")
    );
    assert_eq!(
        layer_refusal(json!({"quantization": {"group_size": 64, "bits": 4, "x": false}}), quantised()),
        format!("layer x: config.json says it is not quantised, but there is a tensor x.scales; {advice}")
    );
    assert_eq!(
        layer_refusal(four_bit(), Tensors::new().zeros("x.weight", "U32", &[2, 8])),
        format!("layer x: its weights are packed, but there is no tensor x.scales; {advice}")
    );
    let floats = Tensors::new().zeros("x.weight", "F16", &[2, 8]).zeros("x.scales", "F16", &[2, 1]);
    assert!(layer_refusal(four_bit(), floats).starts_with("tensor x.weight has type F16, expected U32, as the layer"));
    assert!(layer_refusal(json!({}), Tensors::new().zeros("x.weight", "I8", &[2, 8])).contains("has type I8"));
}

#[test]
fn formats_that_are_not_supported() {
    let quantised = || Tensors::new().affine("x", 2, 128, 4, 64);
    let with = |setting: Value| layer_refusal(json!({ "quantization": setting }), quantised());
    assert_eq!(
        with(json!({"group_size": 64, "bits": 1})),
        "layer x is quantised with 1 bits, group 64, mode affine, which is not supported (affine with 2, 3, 4, 5, 6 or 8 bits and groups of 32, 64 or 128 is); convert the model again with mlx_lm.convert"
    );
    assert!(with(json!({"group_size": 48, "bits": 4})).contains("4 bits, group 48, mode affine"));
    assert!(with(json!({"group_size": 0, "bits": 0})).contains("0 bits, group 0, mode affine"));
    assert!(with(json!({"group_size": 32, "bits": 4, "mode": "mxfp4"})).contains("4 bits, group 32, mode mxfp4"));

    let gptq = json!({"quantization_config": {"quant_method": "gptq", "group_size": 64, "bits": 4}});
    let line = "layer x is quantised by gptq, which is not an MLX format; use an MLX version of the model, or make one with mlx_lm.convert";
    assert_eq!(layer_refusal(gptq.clone(), Tensors::new().zeros("x.qweight", "I32", &[0])), line);
    assert_eq!(layer_refusal(gptq.clone(), Tensors::new().zeros("x.weight", "F8_E4M3", &[2, 8])), line);
    assert_eq!(layer_refusal(gptq, quantised()), line);
}
