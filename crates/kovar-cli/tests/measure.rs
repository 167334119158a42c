//! Commands that measure: what they print and write can be read by programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit");

fn kovar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kovar")).args(arguments).env_remove("KOVAR_DEVICE").output().unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(kovar(arguments))).unwrap()
}

#[test]
fn a_profile_accounts_for_its_step() {
    let report = json(&["profile", "--model", MODEL, "--device", "cpu", "--steps", "3", "--ctx", "64", "--json"]);
    let commands = report["commands"].as_array().unwrap();
    let total: f64 = commands.iter().map(|row| row["times"]["total"].as_f64().unwrap()).sum();
    let [buffer] = &report["command_buffers"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((buffer["whole"]["count"].as_u64(), buffer["split"]["count"].as_u64()), (Some(3), Some(3)));
    assert!((total / buffer["commands_of_split"]["total"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{report}");
    assert!(total <= buffer["split"]["total"].as_f64().unwrap());
    for row in commands {
        assert!(row["bytes_per_s"].as_f64().unwrap() > 0.0 && row["of_read_peak"].as_f64().unwrap() > 0.0, "{row}");
    }
    let calls: u64 = commands.iter().map(|row| row["calls"].as_u64().unwrap()).sum();
    // Five for each of eight layers; the embedding, the head, the choice of the token, the step to the next position.
    assert_eq!(calls, 3 * (5 * 8 + 4));
}

#[test]
fn a_profile_of_a_prompt_as_a_table_and_as_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["trace.json", "page.html"] {
        let path = folder.path().join(name);
        let arguments = ["profile", "--model", MODEL, "--device", "cpu", "--prompt", "20", "--steps", "1", "--out"];
        let table = text(kovar(&[&arguments[..], &[path.to_str().unwrap()]].concat()));
        assert!(table.starts_with("1 prompts of 20 tokens of ") && table.contains("attention_prompt"), "{table}");
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains("attention_prompt"), "{name}");
    }
    let trace = std::fs::read_to_string(folder.path().join("trace.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&trace).unwrap()["traceEvents"].is_array());
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("Roofline"));
}

#[test]
fn a_file_of_no_known_form_is_refused_before_anything_runs() {
    let path = Path::new("/tmp/profile.pdf");
    let output = kovar(&["profile", "--model", "/no/such/model", "--device", "cpu", "--out", path.to_str().unwrap()]);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(".json or .html") && !path.exists(), "{message}");
}

#[test]
fn peaks_and_single_kernels() {
    let peaks = json(&["bench", "peak", "--device", "cpu", "--rounds", "1", "--json"]);
    for name in ["read_bytes_per_s", "f32_operations_per_s", "dot_i8_operations_per_s"] {
        assert!(peaks[name]["best"].as_f64().unwrap() > 1e6, "{peaks}");
    }
    assert!(peaks["f16_tile_operations_per_s"].is_null());
    let arguments =
        ["bench", "ops", "--device", "cpu", "--rounds", "1", "--json", "--only", "4 bit [1024, 1024], 1 rows"];
    let report = json(&arguments);
    let [row] = &report["kernels"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!(row["operations"], 2 * 1024 * 1024);
    // 4 bits and two bf16 for each 64 of them; then x and y.
    assert_eq!(row["bytes"].as_u64(), Some(1024 * 1024 / 2 + 4 * 1024 * 1024 / 64 + 2 * 4096));
    for part in ["overlapped", "behind_barriers"] {
        assert!(row[part]["seconds"]["median"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn what_a_graph_saves() {
    let quick = ["--dispatches", "20", "--rounds", "1", "--prompt", "20", "--gen", "9", "--ctx", "10", "--json"];
    let report = json(&[&["bench", "graph", "--device", "cpu", "--model", MODEL], &quick[..]].concat());
    let chain = &report["chain"];
    assert_eq!((chain["dispatches"].as_u64(), chain["barriers"].as_u64()), (Some(20), Some(19)));
    for way in ["recorded", "recorded, first part early", "replayed"] {
        let part = |name: &str| chain["ways"][way][name]["median"].as_f64().unwrap();
        assert!(0.0 < part("host_us") && part("host_us") < part("total_us"), "{report}");
    }
    let graph = |what: &str, name: &str| report["model"]["graph"][what][name].as_u64().unwrap();
    for what in ["as recorded", "reordered", "fused", "fused and reordered"] {
        assert_eq!(graph(what, "groups"), graph(what, "barriers") + 1);
    }
    assert!(graph("fused", "commands") < graph("as recorded", "commands"), "{report}");
    assert!(graph("fused and reordered", "barriers") < graph("as recorded", "barriers"), "{report}");
    assert!(report["model"]["rules"]["head norm + rotary"].as_u64().unwrap() > 0, "{report}");
    for part in ["prompt", "decode"] {
        for way in report["model"][part]["ways"].as_object().unwrap().values() {
            assert!(way["tokens_per_s"]["median"].as_f64().unwrap() > 0.0, "{report}");
            assert!(way["host_us_per_token"]["median"].as_f64().unwrap() > 0.0, "{report}");
        }
    }
}

/// The null device runs nothing: what is left is the host.
#[test]
fn what_a_graph_saves_the_host() {
    let text = text(kovar(&["bench", "graph", "--device", "null", "--dispatches", "50", "--rounds", "2"]));
    assert!(text.contains("50 dependent dispatches, 49 barriers, 2 rounds") && text.contains("replayed"), "{text}");
    assert!(!text.contains("DECODE"), "no model was given: {text}");
}

#[test]
fn what_loading_takes() {
    let report = json(&["bench", "load", "--model", MODEL, "--device", "cpu", "--json"]);
    let seconds = |name: &str| report["seconds"][name].as_f64().unwrap();
    let parts = ["device", "load", "session", "first_token"].map(seconds);
    assert!((parts.iter().sum::<f64>() / seconds("to_first_token") - 1.0).abs() < 0.1, "{report}");
    // The file has a header beside its tensors, which the CPU uses where they lie.
    let bytes = |name: &str| report[name].as_u64().unwrap();
    assert!(bytes("file_bytes") > bytes("in_place_bytes") && bytes("in_place_bytes") > 7_000_000, "{report}");
    assert_eq!((bytes("copied_bytes"), report["tensors"]["copied"].as_u64()), (0, Some(0)));
    if cfg!(target_os = "linux") {
        let memory = |name: &str| report["anonymous_bytes"][name].as_u64().unwrap();
        assert!(0 < memory("before") && memory("before") < memory("peak"), "{report}");
    }
    let copied = json(&["bench", "load", "--model", MODEL, "--device", "cpu", "--copy-weights", "--json"]);
    let tensors = &report["tensors"]["all"];
    assert_eq!(
        (&copied["copied_bytes"], &copied["tensors"]["copied"]),
        (&report["in_place_bytes"], tensors),
        "{copied}"
    );
}

#[test]
fn a_model_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), "mine").unwrap();
    let path = folder.path().to_str().unwrap();
    let output = kovar(&["bench", "load", "--model", path, "--write", "qwen3-0.6b", "--device", "cpu"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("model.safetensors"));
    assert_eq!(std::fs::read_to_string(folder.path().join("model.safetensors")).unwrap(), "mine");
}
