//! Forward passes of whole models, checked without a GPU: in shuffled orders and under the race detector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Golden, greedy, session, shipped, small_models};
use kovar::check::in_every_order;
use kovar::{Backend, CpuChecks, CpuSchedule, Device, DeviceOptions};
use kovar_lm::{LmError, Precision};

/// A prompt and some steps of decoding: the bytes of the logits and tokens.
fn text(device: &Device, model: &Path, steps: usize) -> Vec<u8> {
    let mut session = session(device, model, Precision::Fast);
    let tokens = greedy(&mut session, &[1, 2, 3, 4, 5, 6, 7], steps);
    let logits = session.eval_logits(&tokens[..1]).unwrap();
    let words = tokens.into_iter().chain(logits.into_iter().map(f32::to_bits));
    words.flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_hundred_orders_give_the_same_bytes() {
    let small = small_models();
    for model in &small {
        in_every_order(0..100, |device| Ok::<_, LmError>(text(device, model, 3))).unwrap();
    }
    in_every_order(0..100, |device| Ok::<_, LmError>(text(device, &shipped(), 2))).unwrap();
}

/// A race would end the submission with an error.
#[test]
fn no_model_has_a_race() {
    for schedule in [CpuSchedule::Parallel, CpuSchedule::Shuffled(1)] {
        let checks = CpuChecks { races: true };
        let device = Device::open(&DeviceOptions { checks, schedule, ..DeviceOptions::of(Backend::Cpu) }).unwrap();
        for model in small_models().into_iter().chain([shipped()]) {
            text(&device, &model, 4);
        }
        let golden = Golden::shipped(2);
        let tokens = greedy(&mut session(&device, &shipped(), Precision::Exact), &golden.tokens[..golden.prompt], 8);
        assert_eq!(tokens, golden.greedy[..8]);
    }
}
