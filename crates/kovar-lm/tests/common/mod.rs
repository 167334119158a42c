//! Golden models, and the devices to run them on.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use kovar::{Backend, Device, DeviceOptions};
#[allow(unused_imports)]
pub use kovar_checks::model::{Golden, greedy, session, worst_error};

/// The devices of this machine, under the vendor's validation where that is installed. Says what is missing, and fails if
/// `KOVAR_REQUIRE` names it.
pub fn devices(test: &str) -> Vec<Device> {
    kovar_testing::subjects(test).iter().map(kovar_checks::ops::open).collect()
}

pub fn cpu() -> Device {
    Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap()
}

/// A test is over: the vendor's validation must have had nothing to say.
pub fn assert_valid(device: &Device) {
    let messages = device.validation_messages();
    assert!(messages.is_empty(), "{device:?}: {}", messages.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn shipped() -> PathBuf {
    root().join("models/rustdoc-14m-mlx-4bit")
}

/// About 8,000 tokens of Rust documentation, of the kind that the shipped model has learnt: this project's own.
pub fn prose() -> PathBuf {
    root().join("tests/golden/rustdoc-14m/prose.md")
}

/// Folders of the small models, in order.
pub fn small_models() -> Vec<PathBuf> {
    let list = std::fs::read_dir(root().join("tests/golden/models")).unwrap();
    let mut models: Vec<PathBuf> = list.map(|entry| entry.unwrap().path()).collect();
    models.sort();
    models
}
