//! Loading a model: what is told of it, and what becomes of its bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../kovar-weights/tests/common/mod.rs"]
mod folders;

use common::{Golden, assert_valid, greedy, shipped};
use folders::{Folder, Tensors};
use kovar::{Backend, Device, DeviceOptions, Error, Placement};
use kovar_hal::faulty::{Call, Faulty};
use kovar_lm::{LmError, LoadProgress, Model, Precision, Session, SessionOptions};
use serde_json::json;

/// Every device of the machine, as it is and acting as one with memory of its own.
fn each(test: &str, check: impl Fn(&Device, bool)) {
    for subject in kovar_testing::subjects(test) {
        for discrete in [false, true] {
            let device = Some(subject.name.parse().unwrap());
            let options =
                DeviceOptions { device, validation: subject.validation, discrete, ..DeviceOptions::default() };
            let device = Device::open(&options).unwrap();
            check(&device, discrete);
            assert_valid(&device);
        }
    }
}

/// A model of one small layer with an embedding of 5 MiB. Its data begins at an odd byte, as MLX writes files.
fn large_embedding() -> Folder {
    const VOCAB: usize = 40_960;
    let config = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": VOCAB,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "max_position_embeddings": 64, "tie_word_embeddings": true,
    });
    let layer = |rest: &str| format!("model.layers.0.{rest}.weight");
    let mut tensors = Tensors::new().zeros("model.embed_tokens.weight", "BF16", &[VOCAB, 64]);
    for name in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"] {
        tensors = tensors.zeros(&layer(name), "BF16", &[64, 64]);
    }
    for (name, shape) in [("mlp.gate_proj", [128, 64]), ("mlp.up_proj", [128, 64]), ("mlp.down_proj", [64, 128])] {
        tensors = tensors.zeros(&layer(name), "BF16", &shape);
    }
    for name in [layer("input_layernorm"), layer("post_attention_layernorm"), "model.norm.weight".into()] {
        tensors = tensors.zeros(&name, "BF16", &[64]);
    }
    Folder::with(config, &tensors)
}

fn steps(device: &Device, folder: &std::path::Path) -> Vec<LoadProgress> {
    let mut steps = vec![LoadProgress::default()];
    let model = Model::load_with(device, folder, |progress| steps.push(progress)).unwrap();
    assert_eq!(Some(&model.loaded()), steps.last());
    steps
}

#[test]
fn progress_goes_up_to_the_total_and_has_steps_within_a_large_tensor() {
    let folder = large_embedding();
    each("progress_goes_up_to_the_total_and_has_steps_within_a_large_tensor", |device, discrete| {
        let before = device.stats();
        let steps = steps(device, folder.path());
        let (last, total) = (steps[steps.len() - 1], steps[1].total);
        assert!(steps.is_sorted_by_key(LoadProgress::done));
        assert!(steps[1..].iter().all(|step| step.total == total) && last.done() == total);
        let largest = steps.windows(2).map(|pair| pair[1].copied - pair[0].copied).max().unwrap();
        assert!(largest <= 4 << 20, "a step of {largest} bytes");
        let staged = (device.stats() - before).bytes_staged;
        if discrete {
            assert_eq!((last.imported, last.copied), (0, total));
            // Tables that are made while loading go the same way.
            assert!(staged >= total, "{staged} of {total}");
        } else {
            assert_eq!(staged, 0);
        }
    });
}

