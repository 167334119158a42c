//! What is wrong with a model is said in one line that tells what to do, on standard error, with exit code 1 and nothing
//! on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/rustdoc-14m-mlx-4bit")
}

fn kovar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kovar")).args(arguments).env_remove("KOVAR_DEVICE").output().unwrap()
}

fn generate(model: &Path) -> Output {
    let model = model.to_str().unwrap();
    kovar(&["generate", "--model", model, "--prompt", "A lifetime is", "--max-tokens", "2", "--device", "cpu"])
}

/// A copy of the shipped model that a test may damage.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(shipped()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

fn edit_config(folder: &TempDir, from: &str, to: &str) {
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// The one line that is said.
#[track_caller]
fn line(output: &Output) -> String {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(errors.starts_with("error: ") && errors.trim_end().lines().count() == 1, "{errors}");
    errors
}

#[track_caller]
fn says(output: &Output, words: &[&str]) {
    let line = line(output);
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
}

#[test]
fn the_shipped_model_writes_text_and_notes_apart() {
    let output = generate(&shipped());
    assert!(output.status.success());
    assert!(!output.stdout.is_empty());
    let notes = String::from_utf8(output.stderr).unwrap();
    for word in ["prompt:", "decode:", "tokens/s", "memory:", "dispatches", "barriers"] {
        assert!(notes.contains(word), "no {word:?} in {notes}");
    }
}

#[test]
fn a_wrong_path() {
    says(&generate(Path::new("/no/such/model")), &["/no/such/model"]);
    says(&generate(&shipped().join("config.json")), &["config.json"]);
}

#[test]
fn an_unknown_architecture() {
    let folder = copy();
    edit_config(&folder, "\"qwen3\"", "\"mamba\"");
    says(&generate(folder.path()), &["mamba", "llama", "qwen3"]);
}

#[test]
fn a_truncated_file() {
    let folder = copy();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    says(&generate(folder.path()), &["model.safetensors", "truncated"]);
}

#[test]
fn a_missing_tensor() {
    let folder = copy();
    edit_config(&folder, "\"num_hidden_layers\": 8", "\"num_hidden_layers\": 9");
    says(&generate(folder.path()), &["model.layers.8."]);
}

#[test]
fn an_unsupported_quantisation() {
    let folder = copy();
    edit_config(&folder, "\"bits\": 4", "\"bits\": 5");
    says(&generate(folder.path()), &["5"]);
    let folder = copy();
    edit_config(&folder, "\"bits\": 4", "\"bits\": 4, \"mode\": \"nvfp4\"");
    says(&generate(folder.path()), &["nvfp4"]);
}

#[test]
fn a_table_of_cuts_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.json");
    let tuned = |text: &str| {
        fs::write(&table, text).unwrap();
        kovar(&["bench", "peak", "--device", "cpu", "--rounds", "1", "--tuning", table.to_str().unwrap()])
    };
    says(&tuned("[{}]"), &["table.json", "tuning table"]);
    assert!(tuned("[]").status.success());
    says(&kovar(&["tune", "--device", "cpu"]), &["CPU"]);
}

#[test]
fn a_device_that_is_not_there() {
    let model = shipped();
    let model = model.to_str().unwrap();
    says(&kovar(&["eval", "--model", model, "--tokens", "0,1", "--device", "cpu:7"]), &["cpu:7"]);
}

#[test]
fn logits_come_out_as_a_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (shipped(), folder.path().join("logits.safetensors"));
    let arguments = ["--model", model.to_str().unwrap(), "--tokens", "0,5,9", "--device", "cpu"];
    let output = kovar(&[&["eval"], &arguments[..], &["--logits", out.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = fs::read(out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let logits = file.tensor("logits").unwrap();
    assert_eq!((logits.dtype(), logits.shape()), (safetensors::Dtype::F32, &[3, 4096][..]));
    says(&kovar(&[&["eval"], &arguments[..2], &["--tokens", "4096", "--device", "cpu"]].concat()), &["4096"]);
}

#[test]
fn the_decode_step_is_proved_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let model = shipped();
    for form in ["txt", "json", "dot", "svg"] {
        let out = folder.path().join(format!("step.{form}"));
        let arguments = ["verify", "--device", "cpu", "--model", model.to_str().unwrap(), "--explain"];
        let output = kovar(&[&arguments[..], &[out.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).unwrap().contains("proved"));
        assert!(fs::metadata(out).unwrap().len() > 1000);
    }
}

#[test]
fn a_model_is_measured() {
    let model = shipped();
    let sizes = ["--device", "cpu", "--prompt", "4", "--gen", "9", "--ctx", "20", "--rounds", "2", "--json"];
    for more in [&[][..], &["--eager"]] {
        let output = kovar(&[&["bench", "--model", model.to_str().unwrap()], &sizes[..], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let decode = &report["decode"];
        assert_eq!((&report["prompt"]["tokens_per_s"]["rounds"], &decode["context"]), (&2.into(), &20.into()));
        for speed in [&report["prompt"], decode] {
            let [min, median, max] = ["min", "median", "max"].map(|name| speed["tokens_per_s"][name].as_f64().unwrap());
            assert!(0.0 < min && min <= median && median <= max, "{report}");
        }
        let barriers = |name: &str| decode[name]["barriers"].as_u64().unwrap();
        assert!(barriers("fused_and_reordered") < barriers("recorded"), "{report}");
        assert!(decode["weight_bytes"].as_u64().unwrap() > 7 << 20, "{report}");
    }
}

#[test]
fn a_measurement_needs_weights() {
    let neither = kovar(&["bench", "--device", "cpu"]);
    assert_eq!(neither.status.code(), Some(2));
    let unknown = kovar(&["bench", "--synthetic", "gpt-9", "--device", "cpu"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("qwen3-0.6b"));
    says(&kovar(&["bench", "--synthetic", "qwen3-0.6b", "--bits", "5", "--device", "cpu"]), &["5 bits"]);
}

#[test]
fn a_model_that_does_not_fit_says_by_how_much() {
    let model = shipped();
    let generate = ["generate", "--model", model.to_str().unwrap(), "--prompt", "A lifetime is", "--device", "cpu"];
    let line = line(&kovar(&[&generate[..], &["--memory", "2"]].concat()));
    assert!(line.contains("weights 7.6 MiB") && line.contains("does not fit: the device has 2.0 MiB left"), "{line}");
}
