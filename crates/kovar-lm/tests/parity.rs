//! Agreement with mlx-lm: logits at every position, and the tokens of a greedy path. `tools/golden` makes the goldens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Golden, assert_valid, devices, session, shipped, small_models};
use kovar::Device;
use kovar_checks::model::{compare, compare_logits, shipped_agrees};
use kovar_lm::Precision;

/// The same where products may round activations to 8 bits in blocks: 4 layers' worth of such rounding, each about 0.5 %.
const FAST: f64 = 8e-2;

fn on_each_device(test: &str, run: impl Fn(&Device)) {
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
