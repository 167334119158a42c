//! A profile of a decode step knows what the step has to read and compute, however it is fused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use kovar::profile::{Profiler, Run};
use kovar::{Backend, Device, DeviceOptions, OpKind, Timing};
use kovar_lm::{Config, Decode, Model, Precision, Session, SessionOptions, SyntheticWeights, shape};

const LAYERS: usize = 2;
const VOCAB: usize = 4096;
/// Where the step stands, in a cache with room for more.
const POSITION: usize = 1500;

fn session(backend: Backend, precision: Precision, decode: Decode) -> Session {
    let device = Device::open(&DeviceOptions::of(backend)).unwrap();
    let config = Config { layers: LAYERS, vocab: VOCAB, ..shape("qwen3-0.6b").unwrap() };
    let model = Arc::new(Model::synthetic(&device, &config, &SyntheticWeights::default()).unwrap());
    let options = SessionOptions { precision, decode, timing: Timing::Dispatches, ..SessionOptions::default() };
    let mut session = Session::new(model, &options).unwrap();
    session.skip(POSITION + 100).unwrap();
    session.truncate(POSITION);
    session
}

/// The submission of one token.
fn step(session: &mut Session) -> Run {
    let profiler = Profiler::attach(session.model().device()).unwrap();
    session.likeliest(1, 1).unwrap();
    let runs = profiler.take().unwrap().runs;
    runs.into_iter().find(|run| run.label == "decode").unwrap()
}

#[test]
fn a_step_reads_its_weights_and_its_cache_and_little_else() {
    // The null device fuses what a GPU does.
    for backend in [Backend::Cpu, Backend::Null] {
        for precision in [Precision::Exact, Precision::Fast] {
            for decode in [Decode::Eager, Decode::Replay { tokens: 1 }] {
                let what = format!("{backend} {precision:?} {decode:?}");
                let mut session = session(backend, precision, decode);
                let wanted = session.step_bytes(POSITION).total();
                let run = step(&mut session);
                let costs = || run.commands.iter().map(|command| command.cost);
                let bytes: u64 = costs().map(|cost| cost.bytes(Some(POSITION as u64)).unwrap()).sum();
                // Activations come on top.
                assert!((wanted..wanted + wanted / 20).contains(&bytes), "{what}: {bytes} bytes, of {wanted}");
                assert!(costs().any(|cost| cost.bytes(None).is_none()), "{what}: attention depends on the position");

                let products = run.commands.iter().filter(|command| command.kind == OpKind::MatVec);
                let operations: u64 = products.map(|command| command.cost.operations(None).unwrap()).sum();
                let Config { hidden, intermediate, heads, kv_heads, head_dim, .. } = *session.model().config();
                let attention = hidden * head_dim * (2 * heads + 2 * kv_heads);
                let elements = LAYERS * (attention + 3 * hidden * intermediate) + VOCAB * hidden;
                assert_eq!(operations, 2 * elements as u64, "{what}");
            }
        }
    }
}