#[test]
fn a_model_in_memory_that_the_host_does_not_see_gives_the_same_tokens() {
    let golden = Golden::shipped(2);
    each("a_model_in_memory_that_the_host_does_not_see_gives_the_same_tokens", |device, _| {
        let model = std::sync::Arc::new(Model::load(device, shipped()).unwrap());
        let options = SessionOptions { precision: Precision::Exact, ..SessionOptions::default() };
        let mut session = Session::new(model, &options).unwrap();
        let tokens = greedy(&mut session, &golden.tokens[..golden.prompt], 12);
        assert_eq!(tokens, golden.greedy[..12]);
    });
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_anything_is_allocated() {
    let options = SessionOptions::default();
    let need = Model::memory_need(shipped(), &options).unwrap();
    let open = |limit| {
        let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
        let options = DeviceOptions { memory_limit: Some(limit), ..DeviceOptions::default() };
        (Device::from_adapter(&adapter, &options).unwrap(), faults)
    };
    let (device, faults) = open(need.total() - 1);
    match Model::load(&device, shipped()) {
        Err(LmError::Device(Error::DoesNotFit { need: told, excess, .. })) => assert_eq!((told, excess), (need, 1)),
        other => panic!("{other:?}"),
    }
    assert!(!faults.calls().iter().any(|call| matches!(call, Call::CreateBuffer | Call::ImportBuffer)));
    // What is beside: the tables that are made, tokens and positions, and rounding to whole words.
    let (device, _) = open(need.total() + (64 << 10));
    let model = std::sync::Arc::new(Model::load(&device, shipped()).unwrap());
    let _session = Session::new(model, &options).unwrap();
    assert!(device.memory_used() >= need.total(), "{} of {need:?}", device.memory_used());
}

/// The same folder with a header that ends so many bytes beyond a multiple of 256: spaces after it mean nothing.
fn header_of(folder: &Folder, beyond: usize) -> Folder {
    let file = std::fs::read(folder.join("model.safetensors")).unwrap();
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let end = (8 + header.len()).next_multiple_of(256) + beyond;
    let header = std::str::from_utf8(header).unwrap().to_owned() + &" ".repeat(end - 8 - header.len());
    let config = std::fs::read(folder.join("config.json")).unwrap();
    Folder::new().write("config.json", config).write("model.safetensors", folders::file(&header, data))
}

#[test]
fn where_each_tensor_ended_up_is_told_and_the_sum_of_it() {
    let folders = [0, 1, 2, 7].map(|beyond| (beyond, header_of(&large_embedding(), beyond)));
    each("where_each_tensor_ended_up_is_told_and_the_sum_of_it", |device, discrete| {
        for (beyond, folder) in &folders {
            let before = device.memory_used();
            let model = Model::load(device, folder.path()).unwrap();
            let sum = |placement| {
                let tensors = model.tensors().iter().filter(|tensor| tensor.placement == placement);
                tensors.map(|tensor| tensor.bytes).sum::<u64>()
            };
            let loaded = model.loaded();
            assert_eq!((sum(Placement::InPlace), sum(Placement::Copied)), (loaded.imported, loaded.copied));
            assert_eq!((model.tensors().len(), loaded.done()), (11, loaded.total));
            let anywhere = device.info().backend == Backend::Cpu;
            if device.info().features.host_import && !discrete && (anywhere || *beyond == 0) {
                assert_eq!(loaded.copied, 0, "{device:?}, {beyond}");
                // The file is there once, and what was made beside it is small.
                let file = std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
                assert!(device.memory_used() - before < file + (64 << 10));
            } else if discrete || device.info().limits.storage_alignment > 4 {
                assert_eq!(loaded.imported, 0, "{device:?}, {beyond}");
            }
        }
    });
}

/// The shipped model, its file begun at each place of a word.
#[test]
fn a_model_at_any_byte_gives_the_same_tokens_on_the_cpu() {
    let golden = Golden::shipped(2);
    let options = SessionOptions { precision: Precision::Exact, ..SessionOptions::default() };
    let shipped = Folder::new()
        .write("config.json", std::fs::read(shipped().join("config.json")).unwrap())
        .write("model.safetensors", std::fs::read(shipped().join("model.safetensors")).unwrap());
    for beyond in 0..4 {
        let device = common::cpu();
        let model = Model::load(&device, header_of(&shipped, beyond).path()).unwrap();
        assert_eq!(model.loaded().copied, 0, "{beyond}");
        let mut session = Session::new(model.into(), &options).unwrap();
        let tokens = greedy(&mut session, &golden.tokens[..golden.prompt], 12);
        assert_eq!(tokens, golden.greedy[..12], "{beyond}");
    }
}
