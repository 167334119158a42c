//! Agreement with mlx-lm: logits at every position, and the tokens of a greedy path. `tools/golden` makes the goldens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Golden, assert_valid, devices, greedy, session, shipped, small_models};
use kovar::Device;
use kovar_checks::model::{compare, compare_logits, shipped_agrees};
use kovar_lm::{Precision, Session};

/// The same where products may round activations to 8 bits in blocks: 4 layers' worth of such rounding, each about 0.5 %.
const FAST: f64 = 8e-2;

fn on_each_device(test: &str, mut run: impl FnMut(&Device)) {
    for device in devices(test) {
        run(&device);
        assert_valid(&device);
    }
}

#[test]
fn the_shipped_model_agrees_with_mlx() {
    on_each_device("the_shipped_model_agrees_with_mlx", |device| {
        shipped_agrees(device, &shipped());
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

/// The part of the spread of logits that fast arithmetic may move one by, where sums have another order or matrix units take
/// f16.
const NEAR: f64 = 0.05;

/// The fast arithmetic is the same on every device but for the order of sums, and f16 on matrix units: devices choose the
/// same tokens until two are as good.
#[test]
fn fast_arithmetic_chooses_the_same_tokens_everywhere() {
    let prompts: Vec<_> = (0..3).map(Golden::shipped).collect();
    let paths = |session: &mut Session| {
        let path = |golden: &Golden| greedy(session, &golden.tokens[..golden.prompt], 64);
        prompts.iter().map(path).collect::<Vec<_>>()
    };
    let mut here = session(&common::cpu(), &shipped(), Precision::Fast);
    let wanted = paths(&mut here);
    on_each_device("fast_arithmetic_chooses_the_same_tokens_everywhere", |device| {
        let got = paths(&mut session(device, &shipped(), Precision::Fast));
        for (golden, (got, wanted)) in prompts.iter().zip(got.iter().zip(&wanted)) {
            let Some(at) = got.iter().zip(wanted).position(|(a, b)| a != b) else { continue };
            assert!(!device.info().features.cooperative_matrix.is_empty(), "{device:?} leaves the path at {at}");
            let read = [&golden.tokens[..golden.prompt], &wanted[..at]].concat();
            here.clear();
            let logits = here.eval_logits(&read).unwrap();
            let logits = &logits[logits.len() - here.model().config().vocab..];
            let mean = logits.iter().map(|x| f64::from(*x)).sum::<f64>() / logits.len() as f64;
            let spread = logits.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / logits.len() as f64;
            let gap = f64::from(logits[wanted[at] as usize] - logits[got[at] as usize]);
            println!("{device:?} leaves the path at {at}, by {:.4} of the spread", gap / spread.sqrt());
            assert!(gap <= NEAR * spread.sqrt(), "{device:?} at {at}: {gap} of {}", spread.sqrt());
        }
    });
}
