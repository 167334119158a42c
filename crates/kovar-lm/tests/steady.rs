//! That ten thousand decoded tokens leave nothing behind. By itself, because it looks at the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::shipped;
use kovar::{Device, DeviceOptions};
use kovar_hal::faulty::{Faults, Faulty, Live};
use kovar_lm::{Decode, Model, Precision, Sampler, Sampling, Session, SessionOptions};

const STEPS: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
/// The memory of the process is looked at after each of so many parts.
const PARTS: usize = 4;

/// What the system counts for this process; `None` where there is no `/proc`.
fn resident() -> Option<usize> {
    let pages: usize = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, |list| list.count())
}

/// Decodes so many tokens in a text of at most 200, a part of them sampled by the host.
fn decode(session: &mut Session, steps: usize) {
    let mut random = Sampler::new(Sampling { temperature: 1.0, seed: 1, ..Sampling::default() }).unwrap();
    let (mut token, mut done) = (7, 0);
    while done < steps {
        if session.position() > 190 {
            session.truncate(3);
        }
        let chosen = match done % 5 {
            0 => vec![session.next_token(&[token], &mut random).unwrap()],
            _ => session.likeliest(token, 8).unwrap(),
        };
        token = chosen[chosen.len() - 1];
        done += chosen.len();
    }
}

/// What must not grow.
#[derive(Debug, PartialEq, Eq)]
struct State {
    live: Live,
    allocations: u64,
    kernels: u64,
    files: usize,
    threads: usize,
    /// Bytes of all buffers, and those of the pool: in use, free, at most.
    memory: u64,
    pool: [u64; 3],
    /// Buffers that entered and left the residency set, and flushes of it.
    residency: [u64; 3],
}

fn state(device: &Device, faults: &Faults) -> State {
    let (stats, pool) = (device.stats(), device.pool_stats());
    State {
        live: faults.live(),
        allocations: stats.allocations,
        kernels: stats.kernels_compiled,
        files: entries("/proc/self/fd"),
        threads: entries("/proc/self/task"),
        memory: device.memory_used(),
        pool: [pool.live, pool.free, pool.peak],
        residency: [stats.residency_added, stats.residency_removed, stats.residency_flushes],
    }
}

#[test]
fn ten_thousand_tokens_leave_nothing_behind() {
    for subject in kovar_testing::subjects("ten_thousand_tokens_leave_nothing_behind") {
        // A software GPU takes some tens of milliseconds a token.
        let steps = if subject.name == "cpu" { STEPS } else { STEPS / 20 };
        let name = subject.name.clone();
        let replay = Decode::Replay { tokens: 8 };
        // The last with memory that the host does not see, so that logits come through the staging ring.
        for (decode_mode, discrete) in [(Decode::Eager, false), (replay, false), (replay, true)] {
            let steps = if discrete { steps / 10 } else { steps };
            let (adapter, faults) =
                Faulty::new(kovar_hal::adapters_of(subject.adapter.info().backend).unwrap().remove(0));
            let options = DeviceOptions { discrete, ..DeviceOptions::default() };
            let device = Device::from_adapter(&adapter, &options).unwrap();
            let options = SessionOptions {
                precision: Precision::Fast,
                decode: decode_mode,
                chunk: 8,
                ..SessionOptions::default()
            };
            let mut session = Session::new(Arc::new(Model::load(&device, shipped()).unwrap()), &options).unwrap();
            // Drivers and allocators fill arenas of their own at first; then nothing more is taken.
            decode(&mut session, 700);
            let (before, staged) = (state(&device, &faults), device.stats().bytes_staged);
            let mut grown = Vec::new();
            for _ in 0..PARTS {
                let before = resident();
                decode(&mut session, steps / PARTS);
                if let (Some(before), Some(after)) = (before, resident()) {
                    grown.push(after.saturating_sub(before));
                }
            }
            assert_eq!(state(&device, &faults), before, "{name}, {decode_mode:?}");
            assert_eq!(device.stats().bytes_staged > staged, discrete, "{name}");
            // What a token leaves behind shows in every part; what a driver or an allocator still takes for itself does not.
            // 100 bytes a token would be 250 kB in a part of the CPU's.
            let least = grown.iter().min().copied().unwrap_or(0);
            assert!(least < 192 << 10, "{name}, {decode_mode:?}: {grown:?} bytes more in each part");
            drop((session, device));
            assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]), "{name}, {decode_mode:?}");
        }
    }
}
