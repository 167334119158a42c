//! Agreement with mlx-lm: logits at every position, and the tokens of a greedy path. `tools/golden` makes the goldens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Golden, assert_valid, devices, greedy, session, shipped, small_models, worst_error};
use kovar::Device;
use kovar_lm::{Precision, Session};

/// Relative L2 error of the logits at any position, activations in f32. MLX itself is 2e-5 away from f64 arithmetic.
const EXACT: f64 = 2e-3;

/// The same where products may round activations to 8 bits in blocks: 4 layers' worth of such rounding, each about 0.5 %.
const FAST: f64 = 8e-2;

fn compare_logits(name: &str, session: &mut Session, golden: &Golden, limit: f64) {
    let device = session.model().device().info().backend;
    let vocab = session.model().config().vocab;
    session.clear();
    let logits = session.eval_logits(&golden.tokens).unwrap();
    let error = worst_error(&logits, &golden.logits, vocab);
    println!("{name} on {device}: relative error {error:.1e}");
    assert!(error <= limit, "{name} on {device}: relative error {error:.2e}, allowed {limit:.0e}");
}

fn compare(name: &str, session: &mut Session, golden: &Golden) {
    compare_logits(name, session, golden, EXACT);
    let tokens = greedy(session, &golden.tokens[..golden.prompt], golden.greedy.len());
    assert_eq!(tokens, golden.greedy, "{name} on {:?}", session.model().device());
}

fn on_each_device(test: &str, run: impl Fn(&Device)) {
    for device in devices(test) {
        run(&device);
        assert_valid(&device);
    }
}

#[test]
fn the_shipped_model_agrees_with_mlx() {
    on_each_device("the_shipped_model_agrees_with_mlx", |device| {
        let mut session = session(device, &shipped(), Precision::Exact);
        for prompt in 0..3 {
            let golden = Golden::shipped(prompt);
            let text = golden.text.as_deref().unwrap();
            let tokenizer = session.model().tokenizer().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), golden.tokens);
            assert_eq!(tokenizer.decode(&golden.greedy).unwrap(), golden.greedy_text.clone().unwrap());
            compare(&format!("prompt {prompt}"), &mut session, &golden);
        }
    });
}

#[test]
fn small_models_agree_with_mlx() {
    let models = small_models();
    assert_eq!(models.len(), 8);
    on_each_device("small_models_agree_with_mlx", |device| {
        for path in &models {
            let name = path.file_name().unwrap().to_string_lossy();
            compare(&name, &mut session(device, path, Precision::Exact), &Golden::small(path));
        }
    });
}

#[test]
fn fast_arithmetic_stays_close() {
    on_each_device("fast_arithmetic_stays_close", |device| {
        let mut shipped = session(device, &shipped(), Precision::Fast);
        for prompt in 0..3 {
            compare_logits(&format!("fast, prompt {prompt}"), &mut shipped, &Golden::shipped(prompt), FAST);
        }
        for path in small_models() {
            let name = path.file_name().unwrap().to_string_lossy();
            let mut session = session(device, &path, Precision::Fast);
            compare_logits(&format!("fast, {name}"), &mut session, &Golden::small(&path), FAST);
        }
    });
}

/// The fast arithmetic is the same on every device, but for the order of sums.
#[test]
fn fast_arithmetic_chooses_the_same_tokens_everywhere() {
    let prompts: Vec<_> = (0..3).map(|prompt| Golden::shipped(prompt)).collect();
    let paths = |device: &Device| {
        let mut session = session(device, &shipped(), Precision::Fast);
        let path = |golden: &Golden| greedy(&mut session, &golden.tokens[..golden.prompt], 64);
        prompts.iter().map(path).collect::<Vec<_>>()
    };
    let wanted = paths(&common::cpu());
    assert!(wanted.iter().all(|tokens| tokens.len() == 64));
    on_each_device("fast_arithmetic_chooses_the_same_tokens_everywhere", |device| {
        assert_eq!(paths(device), wanted, "{device:?}");
    });
}
