//! Golden models, and the devices to run them on.
#![allow(dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kovar::{Backend, Device, DeviceChoice, DeviceOptions};
use kovar_lm::{Model, Precision, Sampler, Sampling, Session, SessionOptions};
use safetensors::SafeTensors;

/// A device of each backend that this machine has, under the vendor's validation where that is installed. Says what is
/// missing, and fails if `KOVAR_REQUIRE` names it.
pub fn devices(test: &str) -> Vec<Device> {
    let required = std::env::var("KOVAR_REQUIRE").unwrap_or_default();
    let missing = |name: &str, reason: &dyn std::fmt::Display| {
        assert!(!required.split(',').any(|wanted| wanted == name), "{test}: {name} is required: {reason}");
        let _ = writeln!(std::io::stderr(), "skipped: {test}: no {name}: {reason}");
    };
    let mut devices = vec![Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap()];
    for backend in [Backend::Vulkan, Backend::Metal] {
        let plain = DeviceOptions::of(backend);
        let validated = Device::open(&DeviceOptions { validation: true, ..plain.clone() });
        match validated {
            Ok(device) => devices.push(device),
            Err(reason) => match Device::open(&plain) {
                Ok(device) => {
                    if backend == Backend::Vulkan {
                        missing("validation", &reason);
                    }
                    devices.push(device);
                }
                Err(reason) => missing(&DeviceChoice::first(backend).to_string(), &reason),
            },
        }
    }
    devices
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

/// What mlx-lm computed in f32.
pub struct Golden {
    pub text: Option<String>,
    pub greedy_text: Option<String>,
    pub tokens: Vec<u32>,
    /// [tokens, vocab]
    pub logits: Vec<f32>,
    /// What follows the first `prompt` tokens.
    pub greedy: Vec<u32>,
    pub prompt: usize,
}

impl Golden {
    pub fn shipped(prompt: usize) -> Golden {
        Golden::open(&root().join(format!("tests/golden/rustdoc-14m/prompt{prompt}.safetensors")))
    }

    pub fn small(model: &Path) -> Golden {
        Golden::open(&model.join("golden.safetensors"))
    }

    fn open(path: &Path) -> Golden {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> { file.tensor(name).unwrap().data().as_chunks().0.to_vec() };
        let integers = |name: &str| -> Vec<u32> { words(name).into_iter().map(u32::from_le_bytes).collect() };
        let tokens = integers("tokens");
        Golden {
            text: metadata.get("text").cloned(),
            greedy_text: metadata.get("greedy_text").cloned(),
            logits: words("logits").into_iter().map(f32::from_le_bytes).collect(),
            greedy: integers("greedy"),
            prompt: metadata.get("prompt_len").map_or(tokens.len(), |n| n.parse().unwrap()),
            tokens,
        }
    }
}

pub fn session(device: &Device, model: &Path, precision: Precision) -> Session {
    let model = Model::load(device, model).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    Session::new(Arc::new(model), &SessionOptions { precision, ..SessionOptions::default() }).unwrap()
}

pub fn greedy(session: &mut Session, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(Sampling::default()).unwrap();
    session.clear();
    let mut tokens: Vec<u32> = Vec::new();
    while tokens.len() < count {
        let next = match tokens.last() {
            None => session.next_token(prompt, &mut sampler).unwrap(),
            Some(last) => session.next_token(&[*last], &mut sampler).unwrap(),
        };
        tokens.push(next);
    }
    tokens
}

/// The largest distance of a row from its golden, relative to the golden's length (L2).
pub fn worst_error(got: &[f32], wanted: &[f32], vocab: usize) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let square = |x: f64| x * x;
    got.chunks_exact(vocab)
        .zip(wanted.chunks_exact(vocab))
        .map(|(got, wanted)| {
            let error: f64 = got.iter().zip(wanted).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
            let length: f64 = wanted.iter().map(|b| square(f64::from(*b))).sum();
            (error / length).sqrt()
        })
        .fold(0.0, |worst, error| if error.is_nan() { f64::INFINITY } else { f64::max(worst, error) })
}
