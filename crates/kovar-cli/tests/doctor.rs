//! `kovar doctor`: one page, exit code 0 where everything works, else 1 with the checks that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/rustdoc-14m-mlx-4bit").canonicalize().unwrap()
}

/// Far from the repository: the model is all that is needed of it.
fn doctor(device: &str, model: &Path, more: &[&str]) -> Output {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kovar"));
    command.args(["doctor", "--device", device, "--model"]).arg(model).args(more);
    command.current_dir(elsewhere.path()).env_remove("KOVAR_DEVICE").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn passes(device: &str) {
    let output = doctor(device, &shipped(), &[]);
    let (page, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{page}{said}");
    assert!(page.starts_with("kovar doctor ") && page.ends_with("everything passed\n"), "{page}");
    assert!(page.contains(&format!("device {device}: ")) && !page.contains("FAILED"), "{page}");
    for (part, least) in [("backend", 40), ("operations", 40), ("shipped model", 1)] {
        let line = page.lines().find(|line| line.starts_with(part)).unwrap();
        let passed: usize = line[part.len()..].split_whitespace().next().unwrap().parse().unwrap();
        assert!(passed >= least, "{line}");
    }
    assert!(page.lines().count() < 60, "more than a page");
}

#[test]
fn the_cpu_passes() {
    passes("cpu");
}

#[test]
fn every_gpu_passes() {
    let subjects = kovar_testing::subjects("every_gpu_passes");
    for subject in subjects.iter().filter(|subject| subject.name != "cpu") {
        passes(&subject.name);
    }
}

#[test]
fn a_model_of_other_weights_fails_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(shipped()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let weights = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100_000].fill(0x11);
    fs::write(&weights, bytes).unwrap();
    let output = doctor("cpu", folder.path(), &["--only", "model"]);
    let (page, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{page}{said}");
    assert!(page.contains("shipped model  0 passed, 1 FAILED"), "{page}");
    assert!(page.contains("FAILED model::shipped_agrees_with_mlx after"), "{page}");
    assert!(page.contains("relative error"), "{page}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: model::shipped_agrees_with_mlx on cpu failed"), "{said}");
}

#[test]
fn a_missing_model_and_a_missing_device_are_said() {
    let output = doctor("cpu", Path::new("nowhere"), &["--only", "model"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("nowhere"), "{}", text(&output.stdout));
    let output = doctor("cpu:7", &shipped(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no device cpu:7"), "{}", text(&output.stderr));
}
