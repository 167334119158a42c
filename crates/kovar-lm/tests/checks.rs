//! Forward passes of whole models, checked without a GPU: in shuffled orders and under the race detector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../kovar/tests/common/mutation.rs"]
mod mutation;

use std::path::Path;

use common::{Golden, greedy, session, shipped, small_models};
use kovar::check::in_every_order;
use kovar::{Backend, CpuChecks, CpuSchedule, Device, DeviceOptions, ExecutableOptions, Graph};
use kovar_lm::{LmError, Precision};
use mutation::{Mutations, leave_out_each, serial};

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

/// The recorded and the fused step of a token, of every model.
fn steps_of_models(device: &Device) -> impl Iterator<Item = (String, Graph)> {
    small_models().into_iter().chain([shipped()]).flat_map(|model| {
        let session = session(device, &model, Precision::Exact);
        let name = |form| format!("{}, {form}", model.display());
        let (plain, fused) = (session.plain_decode_graph().unwrap(), session.decode_graph().unwrap());
        [(name("plain"), plain), (name("fused"), fused)]
    })
}

#[test]
fn every_barrier_of_a_decode_step_is_needed_and_missed_when_it_is_gone() {
    let device = Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap();
    for (model, graph) in steps_of_models(&device) {
        let (steps, name) = (graph.steps(), |r| graph.buffer_name(r));
        let placed = graph.schedule().groups.len() - 1;
        assert!(placed > 10, "{model}");
        assert_eq!(leave_out_each(&steps, name), Mutations { needed: placed, redundant: 0 }, "{model}");
        let serial = leave_out_each(&serial(&steps), name);
        assert_eq!(serial.needed + serial.redundant, steps.len() - 1, "{model}");
        assert!(serial.redundant > 0, "{model}");
        // And of what is submitted, over the memory that the scratch really shares, twice in a row.
        let executable = graph.compile(&ExecutableOptions { repeat: 2, ..ExecutableOptions::default() }).unwrap();
        let trace = executable.trace().unwrap();
        assert_eq!(leave_out_each(trace.steps(), |r| trace.buffer_name(r)).redundant, 0, "{model}");
    }
}

#[test]
fn scratch_of_a_decode_step_shares_memory_and_costs_no_group() {
    let device = Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap();
    for (model, graph) in steps_of_models(&device) {
        for repeat in [1, 8] {
            let compile = |share_memory| {
                let options = ExecutableOptions { share_memory, repeat, ..ExecutableOptions::default() };
                graph.clone().compile(&options).unwrap()
            };
            let (shared, apart) = (compile(true), compile(false));
            let plan = shared.plan();
            assert_eq!(shared.stats().barriers_placed, apart.stats().barriers_placed, "{model}");
            assert_eq!(apart.plan().size, apart.plan().sum, "{model}");
            assert!(plan.size * 10 <= plan.sum * 4, "{model}: {} of {} bytes", plan.size, plan.sum);
        }
    }
}
