//! Builds small model folders, right and wrong ones.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot write its files must fail")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

pub const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit");

/// A folder that is removed when the test ends.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One with a config and one weights file.
    pub fn with(config: Value, tensors: &Tensors) -> Self {
        Self::new().write("config.json", config.to_string()).write("model.safetensors", tensors.file())
    }

    pub fn write(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The tensors of one safetensors file, laid out one after another.
#[derive(Default, Clone)]
pub struct Tensors {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Tensors {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(mut self, name: &str, dtype: &str, shape: &[usize], data: &[u8]) -> Self {
        let begin = self.data.len();
        self.data.extend(data);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, self.data.len()]});
        self.header.insert(name.into(), entry);
        self
    }

    /// A tensor of zeros.
    pub fn zeros(self, name: &str, dtype: &str, shape: &[usize]) -> Self {
        let size = match dtype {
            "F32" | "U32" => 4,
            "F16" | "BF16" => 2,
            _ => 1,
        };
        self.add(name, dtype, shape, &vec![0; size * shape.iter().product::<usize>()])
    }

    pub fn f32(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.add(name, "F32", shape, &bytes)
    }

    /// A quantised layer of zeros, `n` by `k`.
    pub fn affine(self, path: &str, n: usize, k: usize, bits: usize, group: usize) -> Self {
        self.zeros(&format!("{path}.weight"), "U32", &[n, k * bits / 32])
            .zeros(&format!("{path}.scales"), "BF16", &[n, k / group])
            .zeros(&format!("{path}.biases"), "BF16", &[n, k / group])
    }

    pub fn file(&self) -> Vec<u8> {
        file(&Value::Object(self.header.clone()).to_string(), &self.data)
    }
}

/// A safetensors file with this header text.
pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let length = header.len() as u64;
    [&length.to_le_bytes(), header.as_bytes(), data].concat()
}
